from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from suite.handlers import Task, kinds, noting, raising

from vmstate import Bracket, Bus, Device, HandlerEntry, HandlerList, PassKind, RunState, add_device_handler

Action: TypeAlias = Callable[[], object]


class Owner:
    def __init__(self, log: list[str], name: str) -> None:
        self._log = log
        self._name = name
        self.on_open: Action = lambda: None
        self.on_close: Action = lambda: None

    def open(self, kind: PassKind, running: bool, state: RunState) -> None:
        self._log.append(f"open {self._name} {kind} {running} {state}")
        self.on_open()

    def close(self, kind: PassKind) -> None:
        self._log.append(f"close {self._name} {kind}")
        self.on_close()


class Scene:
    """A device on the main bus, whose bracket is looked at in one direction."""

    def __init__(self, running: bool) -> None:
        self.running = running
        self.state = RunState.RUNNING if running else RunState.PAUSED
        self.handlers = HandlerList()
        self.bus = Bus("main-system-bus")
        self.device = Device("dev", self.bus)
        self.log: list[str] = []
        self.owner = Owner(self.log, "dev")

    def bracket(self, *, prepare: bool = True) -> Bracket:
        return Bracket(self.handlers, self.device, self.owner, prepare=prepare)

    def ordinary(self, name: str, *actions: Action, kind: PassKind = PassKind.MAIN) -> HandlerEntry:
        """A handler at adjust 0 of the bracket's depth."""
        callback = noting(self.log, name, *actions)
        if kind is PassKind.MAIN:
            return add_device_handler(self.handlers, self.device, callback)
        return add_device_handler(self.handlers, self.device, prepare_cb=callback)

    def before(self, *actions: Action, kind: PassKind = PassKind.MAIN) -> HandlerEntry:
        """A handler that the walk meets before the bracket."""
        priority = -5 if self.running else 2**40
        callback = noting(self.log, "before", *actions)
        if kind is PassKind.MAIN:
            return self.handlers.add(callback, priority=priority)
        return self.handlers.add(prepare_cb=callback, priority=priority)

    def places(self) -> list[HandlerEntry]:
        """The bracket's entries, in the order in which the walk meets them."""
        entries = [entry for entry in self.handlers if entry.name == "dev" and abs(entry.priority - 98304) == 1]
        return entries if self.running else entries[::-1]

    def notify(self) -> list[str]:
        """Notify; what happened, without what is the same for all notifications of the scene."""
        self.log.clear()
        self.handlers.notify(self.running, self.state)
        return self.short()

    def short(self) -> list[str]:
        return [text.replace(f" {self.running} {self.state}", "").replace(" dev", "") for text in self.log]


