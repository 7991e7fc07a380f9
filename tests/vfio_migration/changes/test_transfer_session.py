"""S8: a device that is reset, or stopped and started, in pre-copy fails the migration: its state is no longer good."""

import errno
import itertools
from collections.abc import Callable

import pytest
from suite.machines import make_pair

from vfio_migration import ALL_FLAGS, DataFault, DeviceState, Migration, MigrationFlags, MigrationStatus
from vfio_migration.changes.transfer_session import TransferSession
from vfio_migration.testing import PairRig
from vmstate import RunState

S = DeviceState
NO_P2P = MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY


def walked(*states: DeviceState) -> TransferSession:
    session = TransferSession("vf0")
    for current, target in itertools.pairwise(states):
        session.follow(current, target)
    return session


def test_a_session_lives_through_the_saving_states() -> None:
    session = walked(S.RUNNING, S.PRE_COPY)
    session.keep()
    session.check()
    session.follow(S.PRE_COPY, S.PRE_COPY_P2P)
    session.follow(S.PRE_COPY_P2P, S.STOP_COPY)
    session.keep()
    session.check()


@pytest.mark.parametrize("end", [lambda s: s.end(), lambda s: s.follow(S.PRE_COPY, S.RUNNING)], ids=["reset", "left"])
def test_a_read_of_a_session_that_has_ended_is_enodev(end: Callable[[TransferSession], object]) -> None:
    session = walked(S.RUNNING, S.PRE_COPY)
    session.keep()
    end(session)
    with pytest.raises(OSError, match="'vf0' has ended") as caught:
        session.check()
    assert caught.value.errno == errno.ENODEV


def test_another_session_while_the_first_was_never_closed_is_ebadf() -> None:
    session = walked(S.RUNNING, S.PRE_COPY)
    session.keep()
    for current, target in ((S.PRE_COPY, S.RUNNING), (S.RUNNING_P2P, S.STOP), (S.STOP, S.STOP_COPY)):
        session.follow(current, target)
    with pytest.raises(OSError, match="data_fd out of sync") as caught:
        session.keep()
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="has ended"):
        session.check()
    session.close()
    session.follow(S.STOP, S.RESUMING)
    session.keep()
    session.check()


def stop_and_start(pair: PairRig) -> None:
    pair.source.machine.stop()
    pair.source.machine.start()


RESETS: dict[str, Callable[[PairRig], object]] = {
    "the device": lambda pair: pair.source.mocks["vf0"].reset(),
    "the machine": lambda pair: pair.source.machine.reset(),
    "stopped and started": stop_and_start,
}


@pytest.mark.parametrize("flags", [ALL_FLAGS, NO_P2P], ids=["all", "no p2p"])
@pytest.mark.parametrize("what", RESETS)
def test_a_device_that_loses_its_session_in_pre_copy_fails_the_migration(
    what: str, flags: MigrationFlags, threads: str
) -> None:
    pair = make_pair(("vf0",), flags=flags, threads=threads)
    steer = lambda migration, status: status is MigrationStatus.ACTIVE and RESETS[what](pair)  # noqa: E731
    report = pair.migrate(on_status=steer)
    assert (report.status, report.source_state) == (MigrationStatus.FAILED, RunState.RUNNING)
    assert "'vf0'" in str(report.error)
    assert report.destination_state is RunState.INMIGRATE
    assert pair.migrate().completed


def test_a_reset_while_the_machine_is_paused_is_found_when_the_device_is_saved() -> None:
    pair = make_pair(("vf0",))

    def steer(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.PRE_SWITCHOVER:
            pair.source.machine.reset()
            migration.continue_()

    report = pair.migrate(pause_before_switchover=True, on_status=steer)
    assert (report.status, report.source_state) == (MigrationStatus.FAILED, RunState.RUNNING)
    assert "has ended" in str(report.error)


def test_a_fault_of_reading_reaches_pre_copy() -> None:
    pair = make_pair(("vf0",))
    pair.source.mocks["vf0"].fail_read(DataFault.ERROR)
    report = pair.migrate()
    assert report.status is MigrationStatus.FAILED
    assert report.noted_state is None  # the machine was never stopped
    assert "pre-copy" in str(report.error)
