"""Small programs with a fault that only some schedules show, and the same ones put right."""

import threading
from collections.abc import Callable

from vmstate import VirtualClock
from vmstate.exploring import checkpoint


class Counter:
    """Adds in two steps."""

    def __init__(self) -> None:
        self.n = 0

    def add(self) -> None:
        x = self.n
        self.n = x + 1


class LockedCounter(Counter):
    """Adds in two steps under a plain lock."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def add(self) -> None:
        with self.lock:
            x = self.n
            self.n = x + 1


def run_all(clock: VirtualClock, *works: Callable[[], object]) -> None:
    """Run each in a thread called a, b, c..., and join all."""
    names = "abcdefgh"
    threads = [clock.start_thread(work, names[number]) for number, work in enumerate(works)]
    for thread in threads:
        clock.join(thread)


def lost_update(clock: VirtualClock) -> None:
    counter = Counter()
    run_all(clock, counter.add, counter.add)
    assert counter.n == 2


def no_lost_update(clock: VirtualClock) -> None:
    counter = LockedCounter()
    run_all(clock, counter.add, counter.add)
    assert counter.n == 2


def no_lost_update_at_a_checkpoint(clock: VirtualClock) -> None:
    counter, lock = Counter(), threading.Lock()

    def add() -> None:
        with lock:
            x = counter.n
            checkpoint()
            counter.n = x + 1

    run_all(clock, add, add)
    assert counter.n == 2


def crosswise(clock: VirtualClock) -> None:
    left, right = clock.lock("left"), clock.lock("right")
    run_all(clock, lambda: _both(left, right), lambda: _both(right, left))


def not_crosswise(clock: VirtualClock) -> None:
    left, right = clock.lock("left"), clock.lock("right")
    run_all(clock, lambda: _both(left, right), lambda: _both(left, right))


def _both(first: object, second: object) -> None:
    for lock in (first, second):
        lock.acquire()  # type: ignore[attr-defined]
    for lock in (second, first):
        lock.release()  # type: ignore[attr-defined]


def depth_three(clock: VirtualClock) -> None:
    """Goes wrong only in the order a, b, a, b: three orderings of two threads."""
    order: list[str] = []

    def steps(name: str) -> None:
        for _ in range(2):
            order.append(name)
            checkpoint()

    run_all(clock, lambda: steps("a"), lambda: steps("b"))
    assert order != ["a", "b", "a", "b"]


def any_order(clock: VirtualClock) -> None:
    order: list[str] = []

    def steps(name: str) -> None:
        for _ in range(2):
            order.append(name)
            checkpoint()

    run_all(clock, lambda: steps("a"), lambda: steps("b"))
    assert sorted(order) == ["a", "a", "b", "b"]


def quick_device(clock: VirtualClock) -> None:
    """Right as long as 10 ms are less than 50 ms."""
    done: list[str] = []

    def device() -> None:
        clock.sleep(0.010)
        done.append("device")

    def handler() -> None:
        clock.sleep(0.050)
        assert done == ["device"]

    run_all(clock, device, handler)


def waited_for_device(clock: VirtualClock) -> None:
    done: list[str] = []
    ready = clock.event("the device")

    def device() -> None:
        clock.sleep(0.010)
        done.append("device")
        ready.set()

    def handler() -> None:
        clock.sleep(0.050)
        assert ready.wait(1.0)  # a time-out comes when nobody else can go on, so never here
        assert done == ["device"]

    run_all(clock, device, handler)


def missing_join(clock: VirtualClock) -> None:
    done: list[str] = []
    first, _ = (clock.start_thread(lambda name=name: done.append(name), name) for name in "ab")  # type: ignore[misc]
    clock.join(first)
    assert sorted(done) == ["a", "b"]


def no_missing_join(clock: VirtualClock) -> None:
    done: list[str] = []
    run_all(clock, lambda: done.append("a"), lambda: done.append("b"))
    assert sorted(done) == ["a", "b"]
