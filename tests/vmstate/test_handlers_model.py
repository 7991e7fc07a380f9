"""Generated programs against a naive model of E1 to E5: what is called, in which order, with what result."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from suite.handlers import Task

from vmstate import HandlerEntry, HandlerList, PassKind, RunState

MOST_ENTRIES = 24  # a program that adds more than that adds nothing more


@dataclass(frozen=True)
class Add:
    spec: int
    elsewhere: bool = False


@dataclass(frozen=True)
class Remove:
    number: int  # of the entries made so far, in order of registration
    elsewhere: bool = False


@dataclass(frozen=True)
class Raise:
    error: type[BaseException]


@dataclass(frozen=True)
class Notify:
    running: bool


Op = Add | Remove | Raise


@dataclass(frozen=True)
class Spec:
    """An entry to be: what its callbacks do; None stands for no callback."""

    priority: int
    prepare: tuple[Op, ...] | None
    main: tuple[Op, ...] | None
    result: int | None  # of a cb_ret; None: it is a cb

    def ops(self, kind: PassKind) -> tuple[Op, ...] | None:
        return self.prepare if kind is PassKind.PREPARE else self.main


@dataclass(frozen=True)
class Outcome:
    """What came of a notification: its result, or what it raised."""

    result: int | None
    raised: type[BaseException] | None = None
    errors: tuple[tuple[type[BaseException], object], ...] = ()


class World(ABC):
    """Carries a program out; entries are known by their number in order of registration."""

    def __init__(self, specs: list[Spec]) -> None:
        self._specs = specs
        self.made: list[Spec] = []
        self.calls: list[tuple[PassKind, int, bool, RunState]] = []

    def perform(self, op: Op, caller: int = -1) -> None:
        match op:
            case Add() if len(self.made) < MOST_ENTRIES:
                self.made.append(self._specs[op.spec % len(self._specs)])
                self._do(partial(self._add, len(self.made) - 1), op.elsewhere)
            case Remove() if self.made:
                self._do(partial(self._remove, op.number % len(self.made)), op.elsewhere)
            case Raise():
                raise op.error(caller)

    def _call(self, kind: PassKind, number: int, running: bool, state: RunState) -> int:
        """Be the callback of an entry."""
        self.calls.append((kind, number, running, state))
        spec = self.made[number]
        for op in spec.ops(kind) or ():
            self.perform(op, number)
        return spec.result or 0

    def _do(self, action: Callable[[], None], elsewhere: bool) -> None:
        action()

    @abstractmethod
    def notify(self, running: bool) -> Outcome: ...
    @abstractmethod
    def entries(self) -> list[int]: ...
    @abstractmethod
    def _add(self, number: int) -> None: ...
    @abstractmethod
    def _remove(self, number: int) -> None: ...


class Real(World):
    """The program on a HandlerList."""

    def __init__(self, specs: list[Spec]) -> None:
        super().__init__(specs)
        self._list = HandlerList()
        self._entries: list[HandlerEntry] = []

    def notify(self, running: bool) -> Outcome:
        try:
            return Outcome(self._list.notify(running, state_of(running)))
        except BaseExceptionGroup as group:
            errors = tuple((type(error), error.args[0]) for error in group.exceptions)
            return Outcome(None, type(group), errors)
        except (KeyboardInterrupt, SystemExit) as error:
            return Outcome(None, type(error), ((type(error), error.args[0]),))

    def entries(self) -> list[int]:
        assert len(self._list) == len(list(self._list))
        return [self._entries.index(entry) for entry in self._list]

    def _add(self, number: int) -> None:
        spec = self.made[number]
        main = None if spec.main is None else partial(self._call, PassKind.MAIN, number)
        prepare = None if spec.prepare is None else partial(self._call, PassKind.PREPARE, number)
        if spec.result is None:
            entry = self._list.add(main, prepare_cb=prepare, priority=spec.priority)
        else:
            entry = self._list.add(cb_ret=main, prepare_cb=prepare, priority=spec.priority)
        self._entries.append(entry)

    def _remove(self, number: int) -> None:
        self._entries[number].remove()

    def _do(self, action: Callable[[], None], elsewhere: bool) -> None:
        Task(action).result() if elsewhere else action()


class Model(World):
    """The rules, word for word, with no regard for cost."""

    def __init__(self, specs: list[Spec]) -> None:
        super().__init__(specs)
        self._live: set[tuple[int, int]] = set()  # priority, order of registration

    def notify(self, running: bool) -> Outcome:
        errors: list[BaseException] = []
        result = 0
        for kind in PassKind:
            current = self._beyond(None, running)
            while current is not None:
                settled = self._beyond(current, running)
                number = current[1]
                if self.made[number].ops(kind) is not None:
                    try:
                        value = self._call(kind, number, running, state_of(running))
                        if kind is PassKind.MAIN and not running:
                            result |= value
                    except BaseException as error:  # noqa: BLE001 - E4
                        errors.append(error)
                if settled is not None and settled not in self._live:
                    settled = self._beyond(settled, running)
                current = settled
        if not errors:
            return Outcome(result)
        kinds = {type(error) for error in errors}
        if kinds <= {ValueError}:
            raised: type[BaseException] = ExceptionGroup
        else:
            raised = BaseExceptionGroup if len(errors) > 1 else type(errors[0])
        return Outcome(None, raised, tuple((type(error), error.args[0]) for error in errors))

    def entries(self) -> list[int]:
        return [number for _, number in sorted(self._live)]

    def _beyond(self, place: tuple[int, int] | None, running: bool) -> tuple[int, int] | None:
        """Give the entry that comes first after a place, in the order of the walk."""
        if running:
            return min((entry for entry in self._live if place is None or entry > place), default=None)
        return max((entry for entry in self._live if place is None or entry < place), default=None)

    def _add(self, number: int) -> None:
        self._live.add((self.made[number].priority, number))

    def _remove(self, number: int) -> None:
        self._live.discard((self.made[number].priority, number))


def state_of(running: bool) -> RunState:
    return RunState.RUNNING if running else RunState.PAUSED


small = st.integers(0, 11)
rarely = st.sampled_from([False] * 9 + [True])
changes = st.builds(Add, small, rarely) | st.builds(Remove, small, rarely)
raises = st.builds(Raise, st.sampled_from([ValueError, ValueError, ValueError, KeyboardInterrupt, SystemExit]))
ops = st.lists(changes | changes | changes | raises, max_size=3).map(tuple)
results = st.none() | st.sampled_from([0, 1, 2, 4, -5])
priorities = st.integers(-3, 3)
specs = st.builds(Spec, priorities, st.none() | ops, ops, results) | st.builds(
    Spec, priorities, ops, st.none(), st.none()
)
notifications = st.builds(Notify, st.booleans())
programs = st.lists(notifications | notifications | changes, min_size=1, max_size=5)


@settings(max_examples=500)
@given(st.lists(specs, min_size=1, max_size=6), st.lists(small, max_size=8), programs)
def test_e1_to_e5_a_handler_list_does_what_the_naive_model_does(
    specs: list[Spec], at_first: list[int], program: list[Notify | Add | Remove]
) -> None:
    real, model = Real(specs), Model(specs)
    for step in [*map(Add, at_first), *program]:
        if isinstance(step, Notify):
            assert real.notify(step.running) == model.notify(step.running)
        else:
            real.perform(step)
            model.perform(step)
        assert real.calls == model.calls
        assert real.entries() == model.entries()
