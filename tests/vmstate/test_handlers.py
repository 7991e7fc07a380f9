import math
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.handlers import (
    SpyClock,
    Task,
    directly,
    elsewhere,
    ignore,
    kinds,
    noting,
    raising,
    returning,
    wait_for,
)

from vmstate import BigLock, HandlerEntry, HandlerList, NestedNotificationError, PassKind, RunState

RUNNING, PAUSED = RunState.RUNNING, RunState.PAUSED
both_directions = pytest.mark.parametrize("running", [True, False], ids=["starting", "stopping"])


def state_of(running: bool) -> RunState:
    return RUNNING if running else PAUSED


# Entries: rule E1


@pytest.mark.parametrize(
    ("callbacks", "error", "message"),
    [
        ({}, ValueError, "at least one callback"),
        ({"cb": ignore, "cb_ret": returning(0)}, ValueError, "not both"),
        ({"cb": 5}, TypeError, "callable"),
        ({"cb_ret": "x"}, TypeError, "callable"),
        ({"cb": ignore, "prepare_cb": 5}, TypeError, "callable"),
        ({"cb": ignore, "priority": 1.0}, TypeError, "float"),
    ],
)
def test_e1_a_bad_entry_is_refused_and_leaves_no_trace(
    callbacks: dict[str, Any], error: type[Exception], message: str
) -> None:
    entries = HandlerList()
    with pytest.raises(error, match=message):
        entries.add(**callbacks)
    assert len(entries) == 0
    assert list(entries) == []


@both_directions
def test_e1_every_callback_gets_the_direction_and_the_state(running: bool) -> None:
    entries = HandlerList()
    calls: list[tuple[str, bool, RunState]] = []

    def with_result(now_running: bool, state: RunState) -> int:
        calls.append(("cb_ret", now_running, state))
        return 0

    entries.add(lambda now_running, state: calls.append(("cb", now_running, state)))
    entries.add(cb_ret=with_result, prepare_cb=lambda now_running, state: calls.append(("prepare", now_running, state)))
    entries.notify(running, RunState.COLO)
    mains = ["cb", "cb_ret"] if running else ["cb_ret", "cb"]
    assert calls == [(name, running, RunState.COLO) for name in ["prepare", *mains]]


# Order: rules E2, E3


def test_e2_entries_are_in_ascending_priority_and_in_order_of_registration() -> None:
    entries = HandlerList()
    names = ["a5", "b0", "c5", "d-3", "e0", "f5"]
    for name in names:
        entries.add(ignore, priority=int(name[1:]), name=name)
    assert [entry.name for entry in entries] == ["d-3", "b0", "e0", "a5", "c5", "f5"]
    entries.add(ignore, priority=0, name="g0")  # the order was settled before
    assert [entry.name for entry in entries] == ["d-3", "b0", "e0", "g0", "a5", "c5", "f5"]
    assert [entry.priority for entry in entries] == [-3, 0, 0, 0, 5, 5, 5]
    assert len(entries) == 7


def test_e3_both_passes_ascend_when_starting_and_are_exactly_reversed_when_stopping() -> None:
    entries = HandlerList()
    log: list[str] = []
    for name, priority in [("a", 1), ("b", 0), ("c", 1), ("d", -(10**30)), ("e", 10**30)]:
        entries.add(noting(log, name), prepare_cb=noting(log, name.upper()), priority=priority)
    assert entries.notify(True, RUNNING) == 0
    assert "".join(log) == "DBACE" + "dbace"
    log.clear()
    assert entries.notify(False, PAUSED) == 0
    assert "".join(log) == "ECABD" + "ecabd"


def test_an_iteration_shows_the_entries_as_they_were_when_it_began() -> None:
    entries = HandlerList()
    first, second = entries.add(ignore), entries.add(ignore)
    iteration = iter(entries)
    second.remove()
    entries.add(ignore)
    assert list(iteration) == [first, second]


@both_directions
def test_a_list_without_entries_can_be_notified(running: bool) -> None:
    assert HandlerList().notify(running, state_of(running)) == 0


# Failures: rule E4


