"""Each strategy in many schedules of its threads: stops and starts, faults, a device that is given up meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest
from suite.strategies import STRATEGIES

import vfio_migration.changes.launch_and_join
import vfio_migration.strategies.places
from vfio_migration import DeviceState, Watchdog, use_strategy
from vfio_migration.errors import VFIOMigrationError
from vfio_migration.testing import MachineRig, PairRig, assert_order, our_threads
from vmstate import RunState, VirtualClock
from vmstate.exploring import explore

S = DeviceState
Test = Callable[[VirtualClock], None]
LAUNCHERS = ("per-change", "parked")


def back_and_forth(strategy: str, threads: str) -> Test:
    """Three devices at two depths and a handler, stopped and started."""

    def test(clock: VirtualClock) -> None:
        inside: list[str] = []
        with MachineRig(clock=clock, threads=threads) as rig:
            use_strategy(rig.machine, strategy)
            for number, depth in enumerate((1, 2, 2)):
                rig.add_device(f"vf{number}", depth=depth, latency=0.01)
            rig.add_handler("disk", lambda running, state: inside.append("disk"), depth=2, seconds=0.01)
            rig.machine.stop()
            assert set(rig.device_states.values()) == {S.STOP}
            assert_order(rig.recorder, "vf*: RUNNING -> RUNNING_P2P", "vf*: RUNNING_P2P -> STOP")
            rig.machine.start()
            assert set(rig.device_states.values()) == {S.RUNNING}
            assert inside == ["disk"] * 2
        assert our_threads() == []

    return test


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("timing", ["exact", "any"])
@pytest.mark.parametrize("policy", ["pct", "random"])
def test_passes_hold_in_many_schedules(strategy: str, policy: str, timing: str) -> None:
    explore(back_and_forth(strategy, "per-change"), policy=policy, timing=timing, schedules=25).check()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("threads", LAUNCHERS)
@pytest.mark.parametrize("policy", ["pct", "random"])
def test_passes_hold_between_any_two_lines(strategy: str, policy: str, threads: str) -> None:
    preempt = (
        vfio_migration.changes.launch_and_join,
        vfio_migration.changes.device_thread,
        vfio_migration.strategies.places,
    )
    explore(back_and_forth(strategy, threads), policy=policy, schedules=40, preempt=preempt).check()


def given_up(strategy: str, threads: str) -> Test:
    """A device that comes back just when it is given up, before others that wait for its place."""

    def test(clock: VirtualClock) -> None:
        with MachineRig(clock=clock, threads=threads) as rig:
            use_strategy(rig.machine, strategy)
            for name in ("vf0", "vf1", "vf2"):
                rig.add_device(name, watchdog=Watchdog(give_up_after_s=4.0))
            rig.mocks["vf2"].stall(S.RUNNING_P2P, S.STOP, seconds=4.0)  # launched first
            raised = None
            try:
                rig.machine.stop()
            except* VFIOMigrationError as group:
                raised = group
            lost = rig.devices["vf2"].device_state is S.ERROR
            assert lost or raised is None
            assert rig.machine.run_state is RunState.PAUSED
            assert rig.device_states == {"vf0": S.STOP, "vf1": S.STOP, "vf2": S.ERROR if lost else S.STOP}
            clock.sleep(3600.0)
            if lost:
                rig.remove_device("vf2")
            rig.machine.start()
            assert set(rig.device_states.values()) == {S.RUNNING}
        assert our_threads() == []

    return test


@pytest.mark.parametrize("strategy", ["overlapping", "pool:1", "pool:2"])
@pytest.mark.parametrize("threads", LAUNCHERS)
@pytest.mark.parametrize("policy", ["pct", pytest.param("random", marks=pytest.mark.slow)])
def test_a_place_of_a_device_that_is_given_up_goes_to_the_next(strategy: str, policy: str, threads: str) -> None:
    explore(given_up(strategy, threads), policy=policy, timing="any", schedules=25).check()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["overlapping", "pool:1"])
def test_giving_up_holds_between_any_two_lines(strategy: str) -> None:
    preempt = (
        vfio_migration.changes.launch_and_join,
        vfio_migration.changes.device_thread,
        vfio_migration.strategies.places,
    )
    for policy in ("pct", "random"):
        explore(given_up(strategy, "per-change"), policy=policy, schedules=80, preempt=preempt).check()


def migrated(strategy: str, threads: str, **faults: Any) -> Test:
    """A migration in which a device fails, and the one after it; the invariants are checked after each."""

    def test(clock: VirtualClock) -> None:
        with PairRig(clock=clock, threads=threads) as pair:
            for rig in (pair.source, pair.destination):
                use_strategy(rig.machine, strategy)
            pair.add_device("vf0", depth=1, latency=0.01, **faults)
            pair.add_device("vf1", depth=2, latency=0.01)
            assert not pair.migrate().completed
            assert pair.source.machine.run_state is RunState.RUNNING
            assert pair.migrate().completed

    return test


@pytest.mark.parametrize("strategy", ["overlapping", "pool:1"])
@pytest.mark.parametrize("fault", ["PRE_COPY_P2P -> STOP_COPY", "RUNNING_P2P -> RUNNING"])
def test_a_device_that_fails_leaves_the_source_running_in_any_order(strategy: str, fault: str) -> None:
    explore(migrated(strategy, "per-change", fail=fault), policy="random", timing="any", schedules=15).check()
