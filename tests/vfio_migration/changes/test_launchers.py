"""Rule H7: what both launchers do, and what becomes of a thread that is parked; in virtual and in real time."""

import gc
import threading
from collections.abc import Callable

import pytest
from suite.machines import BARE, LIMIT, Backend, S, after_the_test, for_the_test, make_machine, state_of

from vfio_migration import MockDevice, VFIODevice, VFIOMigration, Watchdog
from vfio_migration.changes.launchers import Launch, Launcher, make_launcher
from vfio_migration.testing import MachineRig, ScarceThreads
from vmstate import BigLock, Bus, Clock, Device, Machine, RealClock, RunState, VirtualClock

PREPARE, MAIN = "vfio_vmstate_change_prepare", "vfio_vmstate_change"


class Work:
    """A launch whose work notes its thread and, unless it is free from the start, waits until it is let go on."""

    def __init__(self, name: str, clock: Clock, *, free: bool = True) -> None:
        self.launch = Launch(name, BigLock(clock), self._work)
        self.begun = clock.event(f"the begin of {name}")
        self.free = clock.event(f"the end of {name}", outside=True)
        after_the_test.callback(self.free.set)
        if free:
            self.free.set()

    def _work(self) -> None:
        self.thread = threading.current_thread()
        self.name = self.thread.name
        self.begun.set()
        self.free.wait()


def make(threads: str, clock: Clock) -> Launcher:
    launcher = make_launcher(threads, clock, "vf0")
    after_the_test.callback(launcher.close)
    return launcher


def get_stuck(launcher: Launcher, clock: Clock) -> Work:
    """Have a launch abandoned that has begun."""
    stuck = Work("stuck", clock, free=False)
    launcher.start(stuck.launch)
    assert stuck.begun.wait(LIMIT)
    launcher.abandon()
    return stuck


def test_work_is_done_in_a_daemon_thread_of_its_name_and_is_over_when_joined(threads: str, clock: Clock) -> None:
    launcher = make(threads, clock)
    for name in ("first", "second"):
        work = Work(name, clock)
        launcher.start(work.launch)
        assert launcher.join()
        assert work.launch.ended
        assert work.launch.error is None
        assert work.name == name
        assert work.thread is not threading.current_thread()
        assert work.thread.daemon


def test_a_join_with_a_limit_leaves_the_work_going_on(threads: str, clock: Clock) -> None:
    launcher = make(threads, clock)
    work = Work("slow", clock, free=False)
    launcher.start(work.launch)
    assert not launcher.join(0.001)
    assert not work.launch.ended
    work.free.set()
    assert launcher.join()
    assert work.launch.ended


def test_what_work_raises_is_kept_for_who_joins_it_and_hurts_no_later_work(threads: str, clock: Clock) -> None:
    def fail() -> None:
        raise SystemExit("on purpose")

    launcher = make(threads, clock)
    failing, work = Launch("failing", BigLock(clock), fail), Work("next", clock)
    for launch in (failing, work.launch):
        launcher.start(launch)
        assert launcher.join()
    assert isinstance(failing.error, SystemExit)
    assert work.launch.error is None
    assert work.name == "next"


def test_an_abandoned_thread_ends_when_it_comes_back_and_another_does_the_next_work(threads: str, clock: Clock) -> None:
    launcher = make(threads, clock)
    stuck, following = get_stuck(launcher, clock), Work("following", clock)
    assert launcher.join()  # there is nothing to wait for
    launcher.start(following.launch)
    assert launcher.join()
    assert following.thread is not stuck.thread
    assert stuck.thread.is_alive()
    stuck.free.set()
    assert clock.join(stuck.thread, LIMIT)


def test_closing_keeps_no_thread_and_does_not_wait_for_an_abandoned_one(threads: str, clock: Clock) -> None:
    before = set(threading.enumerate())
    idle, abandoning = make_launcher(threads, clock, "vf0"), make_launcher(threads, clock, "vf1")
    work, stuck = Work("work", clock), get_stuck(abandoning, clock)
    idle.start(work.launch)
    assert idle.join()
    for launcher in (idle, abandoning):
        launcher.close()
    assert set(threading.enumerate()) - before == {stuck.thread}


# A parked thread, from the registration of its device until that goes:


def workers_of(*backends: Backend) -> list[list[tuple[threading.Thread, str]]]:
    """Give lists in which the backends note, at each arc, the thread and the name that it has."""

    def watch(backend: Backend) -> list[tuple[threading.Thread, str]]:
        noted: list[tuple[threading.Thread, str]] = []
        backend.on_arc = lambda: noted.append((threading.current_thread(), threading.current_thread().name))
        return noted

    return [watch(backend) for backend in backends]


@pytest.mark.parametrize("used", [True, False], ids=["after work", "unused"])
def test_registering_parks_a_daemon_thread_and_closing_ends_it(clock: Clock, used: bool) -> None:
    rig = make_machine("parked", clock)
    before = set(threading.enumerate())
    migration = rig.add_device("vf0")
    (thread,) = set(threading.enumerate()) - before
    assert thread.name == "vfio_parked vf0"
    assert thread.daemon
    if used:
        rig.machine.start()
        rig.machine.stop()
    assert thread.is_alive()
    migration.close()
    assert not thread.is_alive()


