"""G1, G3: the run state is noted when the machine is stopped, and is what everybody goes back to."""

from collections.abc import Callable

import pytest
from suite.machines import make_pair, statuses

from vfio_migration import DeviceState, Migration, MigrationFlags, MigrationStatus
from vmstate import Machine, RunState

S = DeviceState
NO_PRECOPY = MigrationFlags.STOP_COPY | MigrationFlags.P2P
CHANGES: dict[str, tuple[Callable[[Machine], object], RunState]] = {
    "paused": (lambda m: m.stop(), RunState.PAUSED),
    "shut down": (lambda m: m.guest_shutdown(), RunState.SHUTDOWN),
    "in an error": (lambda m: m.stop(RunState.IO_ERROR), RunState.IO_ERROR),
    "panicked": (lambda m: m.stop(RunState.GUEST_PANICKED), RunState.GUEST_PANICKED),
    "suspended": (lambda m: m.set_run_state(RunState.SUSPENDED), RunState.SUSPENDED),
    "in the debugger": (lambda m: m.stop(RunState.DEBUG), RunState.PAUSED),  # QEMU knows no way from inmigrate to debug
    "reset": (lambda m: m.reset(), RunState.RUNNING),
}
changes = pytest.mark.parametrize(("change", "state"), CHANGES.values(), ids=CHANGES)


def steering(change: Callable[[Machine], object], machine: Machine) -> Callable[[Migration, MigrationStatus], object]:
    return lambda migration, status: status is MigrationStatus.ACTIVE and change(machine)


@changes
def test_the_destination_gets_what_became_of_the_source_in_pre_copy(
    change: Callable[[Machine], object], state: RunState
) -> None:
    pair = make_pair(flags=NO_PRECOPY)
    report = pair.migrate(on_status=steering(change, pair.source.machine))
    assert report.completed
    assert report.destination_state is state


@changes
def test_the_source_goes_back_to_what_became_of_it_in_pre_copy(
    change: Callable[[Machine], object], state: RunState
) -> None:
    pair = make_pair(flags=NO_PRECOPY)
    pair.destination.mocks["vf0"].fail(S.STOP, S.RESUMING)
    report = pair.migrate(on_status=steering(change, pair.source.machine))
    assert report.status is MigrationStatus.FAILED
    assert report.source_state is (RunState.DEBUG if change is CHANGES["in the debugger"][0] else state)


def test_who_resumes_the_source_in_pre_copy_finds_it_running_on_the_destination() -> None:
    pair = make_pair(flags=NO_PRECOPY)
    pair.source.machine.stop()
    report = pair.migrate(on_status=steering(lambda machine: machine.start(), pair.source.machine))
    assert (report.noted_state, report.destination_state) == (RunState.RUNNING, RunState.RUNNING)


@pytest.mark.parametrize("end", ["fails", "cancelled"])
def test_a_source_that_was_paused_in_pre_copy_stays_so_when_the_switchover_does_not_happen(end: str) -> None:
    pair = make_pair()

    def steer(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.ACTIVE:
            pair.source.machine.stop()
        if status is MigrationStatus.PRE_SWITCHOVER:
            if end == "cancelled":
                migration.cancel()
            else:
                pair.source.mocks["vf0"].fail_read()
                migration.continue_()

    report = pair.migrate(pause_before_switchover=True, on_status=steer)
    assert str(report.status) == ("failed" if end == "fails" else end)
    assert report.source_state is RunState.PAUSED
    assert "RESUME" not in statuses(pair.source)
    assert set(pair.source.device_states.values()) == {S.RUNNING}


def test_a_guest_that_shuts_down_in_the_pause_stays_so() -> None:
    pair = make_pair()

    def steer(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.PRE_SWITCHOVER:
            pair.source.machine.set_run_state(RunState.SHUTDOWN)
            migration.cancel()

    report = pair.migrate(pause_before_switchover=True, on_status=steer)
    assert (report.noted_state, report.source_state) == (RunState.RUNNING, RunState.SHUTDOWN)
    assert "RESUME" not in statuses(pair.source)
