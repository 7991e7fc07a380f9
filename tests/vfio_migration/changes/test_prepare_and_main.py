"""Rules H1 to H7 and H9, and M4 from a state-change thread."""

import threading
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise

import pytest
from suite.machines import (
    BARE,
    FEATURES,
    SERIAL,
    Attempt,
    Backend,
    S,
    after_the_test,
    begin_attempt,
    by,
    for_the_test,
    launched,
    make_machine,
    state_of,
)

from vfio_migration import ALL_FLAGS, DeviceBusyError, DeviceState, MigrationFlags, VFIODevice, VFIOMigration
from vfio_migration.changes.device_thread import DeviceThread
from vfio_migration.changes.launch_and_join import StateChangeThread
from vfio_migration.changes.launchers import THREADS, ParkedLauncher, PerChangeLauncher, make_launcher
from vfio_migration.changes.prepare_and_main import StateChange
from vfio_migration.changes.set_or_recover import StateSetter
from vfio_migration.device.state_machine import next_state
from vfio_migration.recorded.timeline import Span, SpanKind
from vfio_migration.strategies import Depths, PassWalk
from vfio_migration.testing import MachineRig, ScarceThreads
from vmstate import (
    BigLockError,
    Device,
    NestedNotificationError,
    PassKind,
    RegistrationError,
    RunState,
    VirtualClock,
    add_device_handler,
)

PREPARE, MAIN = "vfio_vmstate_change_prepare", "vfio_vmstate_change"
MS = 1_000_000
STOPS = [
    RunState.FINISH_MIGRATE,
    RunState.PAUSED,
    RunState.SHUTDOWN,
    RunState.IO_ERROR,
    RunState.SAVE_VM,
    RunState.INTERNAL_ERROR,
]
both_ways = pytest.mark.parametrize("running", [True, False], ids=["start", "stop"])


class Changes:
    """The work of one device's handlers, without the walk around it."""

    def __init__(self, flags: MigrationFlags = ALL_FLAGS, begin: DeviceState = S.RUNNING) -> None:
        self.rig = make_machine()
        self.backend = Backend(flags=flags)
        self.backend.bind(self.rig.clock)
        self.device = VFIODevice(Device("vf0", self.rig.bus(1)), self.backend)
        self.setter = StateSetter(self.rig.machine, self.device)
        self.state_change = StateChange(self.rig.machine, self.device, self.setter)
        self.change = self.state_change.change
        self.setter.set_state_or_reset(begin)
        self.backend.asked.clear()
        self.rig.recorder.clear()


def having(flags: MigrationFlags) -> Iterator[DeviceState]:
    for state in DeviceState:
        try:
            next_state(state, state, flags)
        except OSError:
            continue
        yield state


def start_or_stop(rig: MachineRig, running: bool) -> None:
    if running:
        rig.machine.start()
    else:
        rig.machine.stop()


def ready(rig: MachineRig, running: bool) -> None:
    """Have the machine stopped if it is to be started, and live if it is to be stopped; forget how that went."""
    rig.machine.start()
    if running:
        rig.machine.stop()
    rig.recorder.clear()


def on_handler(rig: MachineRig, *actions: Callable[[], object], prepare: bool = False) -> None:
    """Do these things in an ordinary handler of depth 1, in one pass only."""

    def act(running: bool, state: RunState) -> None:
        for action in actions:
            action()

    device = Device("ordinary", rig.bus(1))
    add_device_handler(rig.machine.handlers, device, None if prepare else act, prepare_cb=act if prepare else None)


def spans_of(rig: MachineRig) -> list[Span]:
    """What took time: arcs, and handlers that are not a VFIO device's own."""
    spans = rig.timeline.spans
    return [span for span in spans if span.kind is SpanKind.ARC or span.name not in rig.devices]


# H1, H2:


