"""Exploring: which orders are met, which faults are found, and that what is right gives no alarm. Rules X1 to X4."""

import gc
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from suite import faults

from vmstate import ClockError, DeadlockError, VirtualClock
from vmstate.exploring import Exploration, ScheduleFailure, TooManyChoicesError, checkpoint, explore, replay

FAULTS: dict[str, dict[str, Any]] = {
    "lost_update": {"preempt": (faults.Counter,)},
    "crosswise": {},
    "depth_three": {},
    "quick_device": {"timing": "any"},
    "missing_join": {},
}
RIGHT: dict[str, dict[str, Any]] = {
    "no_lost_update": {"preempt": (faults.LockedCounter,)},
    "no_lost_update_at_a_checkpoint": {},
    "not_crosswise": {},
    "any_order": {},
    "waited_for_device": {"timing": "any"},
    "no_missing_join": {},
}
FEW_HUNDRED = 300


@pytest.mark.parametrize(
    ("threads", "steps", "orders", "trailing"),
    [
        (2, 3, 20, False),
        (2, 4, 70, False),
        (3, 2, 90, False),
        (2, 3, 20, True),
        (2, 4, 70, True),
        pytest.param(3, 2, 90, True, marks=pytest.mark.slow),
    ],
)
def test_exhaustive_meets_all_orders_and_says_that_these_are_all(
    threads: int, steps: int, orders: int, *, trailing: bool
) -> None:
    met: set[str] = set()

    def test(clock: VirtualClock) -> None:
        order: list[str] = []

        def work(name: str) -> None:
            for step in range(steps):
                order.append(name)
                if trailing or step < steps - 1:
                    checkpoint()

        faults.run_all(clock, *(lambda name=name: work(name) for name in "abc"[:threads]))
        met.add("".join(order))

    exploration = explore(test, policy="exhaustive", schedules=10_000)
    assert len(met) == orders
    assert exploration.complete
    assert exploration.seen == pytest.approx(1.0)


def orders_of(threads: int, steps: int, **options: Any) -> tuple[list[str], Exploration]:
    """Explore threads that nobody joins, so that every schedule is an order of its own."""
    met: list[str] = []

    def test(clock: VirtualClock) -> None:
        order: list[str] = []

        def work(name: str) -> None:
            for step in range(steps):
                order.append(name)
                if step < steps - 1:
                    checkpoint()
            if len(order) == threads * steps:
                met.append("".join(order))

        for name in "abc"[:threads]:
            clock.start_thread(lambda name=name: work(name), name)  # type: ignore[misc]

    return met, explore(test, policy=options.pop("policy", "exhaustive"), **options)


@pytest.mark.parametrize(
    ("threads", "steps", "orders"),
    [(2, 3, 20), (2, 4, 70), (3, 2, 90), pytest.param(3, 3, 1680, marks=pytest.mark.slow)],
)
def test_exhaustive_meets_each_order_once(threads: int, steps: int, orders: int) -> None:
    met, exploration = orders_of(threads, steps, schedules=2000)
    assert len(met) == len(set(met)) == exploration.schedules == orders
    assert exploration.complete


def preemptions(order: str) -> int:
    """Count how often a thread that could go on did not."""
    return sum(1 for place, (one, other) in enumerate(pairwise(order), 1) if one != other and one in order[place:])


def test_exhaustive_takes_those_with_few_preemptions_first() -> None:
    met, _ = orders_of(2, 4)
    counts = [preemptions(order) for order in met]
    assert counts == sorted(counts)
    assert counts[0] == 0


def test_a_bound_on_preemptions_leaves_out_just_those_with_more_and_is_not_complete() -> None:
    everything, _ = orders_of(2, 4)
    met, exploration = orders_of(2, 4, policy="exhaustive:2")
    assert set(met) == {order for order in everything if preemptions(order) <= 2}
    assert not exploration.complete
    assert exploration.seen is not None
    assert 0 < exploration.seen < 1
    _, exploration = orders_of(2, 4, policy="exhaustive:9")
    assert exploration.complete  # the bound has cut nothing


