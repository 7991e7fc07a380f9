"""What passes do by each strategy: who runs at the same time as whom, and what holds whatever goes wrong."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
from suite.strategies import STRATEGIES

from vfio_migration import DeviceBusyError, DeviceState, MockDevice, Watchdog, use_strategy
from vfio_migration.recorded.timeline import SpanKind
from vfio_migration.strategies import Change, DepthTimes, Strategy, Walk
from vfio_migration.strategies.arithmetic import Arithmetic, T
from vfio_migration.testing import (
    MachineRig,
    PairRig,
    ScarceThreads,
    assert_disjoint,
    assert_order,
    assert_overlap,
    our_threads,
)
from vmstate import HandlerEntry, RunState, VirtualClock

S = DeviceState
MS = 1_000_000
LAUNCHERS = ("per-change", "parked")
THREADED = tuple(name for name in STRATEGIES if name != "serial")


def rig_with(
    strategy: str | Strategy, *depths: int, latency: float = 0.01, clock: ScarceThreads | None = None, **options: object
) -> MachineRig:
    """A machine that runs, with a device at each of these depths: vf0, vf1, ..."""
    rig = MachineRig(clock=clock)
    use_strategy(rig.machine, strategy)
    for number, depth in enumerate(depths):
        rig.add_device(f"vf{number}", depth=depth, latency=latency, **options)  # type: ignore[arg-type]
    return rig


def pair_with(strategy: str, *depths: int, latency: float = 0.01, **options: object) -> PairRig:
    pair = PairRig(**options)  # type: ignore[arg-type]
    for rig in (pair.source, pair.destination):
        use_strategy(rig.machine, strategy)
    for number, depth in enumerate(depths):
        pair.add_device(f"vf{number}", depth=depth, latency=latency, state_size=256)
    return pair


def took(rig: MachineRig, running: bool) -> float:
    """Start or stop, and give the milliseconds that it takes."""
    begin = rig.clock.now()
    if running:
        rig.machine.start()
    else:
        rig.machine.stop()
    return (rig.clock.now() - begin) / MS


def most_at_a_time(rig: MachineRig) -> int:
    """Give how many changes of devices there were at the same time."""
    changes = [span for span in rig.timeline.spans if span.kind is SpanKind.CHANGE]
    return max(sum(one.begun <= each.begun < one.ended for one in changes) for each in changes)


# Who runs at the same time as whom:


@pytest.mark.parametrize(
    ("strategy", "most", "milliseconds"),
    [("serial", 1, 80), ("depths", 3, 40), ("overlapping", 4, 20), ("pool:1", 1, 80), ("pool:2", 2, 60)],
)
@pytest.mark.parametrize("threads", LAUNCHERS)
def test_so_many_are_changed_at_a_time(strategy: str, most: int, milliseconds: float, threads: str) -> None:
    with rig_with(strategy, 1, 2, 2, 2, threads=threads) as rig:
        assert took(rig, running=False) == milliseconds
        assert took(rig, running=True) == milliseconds
        assert most_at_a_time(rig) == most
        assert set(rig.device_states.values()) == {S.RUNNING}
    assert our_threads() == []


def test_overlapping_devices_meet_across_depths_and_not_across_passes() -> None:
    with rig_with("overlapping", 1, 2) as rig:
        rig.add_handler("disk", depth=1, seconds=0.005)
        rig.add_handler("net", depth=2, seconds=0.005)
        rig.machine.stop()
        assert_overlap(rig.recorder, "vf0: RUNNING_P2P -> STOP", "vf1: RUNNING_P2P -> STOP")
        assert_overlap(rig.recorder, "vf0: RUNNING_P2P -> STOP", "net")
        assert_order(rig.recorder, "vf*: RUNNING -> RUNNING_P2P", "vf*: RUNNING_P2P -> STOP")
        assert_order(rig.recorder, "vf1: RUNNING_P2P -> STOP", "disk: main")  # each is joined after its own depth


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "overlapping"])
def test_with_all_others_depths_come_one_after_another(strategy: str) -> None:
    with rig_with(strategy, 1, 2) as rig:
        rig.add_handler("disk", depth=1, seconds=0.005)
        rig.add_handler("net", depth=2, seconds=0.005)
        rig.machine.stop()
        assert_order(rig.recorder, "vf1: RUNNING_P2P -> STOP", "vf0: RUNNING_P2P -> STOP")
        assert_disjoint(rig.recorder, "vf0", "net")
        assert_disjoint(rig.recorder, "vf1", "disk")


def test_serial_devices_are_changed_where_their_bracket_opens() -> None:
    with rig_with("serial", 1) as rig:
        rig.add_handler("disk", depth=1, seconds=0.005)
        rig.machine.stop()
        assert_order(rig.recorder, "vf0: RUNNING_P2P -> STOP", "disk: main")
        rig.machine.start()
        assert_disjoint(rig.recorder, "vf0", "disk")
        assert {span.thread for span in rig.timeline.spans if span.kind is SpanKind.CHANGE} == {"MainThread"}
        assert not [span for span in rig.timeline.spans if span.kind is SpanKind.JOIN]


def test_a_pool_gives_places_in_the_order_of_the_launches() -> None:
    with rig_with("pool:2", 1, 1, 1, 1) as rig:
        rig.machine.stop()
        changes = [each for each in rig.timeline.spans if each.kind is SpanKind.CHANGE and each.detail == "main"]
        assert [each.name for each in sorted(changes, key=lambda span: span.begun)] == ["vf3", "vf2", "vf1", "vf0"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_device_with_parallel_changes_off_stays_serial(strategy: str) -> None:
    with rig_with(strategy, 1, 2) as rig:
        rig.add_device("off", depth=1, latency=0.01, parallel=False)
        rig.add_handler("disk", depth=1, seconds=0.005)
        rig.machine.stop()
        assert_disjoint(rig.recorder, "off", "disk")
        threads = {span.thread for span in rig.timeline.spans if span.kind is SpanKind.CHANGE and span.name == "off"}
        assert threads == {"MainThread"}


# What goes wrong:


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("threads", LAUNCHERS)
@pytest.mark.parametrize(
    "fault", ["PRE_COPY -> PRE_COPY_P2P", "PRE_COPY_P2P -> STOP_COPY", "RESUMING -> STOP", "RUNNING_P2P -> RUNNING"]
)
def test_the_invariants_hold_where_a_device_fails(strategy: str, threads: str, fault: str) -> None:
    with pair_with(strategy, 1, 2, 2, threads=threads) as pair:
        pair.add_device("bad", depth=1, latency=0.01, fail=fault)
        report = pair.migrate()  # checks the invariants
        assert not report.completed
        assert "'bad'" in str(report.error)
        assert pair.source.machine.run_state is RunState.RUNNING
        assert pair.migrate().completed
        assert pair.source.state_hashes == pair.destination.state_hashes
        assert not pair.unmet_faults


@pytest.mark.parametrize("strategy", THREADED)
@pytest.mark.parametrize("threads", LAUNCHERS)
@pytest.mark.parametrize("stalled", ["vf0", "vf1", "vf3"])
def test_a_stalled_device_that_is_given_up_costs_itself_only(strategy: str, threads: str, stalled: str) -> None:
    with PairRig(threads=threads) as pair:
        for rig in (pair.source, pair.destination):
            use_strategy(rig.machine, strategy)
        for number, depth in enumerate((1, 1, 1, 2)):
            pair.add_device(f"vf{number}", depth=depth, latency=0.01, watchdog=Watchdog(give_up_after_s=1.0))
        pair.source.mocks[stalled].stall(S.PRE_COPY, S.PRE_COPY_P2P)
        with pair.clock.taking_part():
            begin = pair.clock.now()
            report = pair.migrate()
            assert report.lost_devices == (stalled,)
            assert pair.clock.now() - begin < 1_500 * MS
            states = {name: state for name, state in pair.source.device_states.items() if name != stalled}
            assert set(states.values()) == {S.RUNNING}
            pair.remove_device(stalled)
            pair.clock.sleep(1.0)
        assert our_threads() == []
        assert pair.migrate().completed


@pytest.mark.parametrize("strategy", THREADED)
@pytest.mark.parametrize("times", [1, 2, None])
def test_work_is_done_on_the_spot_where_no_thread_can_be_had(strategy: str, times: int | None) -> None:
    clock = ScarceThreads(VirtualClock(), times=times)
    with rig_with(strategy, 1, 2, 2, clock=clock) as rig:
        rig.machine.stop()
        assert set(rig.device_states.values()) == {S.STOP}
        clock.refuse(1)
        rig.machine.start()
        assert set(rig.device_states.values()) == {S.RUNNING}
    assert our_threads() == []


class BrokenClock(ScarceThreads):
    """A clock whose threads cannot be started for a reason that no system has."""

    def start_thread(self, target: object, name: str) -> object:  # type: ignore[override]
        if "vf0" in name:
            raise LookupError(name)
        return super().start_thread(target, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", THREADED)
def test_what_launching_raises_is_raised_where_the_bracket_opens_and_keeps_nobody_from_changing(strategy: str) -> None:
    with rig_with(strategy, 1, 2, 2, clock=BrokenClock(VirtualClock(), times=0)) as rig:
        with pytest.raises(ExceptionGroup) as caught:
            rig.machine.stop()
        assert [type(error) for error in caught.value.exceptions] == [LookupError] * 2  # prepare and main
        notes = [error.__notes__[-1] for error in caught.value.exceptions]
        assert all("vf0" in note for note in notes), notes
        assert set(rig.device_states.values()) == {S.STOP}
    assert our_threads() == []


class Raising(MockDevice):
    """A device that raises what is no Exception: for whoever runs the machine."""

    def set_arc(self, target: DeviceState) -> None:
        if target is S.STOP:
            raise SystemExit("raised by the device")
        super().set_arc(target)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_a_change_raises_reaches_who_stops_the_machine_and_all_others_are_changed(strategy: str) -> None:
    with rig_with(strategy, 1, 2, 2) as rig:
        rig.add_device("bad", depth=2, backend=Raising)
        with pytest.raises(SystemExit, match="raised by the device"):
            rig.machine.stop()
        del rig.devices["bad"]
        assert set(rig.device_states.values()) == {S.STOP}
    assert our_threads() == []


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_handler_that_raises_keeps_nobody_from_changing(strategy: str, depth: int) -> None:
    def fail(running: bool, state: RunState) -> None:
        raise ValueError("of the handler")

    with rig_with(strategy, 1, 2, 2) as rig:
        rig.add_handler("bad", fail, depth=depth, prepare=True)
        for change, state in ((rig.machine.stop, S.STOP), (rig.machine.start, S.RUNNING)):
            with pytest.raises(ExceptionGroup, match="of the handler"):
                change()
            assert set(rig.device_states.values()) == {state}


# Devices that come and go in the middle of a pass:


def entries_of(rig: MachineRig, device: str) -> list[HandlerEntry]:
    """The two entries of a device's bracket, the lower first."""
    return [entry for entry in rig.machine.handlers if entry.name == device]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("running", [False, True])
