"""
All schedules, depth first, those with few preemptions first, each once.

A schedule is the choices of a *prefix* and the usual ones after it. From one that was run, each choice after its prefix
leads to as many others as there were threads that could have gone on instead. They wait, in order of how many
preemptions they have; so what needs few is found early, and memory is for schedules that were run, not for all.

There is no reduction: two schedules are never taken for the same. What would allow that (sleep sets, partial orders)
is to know that what two threads do between two choices has nothing to do with each other, and in Python any line
may touch any object. A `bound` on preemptions is what there is instead; it cuts, and says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from vmstate.exploring.policies.base import Candidates


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice that was made: among how many, whether the first could just go on, and who it was."""

    count: int
    goes_on: bool
    taken: int


@dataclass(frozen=True, slots=True)
class Prefix:
    """Where to begin: the first choices of a schedule that was run, and another one after them."""

    choices: tuple[Choice, ...] = ()
    length: int = 0
    then: int | None = None

    def taken(self) -> list[int]:
        """List the places to take."""
        places = [choice.taken for choice in self.choices[: self.length]]
        return places if self.then is None else [*places, self.then]


class FromPrefix:
    """Takes what the prefix says, then the first."""

    def __init__(self, places: list[int]) -> None:
        self._places = iter(places)

    def choose(self, candidates: Candidates, goes_on: bool) -> int:
        """Take what is written down, else the first."""
        place = next(self._places, 0)
        return place if place < len(candidates) else 0

    def alone(self, thread: int) -> None:
        """Do nothing."""


class Frontier:
    """What is still to be run. `seen` is the share of all that was, as a walk at random would have met it."""

    def __init__(self, bound: int | None = None) -> None:
        self._bound = bound
        self._waiting: dict[int, list[Iterator[Prefix]]] = {0: [iter((Prefix(),))]}
        self.seen = 0.0
        self.cut = False  # whether the bound has left anything out

    def next(self, most: int) -> list[Prefix]:
        """Give so many prefixes to run next, fewer if there are not as many; none: that was all."""
        found: list[Prefix] = []
        while self._waiting and len(found) < most:
            preemptions = min(self._waiting)
            stack = self._waiting[preemptions]
            prefix = next(stack[-1], None)
            if prefix is not None:
                found.append(prefix)
                continue
            stack.pop()
            if not stack:
                del self._waiting[preemptions]
        return found

    def ran(self, prefix: Prefix, choices: tuple[Choice, ...]) -> None:
        """Note a schedule that was run, and what it leads to."""
        share = 1.0
        for choice in choices:
            share /= choice.count
        self.seen += share
        begun = len(prefix.taken())
        preemptions = sum(1 for choice in choices if choice.goes_on and choice.taken)
        self._add(preemptions, _others(choices, begun, preempting=False))
        if any(choice.goes_on for choice in choices[begun:]):
            if self._bound is not None and preemptions >= self._bound:
                self.cut = True
            else:
                self._add(preemptions + 1, _others(choices, begun, preempting=True))

    def _add(self, preemptions: int, prefixes: Iterator[Prefix]) -> None:
        self._waiting.setdefault(preemptions, []).append(prefixes)


def neighbours(choices: tuple[Choice, ...]) -> Iterator[Prefix]:
    """Give the schedules that leave the usual one, whose choices these are, just once."""
    yield from _others(choices, 0, preempting=False)
    yield from _others(choices, 0, preempting=True)


def _others(choices: tuple[Choice, ...], begun: int, *, preempting: bool) -> Iterator[Prefix]:
    """Give the schedules that leave this one after its prefix, the last choice first."""
    for length in range(len(choices) - 1, begun - 1, -1):
        choice = choices[length]
        if choice.goes_on is preempting:
            for place in range(1, choice.count):
                yield Prefix(choices, length, place)