def test_registering_is_refused_where_no_thread_can_be_had_and_leaves_nothing_behind(
    clock: Clock,
) -> None:
    scarce = ScarceThreads(clock, pattern="vfio_parked vf1", times=0)
    rig = make_machine("parked", scarce)
    first, backend = rig.add_device("vf0"), Backend()
    threads, entries = set(threading.enumerate()), list(rig.machine.handlers)
    scarce.refuse(1)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        rig.add_device("vf1", backend=backend)
    assert rig.machine.migratables == (first,)
    assert list(rig.machine.handlers) == entries
    assert set(threading.enumerate()) == threads
    rig.machine.start()
    assert backend.asked == []
    rig.machine.stop()
    second = rig.add_device("vf1", backend=backend)  # the refused registration has let go of it
    rig.machine.start()
    rig.machine.stop()
    assert state_of(first) is state_of(second) is backend.state is S.STOP


def test_one_thread_makes_all_changes_and_has_the_name_of_each(clock: Clock) -> None:
    rig, backend = make_machine("parked", clock), Backend()
    (noted,) = workers_of(backend)
    rig.add_device("vf0", backend=backend)
    rig.machine.start()
    rig.machine.stop()
    assert [name for _, name in noted] == [f"{PREPARE} vf0", f"{MAIN} vf0"] * 2
    assert len({thread for thread, _ in noted}) == 1


def test_one_device_may_park_its_thread_while_another_starts_one_for_each_change(clock: Clock) -> None:
    rig = make_machine(clock=clock)
    backends = Backend(), Backend()
    parked, per_change = workers_of(*backends)
    devices = [
        rig.add_device(name, backend=backend, threads=threads)
        for name, backend, threads in zip(("vf0", "vf1"), backends, ("parked", "per-change"), strict=True)
    ]
    rig.machine.start()
    assert [state_of(device) for device in devices] == [S.RUNNING] * 2
    rig.machine.stop()
    assert [state_of(device) for device in devices] == [S.STOP] * 2
    assert len({thread for thread, _ in parked}) == 1
    assert len({thread for thread, _ in per_change}) == 4
    assert [name for _, name in per_change] == [f"{PREPARE} vf1", f"{MAIN} vf1"] * 2


def test_threads_of_both_kinds_run_at_the_same_time(clock: Clock) -> None:
    rig = make_machine(clock=clock)
    parked, per_change = Backend(flags=BARE), Backend(flags=BARE)  # which change in the main pass only
    there = {backend: clock.event("the other's arc") for backend in (parked, per_change)}
    met: list[bool] = []

    def meet(mine: Backend, other: Backend) -> None:
        there[mine].set()
        met.append(there[other].wait(LIMIT))

    parked.on_arc = lambda: meet(parked, per_change)
    per_change.on_arc = lambda: meet(per_change, parked)
    rig.add_device("vf0", backend=parked, threads="parked")
    rig.add_device("vf1", backend=per_change, threads="per-change")
    rig.machine.start()
    assert met == []  # they run already
    rig.machine.stop()
    assert met == [True, True]


class Stalled(MachineRig):
    """A machine with parked threads, one of whose devices will be given up in the first pass of its first start."""

    def __init__(self) -> None:
        self.scarce = ScarceThreads(VirtualClock(), pattern="*", times=0)
        super().__init__(clock=self.scarce, run_state=RunState.PRELAUNCH, threads="parked")
        for_the_test(self)
        self.backend = Backend()
        (self.noted,) = workers_of(self.backend)
        self.lost = self.add_device("vf0", backend=self.backend, watchdog=Watchdog(give_up_after_s=10.0))
        self.well = self.add_device("vf1")
        self.backend.stall(S.RUNNING, S.RUNNING_P2P)

    def threads_of_changes(self) -> list[str]:
        """Name the threads that the lost device's changes came to an end in; the one given up did not."""
        assert (state_of(self.lost), state_of(self.well)) == (S.ERROR, S.RUNNING)
        self.machine.stop()
        assert (state_of(self.lost), state_of(self.well)) == (S.ERROR, S.STOP)
        return [event.thread for event in self.recorder.select(PREPARE, MAIN) if event.fields["name"] == "vf0"]


def test_a_thread_that_was_given_up_ends_when_it_comes_back_and_another_is_parked_in_its_place() -> None:
    rig = Stalled()
    before = set(threading.enumerate())
    rig.machine.start()
    assert len(set(threading.enumerate()) - before) == 1
    assert rig.threads_of_changes() == [f"{MAIN} vf0", f"{PREPARE} vf0", f"{MAIN} vf0"]
    ((stuck, _),) = rig.noted
    assert stuck in before
    assert stuck.is_alive()
    rig.backend.release()
    assert rig.clock.join(stuck, LIMIT)
    assert state_of(rig.lost) is S.ERROR  # what came back counts for nothing


def test_where_no_other_thread_can_be_parked_work_is_done_on_the_spot_until_one_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Stalled()
    rig.scarce.refuse()
    rig.machine.start()
    rig.scarce.refuse(0)
    assert rig.threads_of_changes() == [threading.current_thread().name, f"{PREPARE} vf0", f"{MAIN} vf0"]
    assert [record.__dict__["change"] for record in caplog.records if record.levelname == "WARNING"] == [MAIN]


@pytest.mark.parametrize("clock", [RealClock, VirtualClock])
def test_a_machine_that_is_dropped_leaves_no_parked_thread(clock: Callable[[], Clock]) -> None:
    before = set(threading.enumerate())

    def build() -> None:
        machine = Machine(clock=clock())
        VFIOMigration(machine, VFIODevice(Device("vf0", Bus("pcie.0")), MockDevice()), threads="parked")
        machine.start()

    build()
    gc.collect()
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)