def test_e4_stopping_returns_the_or_of_all_results_and_starting_returns_0() -> None:
    entries = HandlerList()
    for priority, result in enumerate([1, 4, 0, 4]):
        entries.add(cb_ret=returning(result), priority=priority)
    entries.add(lambda _running, _state: 64)  # a cb's result counts for nothing
    entries.add(ignore, prepare_cb=lambda _running, _state: 64)
    assert entries.notify(False, PAUSED) == 5
    assert entries.notify(True, RUNNING) == 0
    with entries.add(cb_ret=returning(-5)):
        assert entries.notify(False, PAUSED) == -5 | 5
    assert entries.notify(False, PAUSED) == 5  # nothing is left over


@both_directions
def test_e4_an_exception_cuts_no_pass_short_and_all_are_raised_together_in_order(running: bool) -> None:
    entries = HandlerList()
    log: list[str] = []
    errors = [ValueError("prepare"), KeyError("main"), RuntimeError("result")]
    first, second, third = (0, 1, 2) if running else (2, 1, 0)
    entries.add(noting(log, "a"), prepare_cb=noting(log, "A", raising(errors[0])), priority=first)
    entries.add(noting(log, "b", raising(errors[1])), prepare_cb=noting(log, "B"), priority=second)

    def failing(_running: bool, _state: RunState) -> int:
        log.append("c")
        raise errors[2]

    entries.add(cb_ret=failing, prepare_cb=noting(log, "C"), priority=third)
    with pytest.raises(ExceptionGroup) as caught:
        entries.notify(running, state_of(running))
    assert list(caught.value.exceptions) == errors
    assert "".join(log) == "ABCabc"
    assert not entries.big_lock.held


@pytest.mark.parametrize("alone", [KeyboardInterrupt(), SystemExit(3)], ids=["Ctrl-C", "exit"])
def test_e4_an_interrupt_alone_is_raised_as_itself_after_the_passes(alone: BaseException) -> None:
    entries = HandlerList()
    log: list[str] = []
    entries.add(noting(log, "a"), prepare_cb=noting(log, "A", raising(alone)))
    entries.add(noting(log, "b"), prepare_cb=noting(log, "B"), priority=1)
    with pytest.raises(type(alone)) as caught:
        entries.notify(True, RUNNING)
    assert caught.value is alone
    assert "".join(log) == "ABab"


@pytest.mark.parametrize(
    "errors",
    [
        (KeyboardInterrupt(), ValueError()),
        (ValueError(), SystemExit()),
        (KeyboardInterrupt(), KeyboardInterrupt()),
    ],
)
def test_e4_an_interrupt_among_others_makes_it_a_base_exception_group(
    errors: tuple[BaseException, BaseException],
) -> None:
    entries = HandlerList()
    for error in errors:
        entries.add(noting([], "", raising(error)))
    with pytest.raises(BaseExceptionGroup) as caught:
        entries.notify(True, RUNNING)
    assert not isinstance(caught.value, ExceptionGroup)
    assert caught.value.exceptions == errors


@pytest.mark.parametrize("error", [StopIteration(), GeneratorExit()])
def test_e4_no_kind_of_exception_ends_the_walk_early(error: BaseException) -> None:
    entries = HandlerList()
    log: list[str] = []
    entries.add(noting(log, "a", raising(error)))
    entries.add(noting(log, "b"))
    with pytest.raises((BaseExceptionGroup, GeneratorExit)):
        entries.notify(True, RUNNING)
    assert log == ["a", "b"]


def test_e4_a_cb_ret_that_returns_no_int_is_an_error_when_stopping_only() -> None:
    entries = HandlerList()
    nothing: Any = ignore
    entries.add(cb_ret=nothing)
    assert entries.notify(True, RUNNING) == 0
    with pytest.raises(ExceptionGroup) as caught:
        entries.notify(False, PAUSED)
    assert kinds(caught.value.exceptions) == [TypeError]


# Entries that come and go in a pass: rule E5


