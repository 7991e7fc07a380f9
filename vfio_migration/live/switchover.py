"""The source's part of the switchover: the machine stops, its devices' states are saved, and the end is sent."""

from vfio_migration.errors import MigrationFailedError
from vfio_migration.live.channel_pool import ChannelPool
from vfio_migration.live.control import Control
from vfio_migration.live.save_threads import SaveThreads
from vfio_migration.live.sections import write_section
from vfio_migration.live.status import MigrationStatus
from vfio_migration.live.stream import NotedState, StreamWriter
from vmstate import Machine, RunState


class Switchover:
    """
    From the stop to the end of the stream (QEMU's `migration_switchover_start`, `qemu_savevm_state_complete_precopy`).

    All of it is done under the machine's big lock, but for the pause before the switchover, so that whoever steers the
    machine waits. `noted` is the run state that the machine had when it was stopped, None if it was not; times are of
    the machine's clock, None if not reached. Lives in the source's thread.
    """

    def __init__(
        self, machine: Machine, writer: StreamWriter, control: Control, pool: ChannelPool | None, *, pause: bool
    ) -> None:
        self._machine = machine
        self._writer = writer
        self._pool = pool
        self._control = control
        self._pause = pause
        self.noted: NotedState | None = None
        self.stop_told_ns: int | None = None
        self.saving_ns: int | None = None
        self.sent_ns: int | None = None
        self.downtime_end_ns: int | None = None
        self.states_saved = False

    def carry_out(self, *, confirmed: bool) -> None:
        """
        Stop the machine, save it and send the end; `confirmed`: there is no way back from that but a failure.

        Raises:
            MigrationCancelledError: somebody has cancelled.
            MigrationFailedError: a handler's result said no, or a device failed.
            BaseException: whatever else went wrong, of handlers, devices or the connection.

        """
        with self._machine.big_lock:
            self._stop()
            if self._pause:
                self._wait_for_continue()
            self._control.advance(MigrationStatus.DEVICE)
            self.saving_ns = self._machine.clock.now()
            self._save()
            if confirmed:
                with self._control.committing():
                    self._writer.end()
            else:
                self._writer.end()
            self.sent_ns = self._machine.clock.now()
            if not self._control.parameters.return_path:
                self.end_downtime()

    def end_downtime(self) -> None:
        """Note that the source's downtime is over: all is sent, or with a return path the destination has answered."""
        self.downtime_end_ns = self._machine.clock.now()
        self._checkpoint("src-downtime-end")

    def _stop(self) -> None:
        machine = self._machine
        self._control.check()
        self._checkpoint("src-downtime-start")
        self.stop_told_ns = machine.clock.now()
        # Noted now and not at the set-up: who was paused, resumed or shut down since then is that on the other side.
        self.noted = NotedState(machine.run_state, machine.was_suspended)
        result = machine.force_stop(RunState.FINISH_MIGRATE)
        self._checkpoint("src-vm-stopped")
        machine.emit("migration_completion_vm_stop", ret=result)
        if result < 0:
            raise MigrationFailedError(f"a handler refused to stop: the machine's stop returned {result}")

    def _wait_for_continue(self) -> None:
        """Let go of the big lock until somebody continues or cancels; a device's error does not skip that."""
        self._control.advance(MigrationStatus.PRE_SWITCHOVER)
        self._machine.big_lock.release()
        try:
            self._control.wait_for_continue()
        finally:
            self._machine.big_lock.acquire()

    def _save(self) -> None:
        if self._control.error is not None:
            raise self._control.error
        migratables = self._machine.migratables
        for migratable in migratables:
            getattr(migratable, "begin_saving", _nothing)()
        with SaveThreads(self._machine, self._writer, self._pool, self._control):
            for index, migratable in enumerate(migratables):
                self._control.check()
                if not getattr(migratable, "state_only", False):
                    write_section(self._machine, self._writer, index, migratable, migratable.save_complete)
        self._checkpoint("src-iterable-saved")
        self.states_saved = True
        for index, migratable in enumerate(migratables):
            write_section(self._machine, self._writer, index, migratable, migratable.save_state)
        self._checkpoint("src-non-iterable-saved")
        if self.noted is not None:
            self._writer.run_state(self.noted)

    def _checkpoint(self, name: str) -> None:
        self._machine.emit("vmstate_downtime_checkpoint", checkpoint=name)


def _nothing() -> None:
    """Stand for what a migratable does not have."""
