import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from suite.handlers import SpyClock, Task, wait_for

from vmstate import BigLock, BigLockError, RealClock

NAME = "big lock of machine 'vm'"


def test_the_holder_knows_that_it_holds_the_lock_and_others_that_they_do_not() -> None:
    lock = BigLock(RealClock())
    assert not lock.held
    with lock as entered:
        assert entered is lock
        assert lock.held
        assert Task(lambda: lock.held).result() is False
    assert not lock.held


def test_the_holder_may_take_it_again_and_gives_it_up_as_often() -> None:
    clock = SpyClock()
    lock = BigLock(clock)
    lock.acquire()
    with lock:
        lock.acquire()
        lock.release()
        assert lock.held
    assert lock.held
    other = Task(lambda: lock.__enter__().held)
    clock.until_somebody_waits_for(NAME)
    assert other.running
    lock.release()
    assert other.result()
    assert not lock.held


def test_m4_another_thread_waits_until_the_lock_is_given_up() -> None:
    clock = SpyClock()
    lock = BigLock(clock)
    log: list[str] = []

    def take() -> None:
        with lock:
            log.append("other")

    with lock:
        other = Task(take)
        clock.until_somebody_waits_for(NAME)
        log.append("holder")
    other.result()
    assert log == ["holder", "other"]


def test_at_most_one_thread_holds_it_at_a_time() -> None:
    lock = BigLock(SpyClock())
    inside: list[int] = []
    begin = threading.Barrier(4)

    def work() -> None:
        begin.wait(10)
        for _ in range(200):
            with lock:
                inside.append(1)
                with lock:
                    assert len(inside) == 1
                inside.pop()

    for task in [Task(work) for _ in range(4)]:
        task.result()
    assert not lock.held


def test_it_is_given_up_when_its_block_raises() -> None:
    lock = BigLock(RealClock())
    with pytest.raises(ValueError, match="inside"), lock:
        raise ValueError("inside")
    assert not lock.held


def test_only_the_holder_can_release_it() -> None:
    lock = BigLock(RealClock(), "src")
    with pytest.raises(BigLockError, match=r"does not hold.*'src'"):
        lock.release()
    with lock:
        with pytest.raises(BigLockError, match="does not hold"):
            Task(lock.release).result()
        assert lock.held


def test_m4_a_barred_thread_is_refused_at_once_while_the_lock_is_held_or_free() -> None:
    lock = BigLock(SpyClock(), "src")

    def attempt() -> bool:
        with lock.barred(), pytest.raises(BigLockError, match=r"must not take the big lock of machine 'src'"):
            lock.acquire()
        return lock.held

    with lock:
        assert Task(attempt).result() is False
    assert Task(attempt).result() is False


def test_m4_the_bar_ends_with_the_outermost_context_also_after_an_error() -> None:
    lock = BigLock(RealClock())

    def work() -> None:
        with lock.barred():
            with lock.barred():
                pass
            with pytest.raises(BigLockError):
                lock.acquire()
            raise ValueError("work")

    with pytest.raises(ValueError, match="work"):
        work()
    with lock:
        assert lock.held


def test_m4_the_bar_is_for_one_thread_and_one_lock() -> None:
    lock, other = BigLock(RealClock()), BigLock(RealClock())
    with lock.barred():
        with other:
            assert other.held
        assert Task(lambda: lock.__enter__().held).result()


def test_refuse_barred_says_what_was_tried_and_what_to_do() -> None:
    lock = BigLock(RealClock(), "src")
    lock.refuse_barred("start")
    with lock.barred(), pytest.raises(BigLockError, match=r"must not start machine 'src'.*ordinary handler"):
        lock.refuse_barred("start")


class CountingClock(RealClock):
    """Keeps count of who takes part; its locks can be told to fail."""

    def __init__(self) -> None:
        self.taking_part_now: list[int] = []

    @contextmanager
    def taking_part(self) -> Iterator[None]:
        self.taking_part_now.append(threading.get_ident())
        yield
        self.taking_part_now.remove(threading.get_ident())


def test_whoever_holds_or_waits_for_the_lock_takes_part_in_the_clock() -> None:
    clock = CountingClock()
    lock = BigLock(clock)
    assert lock.clock is clock
    with lock, lock:
        assert clock.taking_part_now == [threading.get_ident()]
    assert clock.taking_part_now == []


def test_a_thread_whose_wait_is_interrupted_takes_part_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            raise KeyboardInterrupt

        def release(self) -> None:
            raise AssertionError("was never taken")

    clock = CountingClock()
    monkeypatch.setattr(CountingClock, "lock", lambda _clock, _name: Interrupted())
    lock = BigLock(clock)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    assert clock.taking_part_now == []
    assert not lock.held


def test_a_thread_that_waits_takes_part_while_it_waits() -> None:
    class Clock(SpyClock, CountingClock):
        def __init__(self) -> None:
            SpyClock.__init__(self)
            CountingClock.__init__(self)

    clock = Clock()
    lock = BigLock(clock)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            wait_for(go_on)

    holder = Task(hold)
    wait_for(held)
    waiter = Task(lambda: lock.__enter__().release())
    clock.until_somebody_waits_for(NAME)
    assert len(clock.taking_part_now) == 2
    go_on.set()
    holder.result()
    waiter.result()
    assert clock.taking_part_now == []