class Scene:
    """Entries in one pass of one direction, at *places* in the order of the walk whatever the direction."""

    def __init__(self, running: bool, kind: PassKind) -> None:
        self.running = running
        self.kind = kind
        self.entries = HandlerList()
        self._log: list[str] = []
        self._named: dict[str, HandlerEntry] = {}

    def put(self, place: int, name: str, *actions: Callable[[], object]) -> HandlerEntry:
        callback = noting(self._log, name, *actions)
        priority = place if self.running else -place
        if self.kind is PassKind.MAIN:
            entry = self.entries.add(callback, priority=priority)
        else:
            entry = self.entries.add(prepare_cb=callback, priority=priority)
        self._named[name] = entry
        return entry

    def remover(self, name: str) -> Callable[[], object]:
        """An action that removes the entry that has this name by then."""

        def remove() -> None:
            self._named[name].remove()

        return remove

    def put_silent(self, place: int) -> HandlerEntry:
        """Put an entry that has nothing to call in this kind of pass."""
        priority = place if self.running else -place
        if self.kind is PassKind.MAIN:
            return self.entries.add(prepare_cb=ignore, priority=priority)
        return self.entries.add(ignore, priority=priority)

    def walk(self) -> str:
        """Notify; the names of those who were called, in order."""
        self._log.clear()
        self.entries.notify(self.running, state_of(self.running))
        return "".join(self._log)


@pytest.fixture(
    params=[(running, kind) for running in (True, False) for kind in PassKind],
    ids=lambda case: f"{'start' if case[0] else 'stop'}-{case[1]}",
)
def scene(request: pytest.FixtureRequest) -> Scene:
    running, kind = request.param
    return Scene(running, kind)


def once(action: Callable[[], object]) -> Callable[[], object]:
    """Do it the first time only."""
    todo = [action]
    return lambda: todo.pop()() if todo else None


Where = Callable[[Callable[[], object]], Callable[[], object]]
from_any_thread = pytest.mark.parametrize("where", [directly, elsewhere])


@from_any_thread
@pytest.mark.parametrize(
    ("place", "this_pass", "next_pass"),
    [
        (5, "ABC", "XABC"),  # behind
        (15, "ABC", "AXBC"),  # between the current and the settled next
        (25, "ABXC", "ABXC"),  # beyond the next
        (35, "ABCX", "ABCX"),  # at the very end
    ],
)
def test_e5_only_what_is_added_beyond_the_settled_next_is_called_in_this_pass(
    scene: Scene, where: Where, place: int, this_pass: str, next_pass: str
) -> None:
    scene.put(10, "A", once(where(lambda: scene.put(place, "X"))))
    scene.put(20, "B")
    scene.put(30, "C")
    assert scene.walk() == this_pass
    assert scene.walk() == next_pass


def test_e5_added_at_the_priority_of_the_next_is_beyond_it_when_starting_and_before_it_when_stopping(
    scene: Scene,
) -> None:
    scene.put(10, "A", once(lambda: scene.put(20, "X")))
    scene.put(20, "B")
    assert scene.walk() == ("ABX" if scene.running else "AB")
    assert scene.walk() == ("ABX" if scene.running else "AXB")


def test_e5_added_at_the_priority_of_the_current_lies_before_the_next(scene: Scene) -> None:
    scene.put(10, "A", once(lambda: scene.put(10, "X")))
    scene.put(20, "B")
    assert scene.walk() == "AB"
    assert scene.walk() == ("AXB" if scene.running else "XAB")


@pytest.mark.parametrize("place", [5, 15, 25])
def test_e5_what_is_added_while_the_last_entry_runs_waits_for_the_next_pass(scene: Scene, place: int) -> None:
    scene.put(10, "A")
    scene.put(20, "B", once(lambda: scene.put(place, "X")))
    assert scene.walk() == "AB"
    assert sorted(scene.walk()) == ["A", "B", "X"]


def test_e5_the_last_entry_that_removes_itself_is_still_the_last(scene: Scene) -> None:
    scene.put(10, "A", lambda: scene.put(20, "X"), scene.remover("A"))
    assert scene.walk() == "A"
    assert scene.walk() == "X"


def test_e5_the_next_is_settled_anew_before_each_call(scene: Scene) -> None:
    """A lets X in; before X runs, its next is C; so X may add beyond C, not before."""
    scene.put(10, "A", once(lambda: scene.put(25, "X", lambda: scene.put(27, "Y"), lambda: scene.put(35, "Z"))))
    scene.put(20, "B")
    scene.put(30, "C")
    assert scene.walk() == "ABXCZ"


