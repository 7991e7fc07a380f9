import logging

import pytest
from suite.machines import make_pair

from vfio_migration import DeviceState, MigrationStatus, Watchdog
from vfio_migration.testing import PairRig
from vmstate import RunState

S = DeviceState
SAVE = (S.PRE_COPY_P2P, S.STOP_COPY)


@pytest.mark.parametrize(
    ("warn", "give_up", "moments"),
    [
        (None, None, []),
        (None, 7.0, [(7.0, True)]),
        (1.0, 7.0, [(1.0, False), (2.0, False), (4.0, False), (7.0, True)]),
        (7.0, 7.0, [(7.0, True)]),
    ],
)
def test_warnings_come_at_growing_intervals_until_it_gives_up(
    warn: float | None, give_up: float | None, moments: list[tuple[float, bool]]
) -> None:
    assert list(Watchdog(warn, give_up).moments()) == moments


def test_without_giving_up_warnings_end_some_day() -> None:
    moments = [moment for moment, _ in Watchdog(1.0).moments()]
    assert moments[:3] == [1.0, 2.0, 4.0]
    assert moments[-1] < 8 * 24 * 3600


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e-12])
def test_times_that_are_none_are_refused(seconds: float) -> None:
    for options in ({"warn_after_s": seconds}, {"give_up_after_s": seconds}):
        with pytest.raises(ValueError, match="time"):
            Watchdog(**options)


def watched(threads: str, **options: float) -> PairRig:
    return make_pair(threads=threads, watchdog=Watchdog(**options))


def test_warnings_name_the_device_the_arc_and_how_long_it_has_been_at_it(
    caplog: pytest.LogCaptureFixture, threads: str
) -> None:
    pair = watched(threads, warn_after_s=1.0)
    pair.source.mocks["vf1"].stall(*SAVE, seconds=5.0)
    with caplog.at_level(logging.WARNING):
        assert pair.migrate().completed
    lines = [record.getMessage() for record in caplog.records if "takes long" in record.getMessage()]
    assert [line.rpartition("seconds=")[2] for line in lines] == ["1.0", "2.0", "4.0"]
    assert all("device=vf1" in line and "PRE_COPY_P2P -> STOP_COPY" in line for line in lines)


def test_a_change_that_is_given_up_costs_the_device_and_the_migration_but_not_the_machine(threads: str) -> None:
    pair = watched(threads, give_up_after_s=10.0)
    mock = pair.source.mocks["vf1"]
    mock.stall(*SAVE)
    with pair.clock.taking_part():
        report = pair.migrate()
        assert report.status is MigrationStatus.FAILED
        assert "PRE_COPY_P2P -> STOP_COPY, was given up after 10 s" in str(report.error)
        assert report.lost_devices == ("vf1",)
        assert pair.source.machine.run_state is RunState.RUNNING
        assert pair.source.device_states == {"vf0": S.RUNNING, "vf1": S.ERROR}
        # It comes back after all, and changes nothing.
        before = pair.recorder.events
        mock.release()
        pair.clock.sleep(1.0)
        assert pair.recorder.events == before
        assert pair.source.device_states == {"vf0": S.RUNNING, "vf1": S.ERROR}
    pair.remove_device("vf1")
    pair.add_device("vf1")
    assert pair.migrate().completed


def test_a_machine_goes_on_stopping_and_starting_without_a_device_that_was_given_up(threads: str) -> None:
    pair = watched(threads, give_up_after_s=10.0)
    pair.source.mocks["vf0"].stall(S.RUNNING_P2P, S.STOP)
    for _ in range(2):
        pair.source.machine.stop()
        pair.source.machine.start()
    assert pair.source.device_states == {"vf0": S.ERROR, "vf1": S.RUNNING}
    assert pair.source.mocks["vf1"].state is S.RUNNING
    pair.source.mocks["vf0"].release()


def test_a_change_that_ends_in_time_is_not_given_up(threads: str) -> None:
    pair = watched(threads, give_up_after_s=10.0)
    pair.source.mocks["vf1"].stall(*SAVE, seconds=9.0)
    assert pair.migrate().completed