def test_exhaustive_stops_after_as_many_as_it_may_try() -> None:
    met, exploration = orders_of(2, 4, schedules=10)
    assert len(met) == exploration.schedules == 10
    assert not exploration.complete


@pytest.mark.parametrize("policy", ["pct", "random", "exhaustive"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_shrunk_and_replayed_100_times_of_100(name: str, policy: str) -> None:
    test = getattr(faults, name)
    exploration = explore(test, policy=policy, schedules=FEW_HUNDRED, **FAULTS[name])
    failure = exploration.failure
    assert failure is not None
    assert exploration.schedules <= FEW_HUNDRED
    cause = failure.__cause__
    assert cause is not None
    assert len(failure.schedule) <= 160  # a line or two
    for _ in range(100):
        with pytest.raises(type(cause)) as caught:
            replay(test, failure.schedule)
        assert str(caught.value) == str(cause)


@pytest.mark.parametrize("policy", ["pct", "random", "exhaustive"])
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_gives_no_alarm(name: str, policy: str) -> None:
    explore(getattr(faults, name), policy=policy, schedules=FEW_HUNDRED, **RIGHT[name]).check()


def test_another_seed_draws_other_schedules_and_the_same_seed_the_same() -> None:
    def drawn(seed: int) -> list[str]:
        return orders_of(3, 3, policy="random", schedules=20, seed=seed)[0]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


# What a choice is: rule X1


def test_threads_switch_between_any_two_lines_and_who_yields_may_go_on() -> None:
    between: set[tuple[str, str]] = set()

    def test(clock: VirtualClock) -> None:
        lines: list[str] = []

        def work(name: str) -> None:
            lines.append(f"{name}1")
            lines.append(f"{name}2")
            lines.append(f"{name}3")

        for name in "ab":
            clock.start_thread(lambda name=name: work(name), name)  # type: ignore[misc]
        clock.sleep(1.0)
        between.update(pairwise(lines))

    explore(test, policy="exhaustive")
    assert between == {("a1", "a2"), ("a2", "a3"), ("a3", "b1"), ("b1", "b2"), ("b2", "b3"), ("b3", "a1")}
    explore(test, policy="random", preempt=(test,), schedules=300)
    assert {("a1", "a2"), ("a2", "a3"), ("a1", "b1"), ("b1", "a2"), ("a2", "b1"), ("b2", "a3")} <= between


def test_code_that_is_not_named_is_not_preempted() -> None:
    exploration = explore(faults.lost_update, policy="exhaustive", preempt=(faults.LockedCounter,))
    assert exploration.failure is None
    assert exploration.complete


def test_to_start_a_thread_is_no_choice() -> None:
    started: set[int] = set()

    def test(clock: VirtualClock) -> None:
        ran: list[str] = []
        for name in "abc":
            clock.start_thread(lambda: ran.append("x"), name)
            started.add(len(ran))

    assert explore(test, policy="exhaustive").complete
    assert started == {0}


def test_a_checkpoint_does_nothing_outside_an_exploration() -> None:
    checkpoint()
    clock = VirtualClock()
    with clock.taking_part():
        thread = clock.start_thread(lambda: None, "other")
        checkpoint()
        assert thread.is_alive()
        clock.join(thread)


def test_lines_cost_nothing_after_an_exploration() -> None:
    explore(faults.lost_update, preempt=(faults.Counter,))
    with VirtualClock().taking_part():
        counter = faults.Counter()
        counter.add()
    assert threading.Lock is not None
    assert type(threading.Lock()).__module__ == "_thread"


# Durations: rule X2


def test_a_sleeper_is_overtaken_and_time_never_goes_back() -> None:
    orders: set[str] = set()

    def test(clock: VirtualClock) -> None:
        order, times = [], []

        def work(name: str, seconds: float) -> None:
            clock.sleep(seconds)
            order.append(name)
            times.append(clock.now())

        faults.run_all(clock, lambda: work("a", 1.0), lambda: work("b", 3600.0))
        orders.add("".join(order))
        assert times == sorted(times)

    explore(test, policy="exhaustive").check()
    assert orders == {"ab"}
    exploration = explore(test, policy="exhaustive", timing="any")
    exploration.check()
    assert exploration.complete
    assert orders == {"ab", "ba"}


def test_a_time_out_does_not_come_while_anybody_can_go_on() -> None:
    def test(clock: VirtualClock) -> None:
        ready = clock.event("ready")

        def slow() -> None:
            for _ in range(3):
                clock.sleep(3600.0)
            ready.set()

        clock.start_thread(slow, "slow")
        assert ready.wait(0.001)
        assert not clock.event("never").wait(0.001)

    exploration = explore(test, policy="exhaustive", timing="any")
    exploration.check()
    assert exploration.complete


# Failures: rule X4


def test_a_failure_says_what_was_raised_where_and_in_which_lanes() -> None:
    exploration = explore(faults.lost_update, preempt=(faults.Counter,))
    failure = exploration.failure
    assert isinstance(failure, ScheduleFailure)
    assert isinstance(failure.__cause__, AssertionError)
    with pytest.raises(ScheduleFailure) as caught:
        exploration.check()
    assert caught.value is failure
    text = str(failure)
    assert failure.schedule in text
    assert "1 switch, marked *" in text
    assert "self.n = x + 1" in text  # the line before which it switched
    assert "a reads n at faults.py" in text
    assert "b writes n at faults.py" in text
    lanes = [line for line in text.splitlines() if line.startswith("  ") and "|" in line]
    assert sum("*" in line for line in lanes) == 1


def test_a_deadlock_is_the_clock_s_error_and_says_who_waits_for_whom() -> None:
    failure = explore(faults.crosswise).failure
    assert failure is not None
    assert isinstance(failure.__cause__, DeadlockError)
    assert "a: waits for right" in str(failure.__cause__)
    assert "b: waits for left" in str(failure.__cause__)


def test_a_deadlock_that_everybody_shrugs_off_is_a_failure_all_the_same() -> None:
    def test(clock: VirtualClock) -> None:
        with suppress(ClockError):
            clock.event("Godot").wait()

    failure = explore(test).failure
    assert failure is not None
    assert "Godot" in str(failure.__cause__)


def test_a_thread_that_raises_is_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    def test(clock: VirtualClock) -> None:
        def bad() -> None:
            raise OSError("on purpose")

        faults.run_all(clock, bad)

    failure = explore(test).failure
    assert failure is not None
    assert isinstance(failure.__cause__, OSError)
    with pytest.raises(OSError, match="on purpose"):
        replay(test, failure.schedule)
    assert capfd.readouterr().err == ""


def test_a_thread_that_nobody_joins_fails_its_schedule_too_and_none_is_left() -> None:
    before = threading.active_count()

    def test(clock: VirtualClock) -> None:
        idle = clock.lock("work", idle=True)
        idle.acquire()
        clock.start_thread(idle.acquire, "parked")
        clock.start_thread(lambda: 1 / 0, "left alone")

    failure = explore(test, schedules=5).failure
    assert failure is not None
    assert isinstance(failure.__cause__, ZeroDivisionError)
    assert threading.active_count() == before


def test_a_loop_that_spins_ends_with_an_error_that_says_so() -> None:
    def test(clock: VirtualClock) -> None:
        flag: list[bool] = []

        def spin() -> None:
            while not flag:
                checkpoint()

        faults.run_all(clock, spin, lambda: flag.append(True))

    explore(test, policy="random", schedules=20).check()
    explore(test, policy="pct", schedules=20).check()
    explore(test, policy="exhaustive", schedules=20).check()

    def for_ever(clock: VirtualClock) -> None:
        def spin() -> None:
            while True:
                checkpoint()

        faults.run_all(clock, spin, spin)

    failure = explore(for_ever, policy="exhaustive", schedules=5).failure
    assert failure is not None
    assert isinstance(failure.__cause__, TooManyChoicesError)
    assert "spins" in str(failure.__cause__)


def test_a_test_that_does_not_fail_again_is_told_so() -> None:
    runs: list[int] = []

    def test(clock: VirtualClock) -> None:
        runs.append(1)
        assert len(runs) != 3

    failure = explore(test).failure
    assert failure is not None
    assert "not when the same schedule was run again" in str(failure)


def test_ctrl_c_is_no_failure_of_the_test() -> None:
    def test(clock: VirtualClock) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(test)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_an_exploration_of_what_makes_a_result_of_it() -> None:
    runs: list[int] = []

    def test(clock: VirtualClock) -> None:
        runs.append(1)
        with suppress(KeyboardInterrupt):
            if len(runs) == 3:
                signal.raise_signal(signal.SIGINT)
            clock.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        explore(test)
    assert len(runs) == 3


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_that_raises_nothing_ends_no_exploration() -> None:
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))

    def test(clock: VirtualClock) -> None:
        signal.raise_signal(signal.SIGINT)
        clock.sleep(0.1)

    assert explore(test, policy="random", schedules=3).failure is None
    assert pressed == [signal.SIGINT] * 3