@pytest.fixture(params=[True, False], ids=["starting", "stopping"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(bool(request.param))


PREPARED = ["open prepare", "close prepare"]


def test_h4_the_bracket_is_two_entries_one_below_and_one_above_the_ordinary_handlers(scene: Scene) -> None:
    bracket = scene.bracket()
    entry = scene.ordinary("ordinary")
    assert [other.priority - entry.priority for other in scene.handlers] == [-1, 0, 1]
    bracket.remove()
    bracket.remove()
    assert list(scene.handlers) == [entry]


def test_h4_h5_brackets_open_before_and_close_after_the_ordinary_handlers_of_their_depth() -> None:
    handlers = HandlerList()
    log: list[str] = []
    root = Bus("main-system-bus")
    first, second = Device("first", root), Device("second", root)
    deep = Device("deep", Bus("inner", first))
    for device in (first, deep, second):
        Bracket(handlers, device, Owner(log, device.id))
        add_device_handler(handlers, device, noting(log, f"{device.id} main"))
    handlers.add(noting(log, "plain"))

    handlers.notify(True, RunState.RUNNING)
    assert log == [
        *(f"open {name} prepare True running" for name in ("first", "second")),
        *(f"close {name} prepare" for name in ("first", "second")),
        "open deep prepare True running",
        "close deep prepare",
        "plain",
        *(f"open {name} main True running" for name in ("first", "second")),
        *("first main", "second main"),
        *(f"close {name} main" for name in ("first", "second")),
        *("open deep main True running", "deep main", "close deep main"),
    ]
    log.clear()
    handlers.notify(False, RunState.FINISH_MIGRATE)
    assert log == [
        "open deep prepare False finish-migrate",
        "close deep prepare",
        *(f"open {name} prepare False finish-migrate" for name in ("second", "first")),
        *(f"close {name} prepare" for name in ("second", "first")),
        *("open deep main False finish-migrate", "deep main", "close deep main"),
        *(f"open {name} main False finish-migrate" for name in ("second", "first")),
        *("second main", "first main"),
        *(f"close {name} main" for name in ("second", "first")),
        "plain",
    ]


def test_a_bracket_without_prepare_is_met_in_the_main_pass_only(scene: Scene) -> None:
    scene.bracket(prepare=False)
    assert scene.notify() == ["open main", "close main"]


def test_a_bracket_works_in_one_notification_after_another(scene: Scene) -> None:
    scene.bracket()
    for running in (True, False, False, True, True):
        scene.running = running
        assert scene.notify() == [*PREPARED, "open main", "close main"]


def test_e4_an_ordinary_handler_that_raises_does_not_keep_the_bracket_open(scene: Scene) -> None:
    scene.bracket()
    scene.ordinary("ordinary", raising(ValueError()))
    with pytest.raises(ExceptionGroup) as caught:
        scene.notify()
    assert kinds(caught.value.exceptions) == [ValueError]
    assert scene.short() == [*PREPARED, "open main", "ordinary", "close main"]


def test_what_did_not_open_is_not_closed(scene: Scene) -> None:
    scene.bracket()
    scene.owner.on_open = raising(ValueError("cannot open"))
    scene.ordinary("ordinary")
    with pytest.raises(ExceptionGroup) as caught:
        scene.notify()
    assert kinds(caught.value.exceptions) == [ValueError, ValueError]  # in either pass
    assert scene.short() == ["open prepare", "open main", "ordinary"]
    scene.owner.on_open = lambda: None
    assert scene.notify() == [*PREPARED, "open main", "ordinary", "close main"]


def test_a_close_that_raises_has_closed(scene: Scene) -> None:
    scene.bracket()
    scene.owner.on_close = raising(ValueError("cannot close"))
    with pytest.raises(ExceptionGroup) as caught:
        scene.notify()
    assert kinds(caught.value.exceptions) == [ValueError, ValueError]
    scene.owner.on_close = lambda: None
    assert scene.notify() == [*PREPARED, "open main", "close main"]


def once(action: Action) -> Action:
    todo = [action]
    return lambda: todo.pop()() if todo else None


@pytest.mark.parametrize("victim", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("kind", PassKind)
def test_h7_a_bracket_of_which_a_callback_removed_one_place_before_it_was_met_sits_that_pass_out(
    scene: Scene, victim: int, kind: PassKind
) -> None:
    bracket = scene.bracket()
    scene.before(scene.places()[victim].remove, kind=kind)
    if kind is PassKind.PREPARE:
        scene.before(bracket.remove)  # or the main pass would find a place missing that it did not lose
        assert scene.notify() == ["before", "before"]
    else:
        assert scene.notify() == [*PREPARED, "before"]


@pytest.mark.parametrize("kind", PassKind)
def test_h7_a_bracket_of_which_only_the_second_place_came_in_time_sits_that_pass_out(
    scene: Scene, kind: PassKind
) -> None:
    """Added while its own depth is walked: the walk is past the first place, the second is still to come."""
    adding = once(scene.bracket)  # done by whichever comes first
    for _ in range(2):
        scene.ordinary("ordinary", adding, kind=kind)
    if kind is PassKind.PREPARE:
        assert scene.notify() == ["ordinary", "ordinary", "open main", "close main"]
    else:
        assert scene.notify() == ["ordinary", "ordinary"]
        assert scene.notify() == [*PREPARED, "open main", "ordinary", "ordinary", "close main"]


def test_h7_a_bracket_of_which_only_the_first_place_was_between_sits_that_pass_out(scene: Scene) -> None:
    """Added when the settled next stands inside the bracket: the first place is missed, the second is not."""
    scene.before(once(scene.bracket))
    scene.ordinary("ordinary")
    assert scene.notify() == ["before", "ordinary"]
    assert scene.notify() == [*PREPARED, "before", "open main", "ordinary", "close main"]


def test_h7_a_bracket_that_was_added_in_time_for_both_places_takes_part_in_that_pass(scene: Scene) -> None:
    """E5 calls both entries, so both places are there when the pass meets the bracket: no reason to sit out."""
    adding = once(scene.bracket)  # done by whichever comes first: the other is its next, before both places
    for _ in range(2):
        scene.before(adding)
    assert scene.notify() == ["before", "before", "open main", "close main"]


def telling(scene: Scene) -> Bracket:
    """A bracket that tells when it sits a pass out."""
    return Bracket(
        scene.handlers, scene.device, scene.owner, on_sit_out=lambda kind: scene.log.append(f"sits out {kind}")
    )


@pytest.mark.parametrize("victim", [0, 1], ids=["first", "second"])
def test_a_bracket_that_has_lost_a_place_says_that_it_sits_out_where_the_other_is_met(
    scene: Scene, victim: int
) -> None:
    bracket = telling(scene)
    assert bracket.whole
    scene.before(scene.places()[victim].remove)
    scene.ordinary("ordinary")
    at_first, at_second = ["sits out main", "ordinary"], ["ordinary", "sits out main"]
    assert scene.notify() == [*PREPARED, "before", *(at_first if victim else at_second)]
    assert not bracket.whole


def test_a_bracket_of_which_the_second_place_came_alone_says_that_it_sits_out_once(scene: Scene) -> None:
    adding = once(lambda: telling(scene))
    for _ in range(2):
        scene.ordinary("ordinary", adding)
    assert scene.notify() == ["ordinary", "ordinary", "sits out main"]
    assert scene.notify() == [*PREPARED, "open main", "ordinary", "ordinary", "close main"]


def test_a_bracket_that_is_taken_away_before_it_is_met_is_not_met(scene: Scene) -> None:
    bracket = scene.bracket()
    scene.before(bracket.remove)
    assert scene.notify() == [*PREPARED, "before"]
    assert scene.places() == []


def assertions(scene: Scene) -> list[str]:
    """Notify, which must fail with nothing but assertions; what they say."""
    with pytest.raises(ExceptionGroup) as caught:
        scene.notify()
    assert set(kinds(caught.value.exceptions)) == {AssertionError}
    return [str(error) for error in caught.value.exceptions]


@pytest.mark.parametrize("victim", [0, 1], ids=["first", "second"])
def test_h7_a_place_that_was_missing_before_the_pass_began_is_a_bug_not_a_pass_to_sit_out(
    scene: Scene, victim: int
) -> None:
    """H7 excuses only what a callback of that very pass did; any other mismatch is H6."""
    scene.bracket()
    scene.places()[victim].remove()
    assert all("'dev'" in text for text in assertions(scene))


@pytest.mark.parametrize("victim", [0, 1], ids=["first", "second"])
def test_h7_a_place_that_went_in_the_prepare_pass_excuses_nothing_in_the_main_pass(scene: Scene, victim: int) -> None:
    scene.bracket()
    scene.before(scene.places()[victim].remove, kind=PassKind.PREPARE)
    assert all("'dev' met" in text and "in main" in text for text in assertions(scene))
    assert scene.short() == ["before"]


def test_a_pass_of_another_thread_that_meets_half_of_a_new_bracket_leaves_it_out(scene: Scene) -> None:
    class Handlers(HandlerList):
        def add(self, *callbacks: Any, **options: Any) -> HandlerEntry:
            entry = super().add(*callbacks, **options)
            Task(lambda: self.notify(scene.running, scene.state)).result()
            return entry

    scene.handlers = Handlers()
    scene.bracket()
    assert scene.short() == []  # nothing after the first of the two, and nothing yet after the second
    assert scene.notify() == [*PREPARED, "open main", "close main"]


def test_h6_a_bracket_whose_second_place_was_removed_while_it_was_open_is_found_open_in_the_next_pass(
    scene: Scene,
) -> None:
    scene.bracket(prepare=False)
    places = scene.places()
    scene.ordinary("ordinary", places[1].remove)
    assert scene.notify() == ["open main", "ordinary"]
    assert ["'dev'" in text and "still open" in text for text in assertions(scene)] == [True]


def test_h6_meeting_the_second_place_with_nothing_open_is_a_bug(scene: Scene) -> None:
    scene.bracket()
    second = scene.places()[1]
    assert second.main is not None
    with pytest.raises(AssertionError, match=r"'dev'.*never opened"):
        second.main(scene.running, scene.state)
    assert scene.log == []


def test_h6_meeting_the_first_place_while_open_is_a_bug(scene: Scene) -> None:
    scene.bracket(prepare=False)

    def meet_again() -> None:
        first = scene.places()[0]
        assert first.main is not None
        with pytest.raises(AssertionError, match=r"'dev'.*still open"):
            first.main(scene.running, scene.state)

    scene.ordinary("ordinary", meet_again)
    assert scene.notify() == ["open main", "ordinary", "close main"]