@both_ways
@pytest.mark.parametrize("begin", [state for state in DeviceState if state is not S.ERROR])
def test_prepare_goes_to_p2p_by_where_the_device_is(begin: DeviceState, running: bool) -> None:
    changes = Changes(begin=begin)
    changes.change(PassKind.PREPARE, running, RunState.RUNNING if running else RunState.PAUSED)
    expected = S.PRE_COPY_P2P if begin is S.PRE_COPY else S.RUNNING_P2P
    assert state_of(changes.setter) is changes.backend.state is expected


@pytest.mark.parametrize("flags", FEATURES)
@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.SUSPENDED])
def test_main_of_a_start_goes_to_running_from_everywhere(flags: MigrationFlags, state: RunState) -> None:
    for begin in having(flags):
        changes = Changes(flags, begin)
        changes.change(PassKind.MAIN, True, state)
        assert state_of(changes.setter) is changes.backend.state is S.RUNNING


@pytest.mark.parametrize("flags", FEATURES)
@pytest.mark.parametrize("state", STOPS)
def test_main_of_a_stop_goes_to_stop_copy_only_out_of_pre_copy_and_into_a_migration(
    flags: MigrationFlags, state: RunState
) -> None:
    for begin in having(flags):
        changes = Changes(flags, begin)
        changes.change(PassKind.MAIN, False, state)
        saves = begin in (S.PRE_COPY, S.PRE_COPY_P2P) and state in ("finish-migrate", "paused")
        assert state_of(changes.setter) is changes.backend.state is (S.STOP_COPY if saves else S.STOP)


def test_a_change_that_fails_resets_the_device_and_then_main_takes_it_to_stop() -> None:
    changes = Changes(begin=S.PRE_COPY)
    changes.backend.fail(S.PRE_COPY, S.PRE_COPY_P2P)
    changes.change(PassKind.PREPARE, False, RunState.FINISH_MIGRATE)
    assert state_of(changes.setter) is S.RUNNING
    changes.change(PassKind.MAIN, False, RunState.FINISH_MIGRATE)
    assert state_of(changes.setter) is S.STOP
    assert changes.backend.asked == ["PRE_COPY_P2P", "reset", "RUNNING_P2P", "STOP"]


def test_the_trace_names_what_was_asked_for_even_if_that_failed_and_comes_last() -> None:
    changes = Changes(begin=S.PRE_COPY)
    changes.backend.fail(S.PRE_COPY, S.PRE_COPY_P2P)
    changes.change(PassKind.PREPARE, False, RunState.FINISH_MIGRATE)
    changes.change(PassKind.MAIN, False, RunState.FINISH_MIGRATE)
    events = [event for event in changes.rig.recorder.events if not event.name.startswith(("vfio_arc", "vfio_change"))]
    request, recorded = "vfio_migration_set_state", "vfio_migration_set_device_state"
    names = [request, recorded, "vfio_device_reset", PREPARE, request, recorded, MAIN]
    assert [event.name for event in events] == names
    common = {"name": "vf0", "running": 0, "reason": "finish-migrate"}
    assert events[3].fields == {**common, "dev_state": "PRE_COPY_P2P"}
    assert events[6].fields == {**common, "dev_state": "STOP"}


# H3:


@pytest.mark.parametrize("kind", PassKind)
@pytest.mark.parametrize(
    ("running", "state", "tied", "noted"),
    [
        (False, RunState.FINISH_MIGRATE, True, True),
        (False, RunState.PAUSED, True, True),
        (True, RunState.RUNNING, True, True),
        (False, RunState.SHUTDOWN, True, False),
        (False, RunState.PAUSED, False, False),
    ],
)
def test_an_error_goes_into_the_migration_under_way_but_not_for_shutdown_and_always_into_the_log(
    caplog: pytest.LogCaptureFixture, kind: PassKind, running: bool, state: RunState, tied: bool, noted: bool
) -> None:
    changes = Changes(begin=S.STOP if running else S.RUNNING)
    attempt = begin_attempt(changes.rig) if tied else Attempt()
    changes.backend.fail(*((S.STOP, S.RUNNING_P2P) if running else (S.RUNNING, S.RUNNING_P2P)))
    changes.change(kind, running, state)
    assert len(attempt.errors) == noted
    if noted:
        assert isinstance(attempt.errors[0], OSError)
        assert "'vf0'" in str(attempt.errors[0])
    *before, record = caplog.records
    assert [each.levelname for each in before] == ["WARNING"]  # that it was reset
    assert (record.levelname, record.name) == ("ERROR", "vfio_migration.changes.prepare_and_main")
    assert "vf0" in record.message
    assert "Input/output error" in record.message