def test_a_bracket_that_loses_an_entry_in_the_pass_leaves_no_thread(strategy: str, which: int, running: bool) -> None:
    """It sits the pass out, whatever was launched for it meanwhile; the next pass is as any other."""
    with rig_with(strategy, 1, 2, 3) as rig:
        if running:
            rig.machine.stop()
        gone = rig.devices["vf2" if running else "vf0"]  # is met last
        rig.add_handler("net", lambda *_: entries_of(rig, gone.id)[which].remove(), depth=2)
        if running:
            rig.machine.start()
        else:
            rig.machine.stop()
        assert not gone._thread.launched
        others = {name: state for name, state in rig.device_states.items() if name != gone.id}
        assert set(others.values()) == {S.RUNNING if running else S.STOP}
        assert gone.device_state is not S.ERROR
        rig.remove_device(gone.id)
    assert our_threads() == []


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_device_that_a_handler_registers_takes_part_if_its_bracket_is_still_to_come(
    strategy: str, depth: int
) -> None:
    with rig_with(strategy, 1, 2, 3) as rig:
        added: list[str] = []

        def add(running: bool, state: RunState) -> None:
            if not added:
                added.append("new")
                rig.add_device("new", depth=depth, latency=0.01)

        rig.add_handler("net", add, depth=2)
        rig.machine.stop()
        states = rig.device_states
        assert states.pop("new") is (S.STOP if depth == 1 else S.RUNNING)  # what QEMU's walk meets it with
        assert set(states.values()) == {S.STOP}
        rig.machine.start()
        assert took(rig, running=False) > 0
        assert set(rig.device_states.values()) == {S.STOP}
    assert our_threads() == []


