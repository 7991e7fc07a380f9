"""Each guarantee that stands above the virtual clock, shown."""

import _thread
import itertools
import signal
import threading
from collections.abc import Sequence

import pytest

from vmstate import ClockError, DeadlockError, Machine, Runnable, RunState, StalledError, VirtualClock

HOUR = 3600.0
LIMIT = 30.0  # real seconds that no test should need


class Log:
    """Who did what at which virtual time, in order; notices two threads running at once."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.lines: list[tuple[str, float]] = []
        self._inside = threading.Lock()

    def __call__(self, what: str) -> None:
        assert self._inside.acquire(blocking=False), "two threads run at once"
        self.lines.append((what, self.clock.now() / 1e9))
        self._inside.release()

    @property
    def order(self) -> list[str]:
        return [what for what, _ in self.lines]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def log(clock: VirtualClock) -> Log:
    return Log(clock)


def spawn(clock: VirtualClock, *names: str, work: object) -> list[threading.Thread]:
    return [clock.start_thread(lambda name=name: work(name), name) for name in names]  # type: ignore[misc, operator]


def test_an_hour_of_sleep_is_an_hour_of_virtual_time(clock: VirtualClock) -> None:
    clock.sleep(HOUR)
    clock.sleep(0.5e-9)  # half a nanosecond: rounded to even
    assert clock.now() == 3600 * 10**9


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(clock: VirtualClock, seconds: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        clock.sleep(seconds)


def test_sleepers_wake_by_deadline_then_in_the_order_of_going_to_sleep(clock: VirtualClock, log: Log) -> None:
    delays = {"a": 2.0, "b": 1.0, "c": 2.0, "d": 1.0, "e": 0.0}

    def work(name: str) -> None:
        clock.sleep(delays[name])
        log(name)

    with clock.taking_part():
        for thread in spawn(clock, *delays, work=work):
            clock.join(thread)
    assert log.lines == [("e", 0.0), ("b", 1.0), ("d", 1.0), ("a", 2.0), ("c", 2.0)]


def test_who_was_woken_by_another_goes_in_order_of_waking_before_time_moves_and_before_the_next_sleeper(
    clock: VirtualClock, log: Log
) -> None:
    events = [clock.event(f"event {number}") for number in range(3)]

    def wait(name: str) -> None:
        events[int(name)].wait()
        log(f"woken {name}")

    def sleeper(name: str) -> None:
        clock.sleep(1.0)
        log(name)
        if name == "first":
            for number in (2, 0, 1):
                events[number].set()

    with clock.taking_part():
        threads = spawn(clock, "0", "1", "2", work=wait) + spawn(clock, "first", "second", work=sleeper)
        for thread in threads:
            clock.join(thread)
    assert log.order == ["first", "woken 2", "woken 0", "woken 1", "second"]
    assert {time for _, time in log.lines} == {1.0}


def test_time_stands_still_while_a_thread_can_run_and_never_goes_back(clock: VirtualClock) -> None:
    seen: list[int] = []

    def work(name: str) -> None:
        for _ in range(20):
            before = clock.now()
            sum(range(1000))
            assert clock.now() == before
            seen.append(before)
            clock.sleep(0.001 * (ord(name) - 96))

    with clock.taking_part():
        for thread in spawn(clock, *"abc", work=work):
            clock.join(thread)
    assert seen == sorted(seen)
    assert clock.now() == 60 * 10**6


def test_no_thread_runs_while_another_does(clock: VirtualClock) -> None:
    inside = threading.Semaphore(1)
    clashes: list[str] = []

    def work(name: str) -> None:
        for turn in range(30):
            if not inside.acquire(blocking=False):
                clashes.append(name)
            sum(range(3000))
            inside.release()
            clock.sleep(0.001 if turn % 2 else 0.0)

    with clock.taking_part():
        for thread in spawn(clock, *"abcdef", work=work):
            clock.join(thread)
    assert clashes == []


def test_locks_are_handed_over_in_the_order_of_asking(clock: VirtualClock, log: Log) -> None:
    lock = clock.lock("the lock")

    def work(name: str) -> None:
        lock.acquire()
        log(name)
        clock.sleep(1.0)
        lock.release()

    with clock.taking_part():
        for thread in spawn(clock, *"abc", work=work):
            clock.join(thread)
    assert log.lines == [("a", 0.0), ("b", 1.0), ("c", 2.0)]
    assert lock.acquire(blocking=False)
    assert not lock.acquire(blocking=False)
    lock.release()
    with pytest.raises(RuntimeError, match="not held"):
        lock.release()


def test_waits_with_a_limit_end_at_their_time_or_before(clock: VirtualClock) -> None:
    event, lock = clock.event("never"), clock.lock("taken")
    with clock.taking_part():
        lock.acquire()
        [sleeper] = spawn(clock, "sleeper", work=lambda name: clock.sleep(10.0))
        assert not event.wait(1.5)
        assert not lock.acquire(timeout=1.5)
        assert not clock.join(sleeper, 1.0)
        assert clock.now() == 4 * 10**9
        assert clock.join(sleeper, 100.0)
        assert clock.now() == 10 * 10**9
        event.set()
        assert event.wait(5.0)
        assert event.is_set()
        event.clear()
        assert not event.is_set()
        lock.release()
    assert clock.now() == 10 * 10**9


def test_a_thread_that_was_woken_in_time_is_not_woken_again_at_its_deadline(clock: VirtualClock, log: Log) -> None:
    event = clock.event("early")

    def waiter(name: str) -> None:
        assert event.wait(5.0)
        log(name)
        clock.sleep(1.0)
        log(name)

    with clock.taking_part():
        [thread] = spawn(clock, "w", work=waiter)
        clock.sleep(2.0)
        event.set()
        clock.join(thread)
        clock.sleep(10.0)
    assert log.lines == [("w", 2.0), ("w", 3.0)]


def test_an_exception_in_one_thread_does_not_stop_the_clock_for_the_others(
    clock: VirtualClock, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhandled: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: unhandled.append(str(args.exc_value)))

    def work(name: str) -> None:
        clock.sleep(1.0)
        if name == "bad":
            raise ValueError("on purpose")
        log(name)

    with clock.taking_part():
        for thread in spawn(clock, "good", "bad", "fine", work=work):
            assert clock.join(thread)
    assert log.order == ["good", "fine"]
    assert unhandled == ["on purpose"]


def test_a_clock_can_be_used_again_and_keeps_no_thread(clock: VirtualClock) -> None:
    before = threading.active_count()
    for round_ in range(1, 4):
        with clock.taking_part():
            for thread in spawn(clock, *"ab", work=lambda name: clock.sleep(1.0)):
                clock.join(thread)
        assert clock.now() == round_ * 10**9
        assert threading.active_count() == before


def test_a_thread_of_the_embedders_own_takes_part_by_registering(clock: VirtualClock, log: Log) -> None:
    ready = threading.Event()

    def own() -> None:
        with clock.taking_part():
            ready.set()
            clock.sleep(1.0)
            log("own")

    thread = threading.Thread(target=own)
    with clock.taking_part():
        thread.start()
        # It asks to take part while this thread runs, so it waits; this one is busy elsewhere for moments only.
        clock.sleep(0.5)
        log("main")
    assert ready.wait(LIMIT)
    thread.join(LIMIT)
    assert sorted(log.order) == ["main", "own"]


def test_a_call_from_outside_wakes_who_waits_for_it(clock: VirtualClock, log: Log) -> None:
    event = clock.event("something from outside", outside=True)
    waiting = threading.Event()

    def work(name: str) -> None:
        waiting.set()
        event.wait()
        log(name)

    [thread] = spawn(clock, "waiter", work=work)
    assert waiting.wait(LIMIT)
    event.set()
    assert clock.join(thread)
    assert log.order == ["waiter"]


# What can go wrong:


def test_a_deadlock_is_an_error_at_once_that_shows_who_waits_for_what(clock: VirtualClock) -> None:
    locks = {"a": clock.lock("lock A"), "b": clock.lock("lock B")}
    errors: dict[str, str] = {}

    def work(name: str) -> None:
        mine, other = (locks["a"], locks["b"]) if name == "first" else (locks["b"], locks["a"])
        mine.acquire()
        clock.sleep(1.0)
        try:
            other.acquire()
            other.release()
        except DeadlockError as error:
            errors[name] = str(error)
        mine.release()

    with clock.taking_part():
        for thread in spawn(clock, "first", "second", work=work):
            assert clock.join(thread)
    assert list(errors) == ["second"]  # the last to wait is told; the others go on
    assert "first: waits for lock B" in errors["second"]
    assert "second: waits for lock A" in errors["second"]
    assert "MainThread: waits for the end of thread 'first'" in errors["second"]


def test_a_wait_that_nobody_can_end_is_an_error_in_the_thread_that_waits(clock: VirtualClock) -> None:
    with pytest.raises(DeadlockError, match="MainThread: waits for Godot"):
        clock.event("Godot").wait()
    clock.sleep(1.0)  # and the clock goes on
    machine = Machine(clock=clock)
    machine.handlers.add(lambda running, state: clock.event("Godot").wait())
    with pytest.raises(ExceptionGroup) as caught:
        machine.start()
    assert isinstance(caught.value.exceptions[0], DeadlockError)
    assert machine.run_state is RunState.RUNNING


def test_a_wait_that_the_outside_can_end_is_no_deadlock_while_somebody_outside_lives(clock: VirtualClock) -> None:
    event = clock.event("the outside", outside=True)
    go = threading.Event()

    def outside() -> None:
        assert go.wait(LIMIT)
        event.set()

    thread = threading.Thread(target=outside)
    thread.start()
    with clock.taking_part():
        go.set()
        assert event.wait()
    thread.join(LIMIT)


def test_a_thread_that_waits_idly_keeps_nobody_from_hearing_of_a_deadlock(clock: VirtualClock) -> None:
    idle = clock.lock("work", idle=True)
    idle.acquire()
    [thread] = spawn(clock, "idle", work=lambda name: idle.acquire())
    with pytest.raises(DeadlockError, match="idle: waits for work"):
        clock.event("Godot").wait()
    idle.release()
    assert clock.join(thread)


def test_a_thread_that_blocks_outside_the_clock_is_named_after_a_limit_of_real_time() -> None:
    clock = VirtualClock(stall_limit_s=0.05)
    release, errors = threading.Event(), []

    def blocker(name: str) -> None:
        clock.sleep(1.0)
        assert release.wait(LIMIT)

    def other(name: str) -> None:
        try:
            clock.sleep(HOUR)
        except StalledError as error:
            errors.append(error)

    with clock.taking_part():
        threads = spawn(clock, "blocker", work=blocker) + spawn(clock, "other", work=other)
        with pytest.raises(StalledError) as caught:
            clock.join(threads[0])
        release.set()
    for thread in threads:
        thread.join(LIMIT)
    text = str(caught.value)
    assert "thread 'blocker'" in text
    assert "last for the end of a sleep of 1 s" in text
    assert "release.wait(LIMIT)" in text  # where it is
    assert "other: waits for the end of a sleep of 3600 s" in text
    assert all(isinstance(error, ClockError) for error in errors)
    clock.sleep(1.0)  # the clock can be used again


def test_a_thread_that_cannot_be_started_leaves_the_clock_as_it_was(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            clock.start_thread(lambda: None, "never")
    clock.sleep(1.0)
    assert clock.now() == 10**9


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_reaches_the_main_thread_and_the_others_finish(clock: VirtualClock, log: Log) -> None:
    def work(name: str) -> None:
        clock.sleep(1.0)
        signal.raise_signal(signal.SIGINT)  # handled by the main thread, which waits
        clock.sleep(1.0)
        log(name)

    with clock.taking_part():
        [thread] = spawn(clock, "worker", work=work)
        with pytest.raises(KeyboardInterrupt):
            clock.join(thread)
        assert clock.join(thread)
    assert log.order == ["worker"]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_that_comes_in_the_moment_before_a_wait_is_heard_all_the_same() -> None:
    clock, over = VirtualClock(stall_limit_s=3600.0), threading.Event()

    def outside() -> None:
        _thread.interrupt_main()  # as a signal that interrupts no wait
        over.wait()

    thread = threading.Thread(target=outside)
    with clock.taking_part():
        never = clock.event("what nobody sets", outside=True)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it may come as soon as the thread starts
            thread.start()
            never.wait()
    over.set()
    thread.join()


class Backwards:
    """A policy that takes the last."""

    def __init__(self) -> None:
        self.choices: list[tuple[list[str], list[str]]] = []

    def choose(self, woken: Sequence[Runnable], due: Sequence[Runnable]) -> int:
        self.choices.append(([each.name for each in woken], [each.name for each in due]))
        return len(woken) + len(due) - 1


def test_another_policy_decides_who_goes_next() -> None:
    policy = Backwards()
    clock = VirtualClock(policy=policy)
    log = Log(clock)

    def work(name: str) -> None:
        clock.sleep(1.0)
        log(name)

    with clock.taking_part():
        for thread in spawn(clock, *"abc", work=work):
            clock.join(thread)
    assert log.order == ["a", "b", "c"]  # started last to first, woken last to first
    assert (["a", "b", "c"], []) in policy.choices


def test_the_same_threads_give_the_same_times_always() -> None:
    def once() -> list[tuple[str, float]]:
        clock = VirtualClock()
        log = Log(clock)
        lock = clock.lock("lock")

        def work(name: str) -> None:
            for step in range(3):
                clock.sleep(0.1 * (ord(name) % 3))
                lock.acquire()
                log(f"{name}{step}")
                clock.sleep(0.05)
                lock.release()

        with clock.taking_part():
            for thread in spawn(clock, *"abcdef", work=work):
                clock.join(thread)
        return log.lines

    first = once()
    assert all(once() == first for _ in itertools.repeat(None, 10))