def test_errors_of_all_devices_and_both_passes_are_noted_and_none_cuts_the_passes_short(mode: str) -> None:
    rig = make_machine(mode)
    backends = [Backend(latency=0.010), Backend(latency=0.020), Backend()]
    devices = [rig.add_device(f"vf{n}", backend=backend) for n, backend in enumerate(backends)]
    rig.machine.start()
    backends[0].fail(S.RUNNING, S.RUNNING_P2P, times=1)
    backends[1].fail(S.RUNNING_P2P, S.STOP)
    attempt = begin_attempt(rig)
    assert rig.machine.stop() == 0
    assert [each.device_state for each in devices] == [S.STOP, S.RUNNING, S.STOP]
    assert [str(error).split(", ")[1].split()[0] for error in attempt.errors] == [PREPARE, MAIN]


def test_whatever_a_backend_raises_counts_as_the_device_s_error(mode: str) -> None:
    rig = make_machine(mode)
    backend = Backend()
    migration = rig.add_device("vf0", backend=backend)
    rig.machine.start()

    def fail() -> None:
        raise ZeroDivisionError("a bug of the backend")

    backend.on_arc = fail
    attempt = begin_attempt(rig)
    rig.machine.stop()
    assert [type(error.__cause__) for error in attempt.errors] == [ZeroDivisionError] * 2
    assert all("'vf0'" in str(error) and "a bug of the backend" in str(error) for error in attempt.errors)
    assert state_of(migration) is S.RUNNING


# H4:


@pytest.mark.parametrize("flags", FEATURES)
@pytest.mark.parametrize("depth", [1, 3])
def test_a_device_has_a_bracket_or_one_entry_and_prepares_only_with_p2p(
    depth: int, flags: MigrationFlags, mode: str
) -> None:
    rig = make_machine(mode)
    rig.add_device("vf0", flags=flags, depth=depth)
    middle = depth * 65536 + 32768
    assert [entry.priority for entry in rig.machine.handlers] == (
        [middle] if mode == SERIAL else [middle - 1, middle + 1]
    )
    assert all(entry.main is not None for entry in rig.machine.handlers)
    assert all((entry.prepare is not None) == bool(flags & 2) for entry in rig.machine.handlers)


@both_ways
def test_prepare_s_thread_is_joined_before_main_s_is_launched(running: bool, threads: str) -> None:
    rig = make_machine(threads)
    rig.add_device("vf0", latency=0.010)
    ready(rig, running)
    begin = rig.clock.now()
    names = []
    for prepare in (True, False):  # a thread has its name once it has its turn
        on_handler(rig, lambda: rig.clock.sleep(0.005), lambda: names.append(launched()), prepare=prepare)
    start_or_stop(rig, running)
    assert names == [[f"{PREPARE} vf0"], [f"{MAIN} vf0"]]
    assert launched() == []
    assert [event.time_ns - begin for event in rig.recorder.select(PREPARE, MAIN)] == [10 * MS, 20 * MS]


@pytest.mark.parametrize("flags", FEATURES)
def test_start_and_stop_bring_a_device_with_any_features_there_and_back(flags: MigrationFlags, mode: str) -> None:
    rig = make_machine(mode)
    migration = rig.add_device("vf0", flags=flags)
    for _ in range(2):
        for change, state in ((rig.machine.start, S.RUNNING), (rig.machine.stop, S.STOP)):
            change()
            assert state_of(migration) is state


# H5:


class Busy(MachineRig):
    """
    Devices and ordinary handlers at three depths and with a plain priority, all of which take their time.

    At each depth the devices take 10, 20 and 30 ms, the two handlers 4 ms each.
    """

    def __init__(self, threads: str) -> None:
        super().__init__(run_state=RunState.PRELAUNCH, **by(threads))
        for_the_test(self)
        self.add_handler("plain", seconds=0.005, depth=None, prepare=True)
        for depth in (1, 2, 4):
            self.add_handler(f"first{depth}", seconds=0.004, depth=depth, prepare=True)
            for number in (1, 2, 3):
                self.add_device(f"vf{depth}{number}", latency=number * 0.010, depth=depth)
            self.add_handler(f"last{depth}", seconds=0.004, depth=depth, prepare=True)

    def passes(self, running: bool) -> tuple[list[Span], list[Span]]:
        """The spans of the prepare and of the main pass of a start or stop."""
        ready(self, running)
        begin = self.clock.now()
        start_or_stop(self, running)
        self.took = self.clock.now() - begin
        spans = spans_of(self)
        prepare = [each for each in spans if each.detail == "prepare" or each.detail.endswith("RUNNING_P2P")]
        return prepare, [each for each in spans if each not in prepare]


@both_ways
def test_threads_of_a_depth_overlap_each_other_and_its_handlers_and_nothing_of_another_depth(
    running: bool, threads: str
) -> None:
    rig = Busy(threads)
    prepare, main = rig.passes(running)
    for spans in (prepare, main):
        assert len(spans) == 3 * (3 + 2) + 1
        for one, other in combinations(spans, 2):
            handlers = SpanKind.ARC not in (one.kind, other.kind)
            assert one.overlaps(other) == (one.depth == other.depth and not handlers), (one, other)
    assert not any(one.overlaps(other) for one in prepare for other in main)
    assert rig.took == 2 * (3 * 30 + 5) * MS


@both_ways
def test_depths_come_in_order_after_the_plain_handlers_when_starting_and_reversed_when_stopping(
    running: bool, threads: str
) -> None:
    for spans in Busy(threads).passes(running):
        depths = list(dict.fromkeys(-1 if span.depth is None else span.depth for span in spans))
        assert depths == ([-1, 1, 2, 4] if running else [4, 2, 1, -1])


@both_ways
def test_threads_begin_before_the_handlers_of_their_depth_and_all_end_before_the_next_depth(
    running: bool, threads: str
) -> None:
    for spans in Busy(threads).passes(running):
        for depth in (1, 2, 4):
            arcs = [span for span in spans if span.depth == depth and span.kind is SpanKind.ARC]
            handlers = [span for span in spans if span.depth == depth and span.kind is SpanKind.HANDLER]
            (begin,) = {span.start_ns for span in arcs}
            assert [(span.start_ns - begin, span.end_ns - begin) for span in handlers] == [
                (0, 4 * MS),
                (4 * MS, 8 * MS),
            ]
            assert sorted(span.end_ns - begin for span in arcs) == [10 * MS, 20 * MS, 30 * MS]


@both_ways
def test_with_parallel_off_nothing_overlaps_anything(running: bool) -> None:
    rig = Busy(SERIAL)
    prepare, main = rig.passes(running)
    for one, other in pairwise(sorted(prepare + main, key=lambda span: span.start_ns)):
        assert one.end_ns <= other.start_ns
    assert rig.took == 2 * (3 * (10 + 20 + 30 + 8) + 5) * MS


@both_ways
def test_a_serial_device_takes_its_turn_among_the_handlers_while_the_others_threads_run(
    running: bool, threads: str
) -> None:
    rig = make_machine(threads)
    rig.add_handler("disk", seconds=0.010, depth=1, prepare=True)
    rig.add_device("serial", latency=0.010, parallel=False)
    rig.add_device("threaded", latency=0.050)
    ready(rig, running)
    begin = rig.clock.now()
    start_or_stop(rig, running)
    assert rig.clock.now() - begin == 100 * MS
    for spans in (spans_of(rig)[:3], spans_of(rig)[3:]):
        (disk,) = (span for span in spans if span.name == "disk")
        (serial,) = (span for span in spans if span.name == "serial")
        (threaded,) = (span for span in spans if span.name == "threaded")
        assert threaded.overlaps(disk)
        assert threaded.overlaps(serial)
        assert not disk.overlaps(serial)