@pytest.mark.parametrize(("strategy", "refused"), [("overlapping", True), ("depths", False), ("pool:1", False)])
def test_a_device_is_not_taken_away_once_its_change_was_launched(strategy: str, *, refused: bool) -> None:
    with rig_with(strategy, 1, 2) as rig:
        answers: list[bool] = []

        def remove(running: bool, state: RunState) -> None:
            try:
                rig.remove_device("vf0")
            except DeviceBusyError:
                answers.append(True)
            else:
                answers.append(False)

        rig.add_handler("net", remove, depth=2)
        rig.machine.stop()
        assert answers == [refused]
        assert set(rig.device_states.values()) == {S.STOP}
    assert our_threads() == []


def test_a_device_that_was_registered_before_the_first_bracket_was_met_is_launched_where_its_own_opens() -> None:
    """Else one behind the walk would be launched and never joined."""
    with rig_with("overlapping", 1) as rig:
        rig.add_handler(
            "deep", lambda *_: None if "new" in rig.devices else rig.add_device("new", depth=3), depth=2, prepare=True
        )
        rig.machine.stop()
        assert rig.device_states == {"vf0": S.STOP, "new": S.STOP}
        changes = [each for each in rig.timeline.spans if each.kind is SpanKind.CHANGE and each.name == "new"]
        assert [each.detail for each in changes] == ["main"]  # prepare had gone by
    assert our_threads() == []


