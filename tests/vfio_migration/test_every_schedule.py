"""
The mechanism in every schedule of its threads: exhaustive for two devices where that is finite, `pct` beyond.

What is called right is said in rules H4 to H7, G3, G6 and S7; the schedules themselves are rules X1 to X4.
"""

from collections.abc import Callable
from typing import Any

import pytest
from suite.machines import NO_PRECOPY

import vfio_migration.changes.device_thread
import vfio_migration.changes.launch_and_join
import vfio_migration.changes.launchers.parked
import vfio_migration.changes.multifd
import vfio_migration.changes.packets
import vfio_migration.live.channel_pool
import vfio_migration.live.control
import vfio_migration.live.incoming_channels
import vfio_migration.live.save_threads
import vfio_migration.live.source
from vfio_migration import DataFault, DeviceState, MigrationParameters, MigrationStatus, Watchdog
from vfio_migration.errors import VFIOMigrationError
from vfio_migration.live import Migration
from vfio_migration.testing import Invariants, MachineRig, PairRig, assert_order, our_threads
from vmstate import RunState, VirtualClock
from vmstate.exploring import explore

Test = Callable[[VirtualClock], None]
LAUNCHERS = ("per-change", "parked")


def bracket(threads: str, *, latency: float = 0.0, depths: tuple[int, int] = (1, 1), back: bool = False) -> Test:
    """Two devices and an ordinary handler, stopped, and started again."""

    def test(clock: VirtualClock) -> None:
        inside: list[str] = []
        with MachineRig(clock=clock, threads=threads) as rig:
            for number, depth in enumerate(depths):
                rig.add_device(f"vf{number}", depth=depth, latency=latency)
            rig.add_handler("disk", lambda running, state: inside.append("disk"), depth=1, seconds=latency)
            rig.machine.stop()
            assert set(rig.device_states.values()) == {DeviceState.STOP}
            for name in rig.devices:
                assert_order(rig.recorder, f"{name}: RUNNING -> RUNNING_P2P", f"{name}: RUNNING_P2P -> STOP")
            if depths[0] != depths[1]:
                assert_order(rig.recorder, "vf1: RUNNING_P2P -> STOP", "vf0: RUNNING_P2P -> STOP")
                assert_order(rig.recorder, "vf1: RUNNING_P2P -> STOP", "disk: main")
            if back:
                rig.machine.start()
                assert set(rig.device_states.values()) == {DeviceState.RUNNING}
            assert inside == ["disk"] * (1 + back)
        assert our_threads() == []

    return test


@pytest.mark.parametrize("timing", ["exact", pytest.param("any", marks=pytest.mark.slow)])
@pytest.mark.parametrize("latency", [0.0, 0.01])
@pytest.mark.parametrize("depths", [(1, 1), (1, 2)])
def test_a_bracket_holds_in_all_schedules(depths: tuple[int, int], latency: float, timing: str) -> None:
    exploration = explore(bracket("per-change", latency=latency, depths=depths), policy="exhaustive", timing=timing)
    exploration.check()
    assert exploration.complete


@pytest.mark.slow
def test_a_bracket_of_parked_threads_holds_in_all_schedules() -> None:
    exploration = explore(bracket("parked"), policy="exhaustive")
    exploration.check()
    assert exploration.complete


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "back", "latency", "timing"),
    [
        ("parked", False, 0.01, "exact"),
        ("parked", False, 0.01, "any"),
        ("parked", True, 0.0, "exact"),
        ("per-change", True, 0.01, "exact"),
    ],
)
def test_a_bracket_there_and_back_holds_in_all_schedules(
    threads: str, latency: float, timing: str, *, back: bool
) -> None:
    test = bracket(threads, latency=latency, back=back)
    exploration = explore(test, policy="exhaustive", timing=timing, schedules=2500)
    exploration.check()
    assert exploration.complete or exploration.schedules == 2500


@pytest.mark.slow
@pytest.mark.parametrize("threads", LAUNCHERS)
@pytest.mark.parametrize("policy", ["pct", "random"])
def test_launch_and_join_hold_between_any_two_of_their_lines(policy: str, threads: str) -> None:
    preempt = (
        vfio_migration.changes.launch_and_join,
        vfio_migration.changes.device_thread,
        vfio_migration.changes.launchers,
    )
    explore(bracket(threads, latency=0.01, back=True), policy=policy, schedules=60, preempt=preempt).check()


# The watchdog, and a device that comes back just when it is given up