# H6:


def state_change_thread(threads: str) -> StateChangeThread:
    return state_change_thread_of(threads, Changes())


def state_change_thread_of(threads: str, changes: "Changes") -> StateChangeThread:
    launcher = make_launcher(threads, changes.rig.clock, "vf0")
    after_the_test.callback(launcher.close)
    machine = changes.rig.machine
    thread = DeviceThread("vf0", launcher, machine.big_lock)
    walk = PassWalk(Depths(), machine.handlers)
    return StateChangeThread("vf0", changes.state_change, thread, walk)


@pytest.mark.parametrize("second", PassKind)
@pytest.mark.parametrize("first", PassKind)
def test_launching_while_a_thread_of_the_device_runs_is_an_assertion_with_both_names(
    first: PassKind, second: PassKind, threads: str
) -> None:
    changes = Changes()
    thread = state_change_thread_of(threads, changes)
    thread.open(first, True, RunState.RUNNING)
    changes.rig.machine.handlers.notify(True, RunState.RUNNING)  # the next launch is of another pass
    names = {PassKind.PREPARE: PREPARE, PassKind.MAIN: MAIN}
    with pytest.raises(AssertionError, match=f"'{names[second]} vf0' .*'{names[first]} vf0'"):
        thread.open(second, True, RunState.RUNNING)
    thread.close(first)
    thread.open(second, True, RunState.RUNNING)  # nothing of the refused launch is left
    thread.close(second)


@pytest.mark.parametrize("kind", PassKind)
def test_joining_when_no_thread_runs_is_an_assertion_with_the_names(kind: PassKind, threads: str) -> None:
    names = {PassKind.PREPARE: PREPARE, PassKind.MAIN: MAIN}
    thread = state_change_thread(threads)
    with pytest.raises(AssertionError, match=f"'{names[kind]} vf0' .*'vf0'"):
        thread.close(kind)


def test_joining_another_change_than_the_one_that_runs_is_an_assertion_with_both_names(threads: str) -> None:
    thread = state_change_thread(threads)
    thread.open(PassKind.PREPARE, True, RunState.RUNNING)
    with pytest.raises(AssertionError, match=f"'{MAIN} vf0' .*'{PREPARE} vf0'"):
        thread.close(PassKind.MAIN)
    thread.close(PassKind.PREPARE)
    with pytest.raises(AssertionError):
        thread.close(PassKind.PREPARE)


# H7:


def test_threads_have_qemu_s_names_and_the_device_s(threads: str) -> None:
    rig = make_machine(threads)
    rig.add_device("vf0")
    rig.add_device("vf1", flags=BARE, depth=2)
    rig.machine.start()
    rig.machine.stop()
    assert {(event.name, event.thread) for event in rig.recorder.select(PREPARE, MAIN)} == {
        (PREPARE, f"{PREPARE} vf0"),
        (MAIN, f"{MAIN} vf0"),
        (MAIN, f"{MAIN} vf1"),
    }


def test_with_parallel_off_no_thread_is_started_or_kept(threads: str) -> None:
    rig = make_machine()
    device = VFIODevice(Device("vf0", rig.bus(1)), Backend(), migration_parallel_states=False)
    before = threading.active_count()
    VFIOMigration(rig.machine, device, threads=threads)
    assert threading.active_count() == before
    rig.machine.start()
    assert {event.thread for event in rig.recorder.select(PREPARE, MAIN)} == {threading.current_thread().name}


@pytest.mark.parametrize(("threads", "number"), [("per-change", 4), ("parked", 1)])
def test_the_work_is_done_by_a_daemon_thread_for_each_change_or_by_one_for_all(threads: str, number: int) -> None:
    """A stalled device must not keep the process alive."""
    rig = make_machine(threads)
    workers = set()
    backend = Backend()
    backend.on_arc = lambda: workers.add(threading.current_thread())
    rig.add_device("vf0", backend=backend)
    rig.machine.start()
    rig.machine.stop()
    assert len(workers) == number  # for prepare and main, twice
    assert all(type(thread) is threading.Thread and thread.daemon for thread in workers)


