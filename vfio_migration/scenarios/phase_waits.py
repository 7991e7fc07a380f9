"""
The phases of a scenario as a machine goes through them: waits at their places in the stop, the transfer and the start.

They are an ordinary handler at each end of the order, and something that migrates before all devices; so the migration
itself knows nothing of them. Only a switchover waits for them, not the stops and starts of a machine that stays.
"""

from vfio_migration.live import Phases
from vmstate import LoadStream, Machine, MigrationEvent, RunState, SaveStream, device_priority

_FIRST = -(2**31)  # before every handler when starting, after it when stopping
_MAX_ADJUST = 32767


def add_phases(machine: Machine, phases: Phases, deepest: int, *, destination: bool) -> None:
    """Have a machine whose devices lie no deeper than `deepest` wait for these phases."""
    if phases == Phases():
        return

    def pause(running: bool, state: RunState) -> None:
        if state is RunState.FINISH_MIGRATE:
            _wait(machine, "pause_vcpus", phases.pause_vcpus_s)

    def flush(running: bool, state: RunState) -> None:
        if state is RunState.FINISH_MIGRATE:
            _wait(machine, "flush_block", phases.flush_block_s)

    def begin(running: bool, state: RunState) -> None:
        if running:
            _wait(machine, "load_state", phases.load_state_s)
            _wait(machine, "activate_block", phases.activate_block_s)

    if destination:
        machine.handlers.add(prepare_cb=begin, priority=_FIRST, name="load and activate")
    else:
        machine.handlers.add(prepare_cb=pause, priority=device_priority(deepest + 1, _MAX_ADJUST), name="pause_vcpus")
        machine.handlers.add(flush, priority=_FIRST, name="flush_block")
    machine.register(_OtherState(machine, phases))


def _wait(machine: Machine, name: str, seconds: float) -> None:
    if not seconds:
        return
    machine.emit("migration_phase_begin", name=name)
    machine.clock.sleep(seconds)
    machine.emit("migration_phase_end", name=name)


class _OtherState:
    """What migrates beside the VFIO devices: nothing but the time that it takes."""

    id = "other state"

    def __init__(self, machine: Machine, phases: Phases) -> None:
        self._machine = machine
        self._phases = phases

    def save_setup(self, stream: SaveStream) -> None:
        """Send nothing."""

    def pending(self) -> int:
        """Have nothing to send before the stop."""
        return 0

    def pending_exact(self) -> int:
        """Have nothing to send that counts."""
        return 0

    def save_iterate(self, stream: SaveStream) -> int:
        """Send nothing."""
        return 0

    def begin_saving(self) -> None:
        """Ask all devices for the last time."""
        _wait(self._machine, "final_query", self._phases.final_query_s)

    def save_complete(self, stream: SaveStream) -> None:
        """Have nothing to send that counts."""

    def save_state(self, stream: SaveStream) -> None:
        """Send what is only sent once."""
        _wait(self._machine, "other_state", self._phases.other_state_s)

    def save_cleanup(self) -> None:
        """Keep nothing."""

    def load_setup(self) -> None:
        """Need nothing."""

    def load(self, stream: LoadStream) -> None:
        """Read nothing."""

    def load_complete(self) -> None:
        """Miss nothing."""

    def load_cleanup(self) -> None:
        """Keep nothing."""

    def notify(self, event: MigrationEvent) -> None:
        """Do nothing."""

    def reset(self) -> None:
        """Have nothing to reset."""