def watched(threads: str, stall_s: float, give_up_s: float) -> Test:
    """A device whose change takes as long as its join waits for it, or nearly so."""

    def test(clock: VirtualClock) -> None:
        with MachineRig(clock=clock, threads=threads) as rig:
            for name in ("vf0", "vf1"):
                rig.add_device(name, watchdog=Watchdog(warn_after_s=give_up_s / 4, give_up_after_s=give_up_s))
            rig.mocks["vf0"].stall(DeviceState.RUNNING_P2P, DeviceState.STOP, seconds=stall_s)
            raised = None
            try:
                rig.machine.stop()
            except* VFIOMigrationError as group:
                raised = group
            lost = rig.devices["vf0"].device_state is DeviceState.ERROR
            assert rig.machine.run_state is RunState.PAUSED
            assert rig.device_states["vf1"] is DeviceState.STOP
            assert rig.device_states["vf0"] is (DeviceState.ERROR if lost else DeviceState.STOP)
            assert lost or raised is None
            clock.sleep(3600.0)  # whatever comes back late counts for nothing
            assert (rig.devices["vf0"].device_state is DeviceState.ERROR) == lost
            if lost:
                rig.remove_device("vf0")
            rig.machine.start()
            assert set(rig.device_states.values()) == {DeviceState.RUNNING}
        assert our_threads() == []

    return test


@pytest.mark.parametrize("threads", LAUNCHERS)
@pytest.mark.parametrize("timing", [pytest.param("exact", marks=pytest.mark.slow), "any"])
@pytest.mark.parametrize("policy", ["pct", pytest.param("random", marks=pytest.mark.slow)])
def test_a_device_that_comes_back_when_it_is_given_up_is_lost_or_not_and_stays_so(
    policy: str, timing: str, threads: str
) -> None:
    explore(watched(threads, 4.0, 4.0), policy=policy, timing=timing, schedules=60).check()


@pytest.mark.slow
@pytest.mark.parametrize("threads", LAUNCHERS)
def test_give_up_against_come_back_between_any_two_lines(threads: str) -> None:
    preempt = (vfio_migration.changes.device_thread, vfio_migration.changes.launchers.parked)
    for policy in ("pct", "random"):
        explore(watched(threads, 4.0, 4.0), policy=policy, schedules=200, preempt=preempt).check()


# Cancelling


def cancelled(threads: str, after_s: float, met: set[str], **options: Any) -> Test:
    """A migration that somebody cancels, before its commitment or after it, or just then; how it ends goes to `met`."""

    def test(clock: VirtualClock) -> None:
        with PairRig(clock=clock, threads=threads) as pair:
            for name in ("vf0", "vf1"):
                pair.add_device(name, latency=0.01, state_size=256)
            invariants = Invariants(pair.source.machine, pair.destination.machine)
            migration = Migration(pair.source.machine, pair.destination.machine, **options)
            taken: list[bool] = []

            def steer() -> None:
                clock.sleep(after_s)
                taken.append(migration.cancel())

            migration.start()
            thread = clock.start_thread(steer, "steer")
            report = migration.wait()
            clock.join(thread)
            invariants.check(report)
            assert report.status in (MigrationStatus.COMPLETED, MigrationStatus.CANCELLED)
            assert taken[0] or report.completed
            runs = [rig.machine.run_state.live for rig in (pair.source, pair.destination)]
            assert sum(runs) == 1
            assert runs[report.completed]
            met.add(str(report.status))

    return test


# When the two devices are in pre-copy, when the machine begins to stop, when it is stopped and its devices are saved
# (which ends with the commitment), and when the destination runs.
MOMENTS = {"active": 0.02, "stop": 0.06, "commitment": 0.08, "end": 0.11}