def test_e5_each_of_several_that_are_added_at_once_is_judged_by_the_same_next(scene: Scene) -> None:
    places = {15: "P", 25: "Q", 22: "R", 35: "S", 12: "T", 40: "U"}
    scene.put(10, "A", once(lambda: [scene.put(place, name) for place, name in places.items()]))
    scene.put(20, "B")
    scene.put(30, "C")
    assert scene.walk() == "ABRQCSU"
    assert scene.walk() == "ATPBRQCSU"


@from_any_thread
@pytest.mark.parametrize(("victim", "called"), [("B", "ACD"), ("C", "ABD"), ("D", "ABC"), ("A", "ABCD")])
def test_e5_a_removed_entry_is_never_called_again(scene: Scene, where: Where, victim: str, called: str) -> None:
    scene.put(10, "A", where(scene.remover(victim)))
    for place, name in [(20, "B"), (30, "C"), (40, "D")]:
        scene.put(place, name)
    assert scene.walk() == called
    assert scene.walk() == called.replace(victim, "")


@pytest.mark.parametrize(
    ("place", "called"),
    [
        (15, "AC"),  # before the place of the next that was settled
        (25, "AXC"),  # follows its place
        (35, "ACX"),
    ],
)
@pytest.mark.parametrize("removed_first", [True, False])
def test_e5_if_the_settled_next_is_removed_the_walk_goes_on_with_what_follows_its_place(
    scene: Scene, place: int, called: str, removed_first: bool
) -> None:
    actions = [scene.remover("B"), once(lambda: scene.put(place, "X"))]
    scene.put(10, "A", *(actions if removed_first else reversed(actions)))
    scene.put(20, "B")
    scene.put(30, "C")
    assert scene.walk() == called


@pytest.mark.parametrize(("place", "called"), [(15, "A"), (25, "AX")])
def test_e5_the_place_of_a_removed_next_counts_although_it_was_the_last(scene: Scene, place: int, called: str) -> None:
    scene.put(10, "A", scene.remover("B"), once(lambda: scene.put(place, "X")))
    scene.put(20, "B")
    assert scene.walk() == called


def test_e5_all_that_follows_may_go_at_once(scene: Scene) -> None:
    scene.put(10, "A", *(scene.remover(name) for name in "BCDE"))
    for place, name in enumerate("BCDE", 20):
        scene.put(place, name)
    assert scene.walk() == "A"
    assert len(scene.entries) == 1


def test_e5_added_and_removed_by_the_same_callback_is_not_called(scene: Scene) -> None:
    scene.put(10, "A", lambda: scene.put(25, "X").remove())
    scene.put(20, "B")
    scene.put(30, "C")
    assert scene.walk() == "ABC"


def test_e5_what_was_added_in_this_pass_can_be_removed_in_it_by_another(scene: Scene) -> None:
    scene.put(10, "A", lambda: scene.put(25, "X"), lambda: scene.put(35, "Y"))
    scene.put(20, "B", scene.remover("X"))
    scene.put(30, "C", scene.remover("Y"))
    scene.put(40, "D")
    assert scene.walk() == "ABCD"


def test_e5_a_callback_that_raises_has_still_added_and_removed(scene: Scene) -> None:
    scene.put(10, "A", once(lambda: scene.put(35, "X")), scene.remover("B"), raising(ValueError()))
    scene.put(20, "B")
    scene.put(30, "C")
    with pytest.raises(ExceptionGroup):
        scene.walk()
    assert "".join(scene._log) == "ACX"


@pytest.mark.parametrize(("place", "called"), [(15, "AC"), (25, "AXC")])
def test_e5_an_entry_with_nothing_to_call_in_this_pass_is_a_step_of_the_walk_all_the_same(
    scene: Scene, place: int, called: str
) -> None:
    """In the prepare pass, entries without prepare_cb; in the main pass, entries with nothing else."""
    scene.put(10, "A", once(lambda: scene.put(place, "X")))
    scene.put_silent(20)
    scene.put(30, "C")
    assert scene.walk() == called


