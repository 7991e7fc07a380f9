"""Entries that come and go from several threads while passes are walked: random programs, whatever the schedule."""

import threading
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from vmstate import HandlerEntry, HandlerList, RunState

LIMIT = 30.0
PRIORITIES = st.integers(-3, 3)
# What each thread does: add at a priority, or remove one of its own (by its place among them).
PROGRAMS = st.lists(
    st.lists(st.one_of(PRIORITIES, st.tuples(st.integers(0, 20))), min_size=1, max_size=30), min_size=1, max_size=4
)


class Calls:
    """What one pass called, in order; entries are told apart by priority and order of registration."""

    def __init__(self) -> None:
        self.passes: list[list[tuple[int, int]]] = []

    def callback(self, priority: int, number: int) -> Callable[[bool, RunState], None]:
        return lambda running, state: self.passes[-1].append((priority, number))


@settings(max_examples=60)
@given(PROGRAMS, st.lists(PRIORITIES, min_size=1, max_size=10))
def test_every_pass_is_in_order_and_calls_all_that_stay(programs: list[list[object]], staying: list[int]) -> None:
    handlers, calls = HandlerList(), Calls()
    numbers = iter(range(10**9))
    lock = threading.Lock()

    def add(priority: int) -> HandlerEntry:
        with lock:  # so that numbers are given in the order of registration
            return handlers.add(calls.callback(priority, next(numbers)), priority=priority)

    for priority in staying:
        add(priority)
    permanent = {(priority, number) for number, priority in enumerate(staying)}
    start = threading.Barrier(len(programs) + 1)
    left: list[list[HandlerEntry]] = [[] for _ in programs]

    def work(program: list[object], mine: list[HandlerEntry]) -> None:
        start.wait(LIMIT)
        for step in program:
            if isinstance(step, int):
                mine.append(add(step))
            elif isinstance(step, tuple) and mine:
                mine.pop(step[0] % len(mine)).remove()

    threads = [
        threading.Thread(target=work, args=(program, mine)) for program, mine in zip(programs, left, strict=True)
    ]
    for thread in threads:
        thread.start()
    start.wait(LIMIT)
    running = False
    while any(thread.is_alive() for thread in threads) or len(calls.passes) < 2:
        running = not running
        calls.passes.append([])
        handlers.notify(running, RunState.RUNNING if running else RunState.PAUSED)
        called = calls.passes[-1]
        assert called == sorted(set(called), reverse=not running)
        assert permanent <= set(called)
    for thread in threads:
        thread.join(LIMIT)
    remaining = {entry for mine in left for entry in mine}
    assert len(handlers) == len(staying) + len(remaining)
    assert remaining <= set(handlers)
    calls.passes.append([])
    handlers.notify(True, RunState.RUNNING)
    assert len(calls.passes[-1]) == len(handlers)
    assert calls.passes[-1] == sorted(calls.passes[-1])