@pytest.mark.parametrize(
    "options",
    [{"policy": "best"}, {"policy": "pct:3"}, {"timing": "some"}, {"schedules": 0}, {"depth": 0}],
    ids=str,
)
def test_what_there_is_not_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        explore(faults.any_order, **options)


@pytest.mark.parametrize(
    ("test", "error"),
    [("suite.faults", ValueError), ("suite.faults:none", AttributeError), ("suite.none:f", ImportError)],
)
def test_a_test_that_there_is_not_is_refused(test: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        explore(test)


# Executors


class Dying(Executor):
    """An executor whose workers die with every second piece."""

    def __init__(self) -> None:
        self.number = 0

    def submit(self, work: Any, /, *arguments: Any, **options: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        self.number += 1
        if self.number % 2:
            future.set_exception(BrokenProcessPool("died on purpose"))
        else:
            future.set_result(work(*arguments, **options))
        return future


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["pct", "random", "exhaustive"])
@pytest.mark.parametrize("name", ["depth_three", "lost_update", "any_order"])
def test_results_do_not_depend_on_who_runs_the_schedules(name: str, policy: str) -> None:
    def result(executor: Executor | None) -> tuple[Any, ...]:
        options = {"policy": policy, "schedules": 120, "seed": 3, **FAULTS.get(name, {})}
        found = explore(f"suite.faults:{name}", executor=executor, **options)
        return found.schedules, found.complete, found.seen, found.failure and str(found.failure)

    alone = result(None)
    with ThreadPoolExecutor(2) as threads:
        assert result(threads) == alone
    assert result(Dying()) == alone


@pytest.mark.slow
def test_processes_come_to_the_same() -> None:
    with ProcessPoolExecutor(2) as processes:
        for name in ("depth_three", "any_order"):
            found = explore(f"suite.faults:{name}", executor=processes, schedules=200)
            alone = explore(f"suite.faults:{name}", schedules=200)
            assert (found.schedules, str(found.failure)) == (alone.schedules, str(alone.failure))


def test_processes_that_cannot_be_given_a_test_say_how_they_can() -> None:
    with ProcessPoolExecutor(1) as processes, pytest.raises(Exception, match=r"pickle|local object") as caught:
        explore(lambda clock: None, executor=processes)
    assert "module:function" in "".join(caught.value.__notes__)


def test_the_collector_rests_in_a_schedule_so_that_no_finalizer_is_stopped_within_the_clock() -> None:
    seen: list[bool] = []

    def test(clock: VirtualClock) -> None:
        seen.append(gc.isenabled())
        faults.run_all(clock, lambda: seen.append(gc.isenabled()))

    explore(test, schedules=2).check()
    assert set(seen) == {False}
    assert gc.isenabled()
