"""
Priorities with few changes: the algorithm of "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs".

Every thread has a priority of its own, drawn when it first shows; the highest of those that could go on does. At
`depth` - 1 choices, drawn among all, whoever is about to go on falls below all others. A fault that needs `depth`
orderings of n threads in k choices is met by each schedule with a chance of at least 1 / (n * k ** (depth - 1)).

What is ours: k is counted in a first schedule, in order, and is the same for all that follow, so that each is a
function of its number alone, whoever runs it. And a thread that was chosen a thousand times in a row falls as well: one
that polls would otherwise keep from running whom it waits for, and no schedule would end.
"""

import random

from vmstate.exploring.policies.base import Candidates

_AS_IF_FOR_EVER = 1000


class PriorityChanges:
    """Runs the thread with the highest priority; some choices, drawn beforehand, lower it."""

    def __init__(self, seed: str, *, depth: int, steps: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be kept secret
        count = min(depth - 1, max(steps, 1))
        points = self._random.sample(range(1, max(steps, 1) + 1), count)
        self._changes = {point: float(count - number) for number, point in enumerate(points)}
        self._above = float(depth)
        self._lowest = 0.0
        self._priorities: dict[int, float] = {}
        self._step = 0
        self._last = -1
        self._in_a_row = 0

    def choose(self, candidates: Candidates, goes_on: bool) -> int:
        """Take the highest, after it was lowered if this is the moment for that."""
        priorities = self._priorities
        for thread in candidates:
            if thread not in priorities:
                priorities[thread] = self._above + self._random.random()
        self._step += 1
        chosen = max(candidates, key=priorities.__getitem__)
        if self._step in self._changes:
            priorities[chosen] = self._changes[self._step]
            chosen = max(candidates, key=priorities.__getitem__)
        self._in_a_row = self._in_a_row + 1 if chosen == self._last else 0
        if self._in_a_row > _AS_IF_FOR_EVER:
            self._in_a_row = 0
            self._lowest -= 1.0
            priorities[chosen] = self._lowest
            chosen = max(candidates, key=priorities.__getitem__)
        self._last = chosen
        return candidates.index(chosen)

    def alone(self, thread: int) -> None:
        """Count the step; who has it falls if this is the moment for that, which counts once others are there."""
        if thread not in self._priorities:
            self._priorities[thread] = self._above + self._random.random()
        self._step += 1
        if self._step in self._changes:
            self._priorities[thread] = self._changes[self._step]