@pytest.mark.parametrize("timing", ["exact", pytest.param("any", marks=pytest.mark.slow)])
@pytest.mark.parametrize("policy", ["pct", pytest.param("random", marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cancel_at_any_moment_leaves_one_side_running(moment: str, policy: str, timing: str) -> None:
    met: set[str] = set()
    test = cancelled("per-change", MOMENTS[moment], met)
    explore(test, policy=policy, timing=timing, schedules=40).check()
    if (moment, timing) == ("commitment", "any"):  # both what came in time and what came too late was tried
        assert met == {"completed", "cancelled"}


@pytest.mark.slow
@pytest.mark.parametrize("threads", LAUNCHERS)
@pytest.mark.parametrize("policy", ["pct", "random"])
@pytest.mark.parametrize("moment", ["stop", "commitment", "end"])
def test_a_cancel_between_any_two_lines_leaves_one_side_running(moment: str, policy: str, threads: str) -> None:
    preempt = (vfio_migration.live.control, vfio_migration.live.source)
    for timing in ("exact", "any"):
        test = cancelled(threads, MOMENTS[moment], set())
        explore(test, policy=policy, timing=timing, schedules=60, preempt=preempt).check()


# Migrations with faults


def failing(threads: str, **faults: Any) -> Test:
    """A migration in which a device fails, and the one after it."""

    def test(clock: VirtualClock) -> None:
        with PairRig(clock=clock, threads=threads) as pair:
            pair.add_device("vf0", latency=0.01, **faults)
            pair.add_device("vf1", latency=0.01)
            report = pair.migrate()
            assert not report.completed
            assert pair.source.machine.run_state is RunState.RUNNING
            assert pair.migrate().completed

    return test


@pytest.mark.slow
@pytest.mark.parametrize("threads", LAUNCHERS)
@pytest.mark.parametrize(
    "fault", ["PRE_COPY -> PRE_COPY_P2P", "PRE_COPY_P2P -> STOP_COPY", "RESUMING -> STOP", "RUNNING_P2P -> RUNNING"]
)
def test_a_device_that_fails_leaves_the_source_running_in_any_order(fault: str, threads: str) -> None:
    explore(failing(threads, fail=fault), policy="random", timing="any", schedules=30).check()


# Devices that are saved and loaded side by side


def our_multifd(clock: VirtualClock, threads: str) -> tuple[PairRig, MigrationParameters]:
    pair = PairRig(clock=clock, threads=threads)
    for number in range(3):
        pair.add_device(
            f"vf{number}", latency=0.01, state_size=256, flags=NO_PRECOPY, rate=25_600.0, write_rate=25_600.0
        )
    return pair, MigrationParameters(multifd_channels=2)


def side_by_side(threads: str, fault: str, met: set[str], cancel_after_s: float | None = None) -> Test:
    """A migration over two channels in which a device may fail, and somebody may cancel; then another."""

    def test(clock: VirtualClock) -> None:
        pair, parameters = our_multifd(clock, threads)
        with pair:
            arrange(pair, fault)
            invariants = Invariants(pair.source.machine, pair.destination.machine)
            migration = Migration(pair.source.machine, pair.destination.machine, parameters=parameters)
            migration.start()
            if cancel_after_s is not None:
                clock.sleep(cancel_after_s)
                migration.cancel()
            report = migration.wait()
            invariants.check(report)
            runs = [rig.machine.run_state.live for rig in (pair.source, pair.destination)]
            assert sum(runs) == 1
            assert runs[report.completed]
            if fault:
                assert not report.completed
                assert set(pair.source.device_states.values()) == {DeviceState.RUNNING}
            if report.completed:
                assert pair.source.state_hashes == pair.destination.state_hashes
            else:
                assert pair.migrate(parameters=parameters).completed
            met.add(str(report.status))
        assert our_threads() == []

    return test


def arrange(pair: PairRig, fault: str) -> None:
    source, destination = pair.source.mocks["vf1"], pair.destination.mocks["vf1"]
    match fault:
        case "arc":
            source.fail(DeviceState.STOP, DeviceState.STOP_COPY)
        case "read":
            source.fail_read()
        case "write":
            destination.fail_write()
        case "lost write":
            destination.fail_write(DataFault.CUT)


FAULTS = ["", "arc", "read", "write", "lost write"]


@pytest.mark.parametrize("fault", ["", "read", "write"])
def test_devices_side_by_side_hold_in_some_orders(fault: str) -> None:
    explore(side_by_side("per-change", fault, set()), policy="pct", schedules=8).check()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("timing", ["exact", "any"])
def test_devices_side_by_side_hold_in_any_order(fault: str, timing: str) -> None:
    explore(side_by_side("per-change", fault, set()), policy="pct", timing=timing, schedules=15).check()


@pytest.mark.slow
@pytest.mark.parametrize("threads", LAUNCHERS)
@pytest.mark.parametrize("policy", ["pct", "random"])
@pytest.mark.parametrize("fault", FAULTS)
def test_devices_side_by_side_hold_between_any_two_lines(fault: str, policy: str, threads: str) -> None:
    preempt = (
        vfio_migration.changes.multifd,
        vfio_migration.changes.packets,
        vfio_migration.live.channel_pool,
        vfio_migration.live.incoming_channels,
        vfio_migration.live.save_threads,
    )
    for timing in ("exact", "any"):
        test = side_by_side(threads, fault, set())
        explore(test, policy=policy, timing=timing, schedules=15, preempt=preempt).check()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["pct", "random"])
def test_a_cancel_beside_threads_that_save_leaves_one_side_running(policy: str) -> None:
    met: set[str] = set()
    for after_s in (0.0, 0.1, 0.12, 0.14):
        for timing in ("exact", "any"):
            test = side_by_side("per-change", "", met, cancel_after_s=after_s)
            explore(test, policy=policy, timing=timing, schedules=25).check()
    assert met == {"completed", "cancelled"}