def test_e5_a_silent_entry_at_the_end_is_the_last_step(scene: Scene) -> None:
    scene.put(10, "A", once(lambda: scene.put(25, "X")))
    scene.put_silent(20)
    assert scene.walk() == "AX"


@both_directions
def test_e5_the_main_pass_starts_afresh_after_what_the_prepare_pass_changed(running: bool) -> None:
    entries = HandlerList()
    log: list[str] = []
    sign = 1 if running else -1

    def add_everywhere() -> None:
        for place in (5, 15, 25):
            entries.add(noting(log, f"x{place}"), prepare_cb=noting(log, f"X{place}"), priority=sign * place)
        victim.remove()

    entries.add(noting(log, "a"), prepare_cb=noting(log, "A", add_everywhere), priority=sign * 10)
    entries.add(noting(log, "b"), prepare_cb=noting(log, "B"), priority=sign * 20)
    victim = entries.add(noting(log, "v"), prepare_cb=noting(log, "V"), priority=sign * 30)
    entries.notify(running, state_of(running))
    assert log == ["A", "B", "X25", "x5", "a", "x15", "b", "x25"]


def test_e5_removing_twice_does_nothing() -> None:
    entries = HandlerList()
    kept, entry = entries.add(ignore), entries.add(ignore)
    entry.remove()
    entry.remove()
    assert len(entries) == 1
    assert list(entries) == [kept]


def test_an_entry_is_a_context_manager_that_removes_it_also_after_an_error() -> None:
    entries = HandlerList()
    with entries.add(ignore) as entry:
        assert list(entries) == [entry]
    assert list(entries) == []
    with pytest.raises(ValueError, match="inside"), entries.add(ignore):
        raise ValueError("inside")
    assert len(entries) == 0


def test_many_entries_that_come_and_go_leave_the_right_ones_in_the_right_order() -> None:
    entries = HandlerList()
    kept = []
    for number in range(500):
        entry = entries.add(ignore, priority=(number * 37) % 100)
        if number % 7 == 0:
            kept.append(entry)
        else:
            entry.remove()
    assert len(entries) == len(kept)
    assert list(entries) == sorted(kept, key=lambda entry: entry.priority)


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Let Python switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_switching")
def test_e5_threads_that_add_and_remove_do_not_disturb_a_walk() -> None:
    entries = HandlerList()
    log: list[str] = []
    for priority in range(10):
        entries.add(noting(log, f"m{priority}"), prepare_cb=noting(log, f"p{priority}"), priority=priority)
    begin = threading.Barrier(4)

    def come_and_go() -> None:
        begin.wait(10)
        for number in range(300):
            with entries.add(ignore, prepare_cb=ignore, priority=number % 11):
                list(entries)

    tasks = [Task(come_and_go) for _ in range(3)]
    begin.wait(10)
    rounds = 0
    while rounds < 20 or any(task.running for task in tasks):
        log.clear()
        running = rounds % 2 == 0
        entries.notify(running, state_of(running))
        order = range(10) if running else range(9, -1, -1)
        assert log == [f"p{place}" for place in order] + [f"m{place}" for place in order]
        rounds += 1
    for task in tasks:
        task.result()
    assert [entry.priority for entry in entries] == list(range(10))


# Notifications inside notifications: rule E6


@both_directions
@pytest.mark.parametrize("kind", PassKind)
def test_e6_a_notification_inside_a_notification_is_refused_and_calls_nothing(running: bool, kind: PassKind) -> None:
    entries = HandlerList()
    log: list[str] = []

    def nested() -> None:
        with pytest.raises(NestedNotificationError, match="under way"):
            entries.notify(not running, PAUSED)

    callback = noting(log, "outer", nested)
    entries.add(callback) if kind is PassKind.MAIN else entries.add(prepare_cb=callback)
    entries.add(noting(log, "a"), prepare_cb=noting(log, "A"), priority=1 if running else -1)
    entries.notify(running, state_of(running))
    assert log == (["A", "outer", "a"] if kind is PassKind.MAIN else ["outer", "A", "a"])


def test_e6_after_a_failure_the_list_can_be_notified_again() -> None:
    entries = HandlerList()
    with entries.add(noting([], "", lambda: entries.notify(True, RUNNING))):
        with pytest.raises(ExceptionGroup) as caught:
            entries.notify(True, RUNNING)
        assert kinds(caught.value.exceptions) == [NestedNotificationError]
    assert entries.notify(True, RUNNING) == 0