@both_ways
@pytest.mark.parametrize(
    ("threads", "pass_ms", "on_the_spot"),
    [("per-change", 100 + 100 + 10, True), ("parked", 100, False)],  # in turn, or at once: it has its thread
)
def test_without_threads_the_work_is_done_on_the_spot_with_a_warning_where_a_thread_would_be_new(
    caplog: pytest.LogCaptureFixture,
    running: bool,
    threads: str,
    pass_ms: int,
    on_the_spot: bool,
) -> None:
    clock = ScarceThreads(VirtualClock(), pattern="*", times=0)
    rig = make_machine(threads, clock)
    rig.add_handler("disk", seconds=0.010, depth=1, prepare=True)
    devices = [rig.add_device(name, latency=0.100) for name in ("vf0", "vf1")]
    ready(rig, running)
    begin = rig.clock.now()
    clock.refuse()
    start_or_stop(rig, running)
    assert {each.device_state for each in devices} == {S.RUNNING if running else S.STOP}
    assert rig.clock.now() - begin == 2 * pass_ms * MS  # slower, never lost
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [(r.__dict__["device"], r.__dict__["change"]) for r in warnings] == [
        (f"vf{number}", change)
        for change in (PREPARE, MAIN)
        for number in ((0, 1) if running else (1, 0))
        if on_the_spot
    ]
    clock.refuse(0)
    start_or_stop(rig, not running)
    assert {event.thread for event in rig.recorder.select(MAIN)[2:]} == {f"{MAIN} vf0", f"{MAIN} vf1"}


def test_an_error_of_work_done_on_the_spot_is_reported_as_any_other() -> None:
    rig = make_machine(clock=ScarceThreads(VirtualClock()))
    backend = Backend()
    migration = rig.add_device("vf0", backend=backend)
    rig.machine.start()
    backend.fail(S.RUNNING_P2P, S.STOP)
    attempt = begin_attempt(rig)
    rig.machine.stop()
    assert len(attempt.errors) == 1
    assert state_of(migration) is S.RUNNING


@pytest.mark.parametrize("kind", PassKind)
@both_ways
def test_a_device_registered_between_its_two_places_sits_that_pass_out(
    running: bool, kind: PassKind, threads: str
) -> None:
    rig = make_machine(threads)
    ready(rig, running)
    added: list[VFIOMigration] = []

    def once() -> None:
        if not added:
            added.append(rig.add_device("vf0"))

    # In both directions one more handler of the depth comes after the one that registers the device.
    on_handler(rig, once if running else lambda: None, prepare=kind is PassKind.PREPARE)
    on_handler(rig, lambda: None)
    on_handler(rig, lambda: None if running else once(), prepare=kind is PassKind.PREPARE)
    start_or_stop(rig, running)
    changes = [event.name for event in rig.recorder.select(PREPARE, MAIN)]
    assert changes == ([MAIN] if kind is PassKind.PREPARE else [])  # main sees what prepare added
    rig.recorder.clear()
    start_or_stop(rig, not running)
    assert [event.name for event in rig.recorder.select(PREPARE, MAIN)] == [PREPARE, MAIN]
    assert added[0].device_state is (S.STOP if running else S.RUNNING)


@pytest.mark.parametrize("which", [0, 1], ids=["lower", "higher"])
@both_ways
def test_a_bracket_that_has_lost_one_place_sits_the_pass_out(running: bool, which: int, threads: str) -> None:
    rig = make_machine(threads)
    rig.add_device("vf0")
    ready(rig, running)
    places = [entry for entry in rig.machine.handlers if entry.name == "vf0"]
    rig.machine.handlers.add(lambda running, state: places[which].remove(), priority=-1 if running else 2**40)
    start_or_stop(rig, running)
    assert [event.name for event in rig.recorder.select(PREPARE, MAIN)] == [PREPARE]
    assert launched() == []