# Strategies of one's own:


@dataclass(frozen=True)
class Idle:
    """Does nothing at all."""

    name = "idle"

    def open(self, change: Change, walk: Walk) -> None:
        pass

    def close(self, change: Change, walk: Walk) -> None:
        pass

    def pass_s(self, depths: Sequence[DepthTimes[T]], math: Arithmetic[T]) -> T:
        return math.zero


class Careless(Idle):
    """Launches and never joins."""

    def open(self, change: Change, walk: Walk) -> None:
        change.launch()


class Failing(Idle):
    """Raises wherever it is asked, having launched everything."""

    def open(self, change: Change, walk: Walk) -> None:
        for each in walk.due():
            each.launch()
        raise ValueError("open")

    def close(self, change: Change, walk: Walk) -> None:
        raise ValueError("close")


class Refusing(Idle):
    """Raises before it has begun anything."""

    def open(self, change: Change, walk: Walk) -> None:
        raise ValueError("open")


@pytest.mark.parametrize("strategy", [Idle(), Careless(), Failing(), Refusing()])
@pytest.mark.parametrize("threads", LAUNCHERS)
def test_whatever_a_strategy_does_no_change_is_skipped_and_no_thread_left(strategy: Strategy, threads: str) -> None:
    with rig_with(strategy, 1, 2, 2, threads=threads) as rig:
        for change, state in ((rig.machine.stop, S.STOP), (rig.machine.start, S.RUNNING)):
            raises = isinstance(strategy, Failing | Refusing)
            with pytest.raises(ExceptionGroup, match="open") if raises else nullcontext():
                change()
            assert set(rig.device_states.values()) == {state}
            assert not any(device._thread.launched for device in rig.devices.values())
    assert our_threads() == []