def test_e6_a_handler_may_notify_another_list() -> None:
    outer, inner = HandlerList(), HandlerList()
    log: list[str] = []
    inner.add(noting(log, "inner"))
    outer.add(noting(log, "outer", lambda: inner.notify(False, PAUSED)))
    outer.notify(True, RUNNING)
    assert log == ["outer", "inner"]


def test_e6_a_notification_from_another_thread_waits_for_its_turn() -> None:
    clock = SpyClock()
    entries = HandlerList(BigLock(clock))
    log: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def hold(running: bool, state: RunState) -> None:
        log.append(f"first of {state}")
        if running:
            inside.set()
            wait_for(go_on)

    entries.add(hold)
    entries.add(lambda _running, state: log.append(f"second of {state}"), prepare_cb=ignore)
    starter = Task(lambda: entries.notify(True, RUNNING))
    wait_for(inside)
    stopper = Task(lambda: entries.notify(False, PAUSED))
    clock.until_somebody_waits_for("big lock of machine 'vm'")
    assert log == ["first of running"]
    go_on.set()
    assert starter.result() == stopper.result() == 0
    assert log == ["first of running", "second of running", "second of paused", "first of paused"]


# Cost: rule E7


class CountingKey(int):
    comparisons = 0

    def __lt__(self, other: int) -> bool:
        CountingKey.comparisons += 1
        return super().__lt__(other)

    def __gt__(self, other: int) -> bool:
        CountingKey.comparisons += 1
        return super().__gt__(other)


@pytest.fixture
def entries_that_count(monkeypatch: pytest.MonkeyPatch) -> HandlerList:
    """Entries of which every comparison is counted, 4,096 of them, in order by now."""
    key: Any = HandlerEntry.__dict__["key"]
    counting = property(lambda entry: CountingKey(key.__get__(entry)), key.__set__)
    monkeypatch.setattr(HandlerEntry, "key", counting)
    entries = HandlerList()
    for number in range(4096):
        entries.add(ignore, priority=(number * 1571) % 4096)
    list(entries)
    CountingKey.comparisons = 0
    return entries


def change(entries: HandlerList, present: list[HandlerEntry]) -> None:
    for number in range(32):
        entries.add(ignore, priority=number * 128 + 7)
        present[number * 128].remove()


def test_e7_adding_and_removing_compare_nothing_and_the_next_pass_merges(entries_that_count: HandlerList) -> None:
    change(entries_that_count, list(entries_that_count))
    assert CountingKey.comparisons == 0
    entries_that_count.notify(True, RUNNING)
    # One comparison for each entry of the two runs, and a few more where the runs are told apart.
    assert 0 < CountingKey.comparisons <= 4096 + 2 * 32 * (math.log2(4096) + 2)


def test_e7_changes_in_a_pass_are_searched_for(entries_that_count: HandlerList) -> None:
    present = list(entries_that_count)[1:]
    entries_that_count.add(noting([], "", lambda: change(entries_that_count, present)), priority=-1)
    list(entries_that_count)
    CountingKey.comparisons = 0
    entries_that_count.notify(True, RUNNING)
    assert 0 < CountingKey.comparisons <= 2 * 32 * (math.log2(4096) + 4)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans())))
def test_e2_whatever_came_and_went_the_order_is_that_of_sorting(steps: list[tuple[int, bool]]) -> None:
    entries, present = HandlerList(), list[HandlerEntry]()
    for priority, settle in steps:
        present.append(entries.add(ignore, priority=priority))
        if priority == 0:
            present.pop(len(present) // 2).remove()
        assert len(entries) == len(present)
        if settle:
            assert list(entries) == sorted(present, key=lambda entry: entry.priority)
    assert list(entries) == sorted(present, key=lambda entry: entry.priority)


def test_entries_that_come_and_go_between_passes_do_not_pile_up() -> None:
    entries = HandlerList()
    for _ in range(10_000):
        entries.add(ignore).remove()
    assert len(entries) == 0
    assert len(entries._added) < 200