def test_there_is_a_launcher_for_each_way_that_is_offered_and_no_other() -> None:
    rig = make_machine()
    launchers = {way: make_launcher(way, rig.clock, "vf0") for way in THREADS}
    for launcher in launchers.values():
        launcher.close()
    assert {way: type(launcher) for way, launcher in launchers.items()} == {
        "per-change": PerChangeLauncher,
        "parked": ParkedLauncher,
    }
    with pytest.raises(ValueError, match=r"'per-change', 'parked'; got 'green'"):
        rig.add_device("vf0", threads="green")
    assert len(rig.machine.handlers) == len(rig.machine.migratables) == 0


# H9:


@both_ways
@pytest.mark.parametrize("prepare", [True, False])
def test_closing_is_refused_while_a_thread_of_the_device_runs(running: bool, prepare: bool, threads: str) -> None:
    rig = make_machine(threads)
    migration = rig.add_device("vf0", latency=0.010)
    ready(rig, running)
    refusals: list[str] = []

    def close() -> None:
        with pytest.raises(DeviceBusyError) as caught:
            migration.close()
        refusals.append(str(caught.value))

    on_handler(rig, close, prepare=prepare)
    start_or_stop(rig, running)
    assert len(refusals) == 1
    assert "'vf0'" in refusals[0]
    assert state_of(migration) is (S.RUNNING if running else S.STOP)
    migration.close()


def test_closing_from_another_thread_waits_for_the_end_of_the_change(threads: str) -> None:
    rig = make_machine(threads)
    migration = rig.add_device("vf0", latency=0.010)
    closed_at: list[int] = []

    def close() -> None:
        migration.close()
        closed_at.append(rig.clock.now())

    closers: list[threading.Thread] = []
    on_handler(rig, lambda: closers.append(rig.clock.start_thread(close, "closer")), prepare=True)
    with rig.clock.taking_part():
        rig.machine.start()
        rig.clock.join(closers[0])
    assert closed_at == [20 * MS]
    assert state_of(migration) is S.RUNNING


def test_closing_is_refused_while_the_machine_migrates(threads: str) -> None:
    rig = make_machine(threads)
    migration = rig.add_device("vf0")
    attempt = begin_attempt(rig)
    with pytest.raises(DeviceBusyError, match="vf0"):
        migration.close()
    assert len(rig.machine.handlers) == 2
    rig.machine.end_attempt(attempt)
    migration.close()


def test_closing_removes_entries_and_notifier_and_a_second_time_does_nothing(mode: str) -> None:
    rig = make_machine(mode)
    backend = Backend()
    with rig.add_device("vf0", backend=backend) as migration:
        assert rig.machine.migratables == (migration,)
        assert len(rig.machine.handlers) == (1 if mode == SERIAL else 2)
    assert len(rig.machine.migratables) == 0
    assert list(rig.machine.handlers) == []
    migration.close()
    rig.machine.start()
    rig.machine.stop()
    assert backend.asked == []
    assert state_of(migration) is backend.state


def test_a_device_that_was_closed_can_be_registered_again_and_begins_in_running(mode: str) -> None:
    rig = make_machine(mode)
    backend = Backend()
    first = rig.add_device("vf0", backend=backend)
    rig.machine.start()
    rig.machine.stop()
    assert state_of(first) is S.STOP
    first.close()
    second = rig.add_device("vf0", backend=backend)
    first.close()  # is over, and takes nothing from the second
    assert rig.machine.migratables == (second,)
    assert state_of(second) is S.RUNNING
    rig.machine.start()
    rig.machine.stop()
    assert state_of(second) is backend.state is S.STOP


