"""
Which schedules are run, in which order, and by whom.

Schedules go out in batches whose size depends on nothing but the policy, and what comes back is taken in their order.
So the first failure is the same whoever runs them: one thread, many, or processes that come and go.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from vmstate.exploring.chooser import Noted
from vmstate.exploring.policies import (
    Choice,
    FromPrefix,
    Frontier,
    InOrderPolicy,
    Prefix,
    PriorityChanges,
    RandomWalk,
    SchedulePolicy,
)
from vmstate.exploring.run import Runner, Test, Way, runner_of
from vmstate.exploring.schedule import Switch

OnTried = Callable[[int, float | None], object]

_PIECE = 25  # schedules that one worker is given at a time
_PIECES = 8  # in a batch


@dataclass(frozen=True)
class Order:
    """What makes the policy of one schedule; small, and a worker in another process can have it."""

    policy: str
    seed: str = ""
    depth: int = 1
    steps: int = 1
    places: tuple[int, ...] = ()

    def make(self) -> SchedulePolicy:
        """Make it."""
        if self.policy == "random":
            return RandomWalk(self.seed)
        if self.policy == "pct":
            return PriorityChanges(self.seed, depth=self.depth, steps=self.steps)
        return FromPrefix(list(self.places)) if self.places else InOrderPolicy()


@dataclass(frozen=True)
class Outcome:
    """What one schedule has come to, without what only its own process knows."""

    choices: tuple[Choice, ...]
    steps: int
    failure: "Found | None"


@dataclass(frozen=True)
class Found:
    """A schedule that fails: its number from 1, its switches, and what was raised, by name and in words."""

    number: int
    switches: tuple[Switch, ...]
    kind: str
    text: str


def run_orders(test: Test | str, way: Way, orders: Sequence[Order], keep_choices: bool) -> list[Outcome]:
    """Run some schedules, up to the first that fails."""
    outcomes: list[Outcome] = []
    with runner_of(test, way) as runner:
        for order in orders:
            outcomes.append(_outcome(runner.run(order.make()), keep_choices))
            if outcomes[-1].failure is not None:
                break
    return outcomes


def _outcome(noted: Noted, keep_choices: bool) -> Outcome:
    found = None
    if noted.failure is not None:
        switches = tuple(noted.switches[: noted.switches_of_failure])
        found = Found(0, switches, type(noted.failure).__name__, f"{type(noted.failure).__name__}: {noted.failure}")
    return Outcome(tuple(noted.choices) if keep_choices else (), noted.steps, found)


class Search(Protocol):
    """What is to be run next, and what came of it."""

    @property
    def keep_choices(self) -> bool:
        """Whether `ran` needs to know what could have been chosen."""
        ...

    @property
    def seen(self) -> float | None:
        """The share of all schedules that was tried; None where that is not known."""
        ...

    @property
    def complete(self) -> bool:
        """Whether there are no others."""
        ...

    def batch(self) -> list[Order]:
        """Give what is to be run next; nothing: that was all."""
        ...

    def ran(self, order: Order, outcome: Outcome) -> None:
        """Note what came of it; called in the order of the batch."""
        ...


class Sampling:
    """So many schedules, each drawn by its number. The first is the usual order, which counts the steps for `pct`."""

    keep_choices = False
    seen = None
    complete = False

    def __init__(self, policy: str, *, schedules: int, seed: int, depth: int) -> None:
        self._policy, self._seed, self._depth = policy, seed, depth
        self._left = iter(range(1, 1 if policy == "in-order" else schedules))
        self._steps = 0

    def batch(self) -> list[Order]:
        """Give the usual order alone, then as many as make a batch."""
        if not self._steps:
            return [Order("in-order")]
        numbers = islice(self._left, _PIECE * _PIECES)
        return [Order(self._policy, f"{self._seed}/{number}", self._depth, self._steps) for number in numbers]

    def ran(self, order: Order, outcome: Outcome) -> None:
        """Note how long the first was."""
        self._steps = self._steps or max(1, outcome.steps)


class Exhausting:
    """All schedules, or as many of them as may be tried."""

    keep_choices = True

    def __init__(self, *, schedules: int, bound: int | None) -> None:
        self._frontier = Frontier(bound)
        self._left = schedules
        self._out: list[Prefix] = []
        self._finished = False

    @property
    def seen(self) -> float:
        """The share as a walk at random would have met it."""
        return 1.0 if self.complete else min(self._frontier.seen, 1.0)

    @property
    def complete(self) -> bool:
        """Whether nothing is left, and nothing was cut."""
        return self._finished and not self._frontier.cut

    def batch(self) -> list[Order]:
        """Give those that come next; all with as many preemptions."""
        self._out = self._frontier.next(_PIECE * _PIECES)
        self._finished = not self._out
        self._out = self._out[: self._left]
        self._left -= len(self._out)
        return [Order("exhaustive", places=tuple(prefix.taken())) for prefix in self._out]

    def ran(self, order: Order, outcome: Outcome) -> None:
        """Find out which others it leads to."""
        self._frontier.ran(self._out.pop(0), outcome.choices)


_POLICIES = ("pct", "random", "exhaustive", "in-order")


def make_search(policy: str, *, schedules: int, seed: int, depth: int) -> Search:
    """
    Make what a policy searches with.

    Raises:
        ValueError: there is no such policy.

    """
    name, colon, bound = policy.partition(":")
    if name not in _POLICIES or (colon and (name != "exhaustive" or not bound.isdecimal())):
        raise ValueError(
            f"policy must be one of {', '.join(map(repr, _POLICIES))}, or 'exhaustive:N' for at most N preemptions; "
            f"got {policy!r}"
        )
    if name == "exhaustive":
        return Exhausting(schedules=schedules, bound=int(bound) if bound else None)
    return Sampling(name, schedules=schedules, seed=seed, depth=depth)


@dataclass(frozen=True)
class Searched:
    """How a search has ended: after how many schedules, and with which that fails."""

    tried: int
    found: Found | None


def search_schedules(
    search: Search, test: Test | str, way: Way, executor: Executor | None, on_tried: OnTried
) -> Searched:
    """Run what the search asks for until something fails, or nothing is left."""
    tried = 0
    with runner_of(test, way) as runner:
        while orders := search.batch():
            for order, outcome in zip(orders, _outcomes(search, runner, test, way, orders, executor), strict=False):
                tried += 1
                if outcome.failure is not None:
                    on_tried(tried, search.seen)
                    return Searched(tried, replace(outcome.failure, number=tried))
                search.ran(order, outcome)
                on_tried(tried, search.seen)
    return Searched(tried, None)


def _outcomes(
    search: Search, runner: Runner, test: Test | str, way: Way, orders: list[Order], executor: Executor | None
) -> Iterator[Outcome]:
    """Give what comes of each, in their order."""
    keep = search.keep_choices
    if executor is None or len(orders) == 1:
        for order in orders:
            yield _outcome(runner.run(order.make()), keep)
        return
    pieces = [orders[begin : begin + _PIECE] for begin in range(0, len(orders), _PIECE)]
    futures = [_submitted(executor, test, way, piece, keep) for piece in pieces]
    try:
        for piece, future in zip(pieces, futures, strict=True):
            yield from _result(future, test, way, piece, keep)
    finally:
        for future in futures:
            if future is not None:
                future.cancel()


_Submitted = Future[list[Outcome]] | None


def _submitted(executor: Executor, test: Test | str, way: Way, piece: list[Order], keep: bool) -> _Submitted:
    try:
        return executor.submit(run_orders, test, way, piece, keep)
    except BrokenExecutor:
        return None


def _result(future: _Submitted, test: Test | str, way: Way, piece: list[Order], keep: bool) -> list[Outcome]:
    """Give what a worker has found; what a worker that died has not done is done here."""
    try:
        if future is not None:
            return future.result()
    except (BrokenExecutor, CancelledError):
        pass
    except Exception as error:
        if not isinstance(test, str):
            error.add_note("an executor that cannot be given this test can be given one as 'module:function'")
        raise
    return run_orders(test, way, piece, keep)
