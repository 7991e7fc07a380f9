"""Locks of `threading` in an exploration: waited for through the clock, and otherwise what they always were."""

import threading
from typing import Any

import pytest
from suite import faults

from vmstate import DeadlockError, VirtualClock
from vmstate.exploring import checkpoint, explore


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_plain_lock_keeps_others_out_and_is_handed_on(kind: str) -> None:
    def test(clock: VirtualClock) -> None:
        lock: Any = getattr(threading, kind)()
        inside: list[str] = []
        done: list[str] = []

        def work(name: str) -> None:
            with lock:
                if kind == "RLock":
                    with lock:
                        checkpoint()
                inside.append(name)
                checkpoint()
                assert inside == [name]
                inside.clear()
            done.append(name)

        faults.run_all(clock, lambda: work("a"), lambda: work("b"), lambda: work("c"))
        assert sorted(done) == ["a", "b", "c"]
        assert not lock._is_owned() if kind == "RLock" else not lock.locked()

    for policy in ("random", "pct"):
        explore(test, policy=policy, schedules=100).check()


def test_a_plain_lock_that_is_taken_is_not_waited_for_if_nobody_wants_to() -> None:
    def test(clock: VirtualClock) -> None:
        lock = threading.Lock()
        with lock:
            faults.run_all(clock, lambda: refused(clock, lock))
        assert lock.acquire(blocking=False)

    def refused(clock: VirtualClock, lock: Any) -> None:
        assert lock.locked()
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=5.0)
        assert clock.now() == 5 * 10**9

    explore(test, schedules=10).check()


def test_a_deadlock_of_plain_locks_is_one_and_names_where_they_were_made() -> None:
    def test(clock: VirtualClock) -> None:
        one, other = threading.Lock(), threading.Lock()

        def both(first: Any, second: Any) -> None:
            with first:
                checkpoint()
                with second:
                    pass

        faults.run_all(clock, lambda: both(one, other), lambda: both(other, one))

    failure = explore(test).failure
    assert failure is not None
    assert isinstance(failure.__cause__, DeadlockError)
    assert "a: waits for the plain lock of " in str(failure.__cause__)


def test_locks_that_the_standard_library_makes_and_those_of_other_threads_are_as_ever() -> None:
    kinds: list[str] = []
    outside: list[Any] = []

    def test(clock: VirtualClock) -> None:
        kinds.append(type(threading.Event()._cond._lock).__module__)  # type: ignore[attr-defined]
        outside.append(threading.Lock())

    explore(test, schedules=1).check()
    assert kinds == ["_thread"]
    (lock,) = outside
    with lock:  # it may be kept, and used in real time
        assert not lock.acquire(timeout=0.001)
    assert lock.acquire()