def test_registering_is_refused_for_a_taken_id_and_for_a_backend_of_another_device(threads: str) -> None:
    rig = make_machine(threads)
    backend = Backend()
    rig.add_device("vf0", backend=backend)
    free = Backend()
    with pytest.raises(RegistrationError, match="vf0"):
        rig.add_device("vf0", backend=free)
    with pytest.raises(RegistrationError, match="backend"):
        rig.add_device("vf1", backend=backend)
    assert len(rig.machine.handlers) == 2
    rig.add_device("vf1", backend=free)  # the refused registration has let go of it


def test_a_device_without_an_id_is_refused() -> None:
    with pytest.raises(ValueError, match="id"):
        make_machine().add_device("")


# M4:


def attempts(rig: MachineRig, migration: VFIOMigration) -> dict[str, Callable[[], object]]:
    machine = rig.machine
    return {
        "lock": machine.big_lock.acquire,
        "start": machine.start,
        "stop": machine.stop,
        "shutdown": machine.shutdown,
        "notify": lambda: machine.handlers.notify(False, RunState.PAUSED),
        "set_run_state": lambda: machine.set_run_state(RunState.PAUSED),
        "close": migration.close,
        "register": lambda: rig.add_device("vf9"),
    }


@pytest.mark.parametrize(
    ("threads", "refused_threads"),
    [("per-change", False), ("parked", False), ("per-change", True)],
    ids=["in its thread", "in its parked thread", "on the spot"],
)
@pytest.mark.parametrize("what", ["lock", "start", "stop", "shutdown", "notify", "set_run_state", "close", "register"])
def test_from_a_state_change_thread_the_machine_cannot_be_touched(
    what: str, threads: str, refused_threads: bool
) -> None:
    clock = ScarceThreads(VirtualClock(), times=None if refused_threads else 0)
    rig = make_machine(threads, clock)
    backend = Backend(latency=0.010)
    migration = rig.add_device("vf0", backend=backend)
    refused: list[tuple[type[BaseException], str, int]] = []

    def on_arc() -> None:
        before = rig.clock.now()
        with pytest.raises(BigLockError) as caught:
            attempts(rig, migration)[what]()
        refused.append((type(caught.value), str(caught.value), rig.clock.now() - before))

    backend.on_arc = on_arc
    rig.machine.start()
    assert len(refused) == 2  # to RUNNING_P2P, and to RUNNING
    for kind, message, waited in refused:
        assert kind is BigLockError
        assert "vm" in message
        assert waited == 0
    assert rig.machine.run_state is RunState.RUNNING
    assert state_of(migration) is S.RUNNING
    assert rig.machine.migratables == (migration,)
    backend.on_arc = lambda: None
    rig.machine.stop()  # the lock is free, and the calling thread is barred no more
    assert state_of(migration) is S.STOP


def test_a_backend_that_lets_the_refusal_through_fails_as_any_device_does(threads: str) -> None:
    rig = make_machine(threads)
    backend = Backend()
    migration = rig.add_device("vf0", backend=backend)
    backend.on_arc = rig.machine.stop
    attempt = begin_attempt(rig)
    rig.machine.start()
    assert [type(error.__cause__) for error in attempt.errors] == [BigLockError]
    assert rig.machine.run_state is RunState.RUNNING
    assert state_of(migration) is S.RUNNING


def test_from_a_serial_handler_start_and_stop_are_refused_as_nested() -> None:
    """E6: that thread holds the lock itself."""
    rig = make_machine()
    backend = Backend()
    rig.add_device("vf0", backend=backend, parallel=False)
    refused: list[BaseException] = []

    def on_arc() -> None:
        for action in (rig.machine.start, rig.machine.stop):
            with pytest.raises(NestedNotificationError) as caught:
                action()
            refused.append(caught.value)

    backend.on_arc = on_arc
    rig.machine.start()
    assert len(refused) == 4


def test_a_state_change_thread_may_touch_another_machine(threads: str) -> None:
    rig, other = make_machine(threads), make_machine(threads)
    backend = Backend()
    rig.add_device("vf0", backend=backend)

    def on_arc() -> None:
        other.machine.start()
        other.machine.stop()

    backend.on_arc = on_arc
    rig.machine.start()
    assert other.machine.run_state is RunState.PAUSED
