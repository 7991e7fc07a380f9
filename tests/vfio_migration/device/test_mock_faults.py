import errno
import threading

import pytest
from suite.machines import LIMIT, NO_PRECOPY, make_machine, make_pair

from vfio_migration import DataFault, DeviceState, Migration, MigrationFlags, MockDevice
from vfio_migration.device.mock_faults import Fault, FaultPlan
from vmstate import VirtualClock

S = DeviceState
ARC = (S.RUNNING, S.RUNNING_P2P)


def bound(mock: MockDevice) -> VirtualClock:
    clock = VirtualClock()
    mock.bind(clock)
    return clock


def outcomes(mock: MockDevice, times: int) -> list[bool]:
    """Go there and back; say each time whether that worked."""
    result = []
    for _ in range(times):
        try:
            mock.set_arc(ARC[1])
            mock.set_arc(ARC[0])
            result.append(True)
        except OSError:
            result.append(False)
    return result


def test_an_arc_fails_as_often_as_told_then_works() -> None:
    mock = MockDevice()
    mock.fail(*ARC, times=2)
    mock.fail(*ARC, errno=errno.ENODEV)
    codes = []
    for _ in range(3):
        with pytest.raises(OSError, match="RUNNING to RUNNING_P2P") as caught:
            mock.set_arc(ARC[1])
        codes.append(caught.value.errno)
    assert codes == [errno.EIO, errno.EIO, errno.ENODEV]
    assert outcomes(mock, 3) == [True] * 3


def test_chance_follows_from_the_seed() -> None:
    def once(seed: int) -> list[bool]:
        mock = MockDevice()
        mock.fail(*ARC, probability=0.5, seed=seed)
        return outcomes(mock, 60)

    assert once(1) == once(1) != once(2)
    assert {True, False} == set(once(1))
    mock = MockDevice()
    mock.fail(*ARC, probability=0.0)
    assert outcomes(mock, 10) == [True] * 10
    mock.fail(*ARC, probability=1.0)
    assert outcomes(mock, 10) == [False] * 10
    mock.heal()
    assert outcomes(mock, 1) == [True]


@pytest.mark.parametrize(("times", "probability"), [(0, None), (-1, None), (1, 1.5), (1, -0.1)])
def test_a_fault_that_makes_no_sense_is_refused(times: int, probability: float | None) -> None:
    with pytest.raises(ValueError, match=r"at least once|0\.\.1"):
        MockDevice().fail(*ARC, times=times, probability=probability)


def test_a_fault_of_what_is_no_arc_of_the_device_is_refused() -> None:
    bare = MockDevice(flags=MigrationFlags.STOP_COPY)
    for arrange in (bare.fail, bare.stall):
        with pytest.raises(ValueError, match="RUNNING_P2P"):
            arrange(*ARC)
    with pytest.raises(ValueError, match="a write takes all bytes"):
        bare.fail_write(DataFault.SHORT)


def test_failing_into_error_leaves_only_the_reset() -> None:
    mock = MockDevice()
    mock.fail(*ARC, into_error=True)
    with pytest.raises(OSError, match="Input/output"):
        mock.set_arc(ARC[1])
    states = [mock.state]
    with pytest.raises(OSError, match="only a reset"):
        mock.set_arc(S.STOP)
    mock.reset()
    states.append(mock.state)
    assert states == [S.ERROR, S.RUNNING]


def test_resets_fail_as_often_as_told() -> None:
    mock = MockDevice()
    mock.fail_reset(times=2, errno=errno.ENXIO)
    for _ in range(2):
        with pytest.raises(OSError, match="resetting"):
            mock.reset()
    mock.reset()


def test_a_stall_of_so_many_seconds_takes_them_on_top_of_the_latency() -> None:
    mock = MockDevice(latency=1.0)
    clock = bound(mock)
    mock.stall(*ARC, seconds=5.0)
    mock.set_arc(ARC[1])
    assert clock.now() == 6 * 10**9
    assert mock.state is ARC[1]


def test_a_device_that_stalls_until_it_is_released_goes_on_then() -> None:
    mock = MockDevice(latency=1.0)
    clock = bound(mock)
    mock.stall(*ARC)
    mock.release()  # nobody stalls yet: nothing happens
    with clock.taking_part():
        thread = clock.start_thread(lambda: mock.set_arc(ARC[1]), "driver")
        clock.sleep(10.0)
        assert mock.stalled
        assert mock.state is ARC[0]
        mock.release()
        assert clock.join(thread)
    assert not mock.stalled
    assert mock.state is ARC[1]
    assert clock.now() == 10 * 10**9


def test_an_arc_that_a_reset_has_overtaken_changes_nothing() -> None:
    mock = MockDevice()
    clock = bound(mock)
    mock.stall(*ARC)
    errors = []

    def drive() -> None:
        try:
            mock.set_arc(ARC[1])
        except OSError as error:
            errors.append(error.errno)

    with clock.taking_part():
        thread = clock.start_thread(drive, "driver")
        clock.sleep(1.0)
        mock.reset()
        mock.release()
        clock.join(thread)
    assert errors == [errno.ENODEV]
    assert mock.state is S.RUNNING


def test_a_device_that_stalls_holds_its_machine_up_until_somebody_outside_releases_it(threads: str) -> None:
    rig = make_machine(threads)
    rig.add_device("vf0", stall="RUNNING -> RUNNING_P2P")
    machine, mock = rig.machine, rig.mocks["vf0"]
    stalled = threading.Event()
    machine.monitor.subscribe(lambda event: stalled.set())

    def outside() -> None:
        assert stalled.wait(LIMIT)
        while not mock.stalled:  # it has been told to start, and will get there
            threading.Event().wait(0.001)
        mock.release()

    thread = threading.Thread(target=outside)
    thread.start()
    machine.start()
    thread.join(LIMIT)
    assert mock.state is S.RUNNING


def test_all_faults_of_one_device_are_met_once_each() -> None:
    plan = FaultPlan()
    plan.arrange("x", Fault(1))
    plan.arrange("x", Fault(2, times=2))
    plan.arrange("y", Fault(3))
    assert [fault and fault.errno for fault in (plan.meet("x") for _ in range(4))] == [1, 2, 2, None]
    plan.clear()
    assert plan.meet("y") is None


@pytest.mark.parametrize("until", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_a_migration_is_cancelled_at_any_moment_from_another_thread(until: float, threads: str) -> None:
    pair = make_pair(latency=0.03, threads=threads)
    with pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine)
        migration.start()
        pair.clock.sleep(until)
        cancelled = migration.cancel()
        report = migration.wait()
    assert report.status == ("cancelled" if cancelled else "completed")
    assert pair.migrate(back=report.completed).completed


def test_a_device_whose_only_write_was_lost_knows_that_its_state_is_incomplete() -> None:
    # Found by the soak: the source's reads end too early, and the one write that comes is lost.
    pair = make_pair(("vf0",), flags=NO_PRECOPY)
    pair.source.mocks["vf0"].fail_read(DataFault.CUT)
    pair.destination.mocks["vf0"].fail_write(DataFault.CUT)
    report = pair.migrate()
    assert report.status == "failed"
    assert "incomplete" in str(report.error)
