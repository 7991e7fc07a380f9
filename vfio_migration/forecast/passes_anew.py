"""
What the passes take with another group in the place of one, by planning them anew.

For strategies under which depths do not simply come one after another, so that more than the depths of a change count.
Slower than what the ledger does with depths, and right for every strategy.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from vfio_migration.forecast.parts import Part, Placed
from vfio_migration.plan import MigrationPlan
from vfio_migration.strategies import SECONDS, DepthTimes

_Threads = dict[int, tuple[int, float]]  # by the place of the device: its depth, and its seconds


class PassesAnew:
    """The passes of both sides, to be asked what each takes with others in the places of some."""

    def __init__(self, groups: Sequence[Placed], plan: MigrationPlan) -> None:
        self._groups = groups
        self._backwards = [each.side == "source" for each in plan.passes]
        self._strategy = plan.passes[0].strategy
        phases = plan.switchover.phases
        self._costs = (phases.launch_s, phases.join_s)
        self._now = [each.mechanism_s for each in plan.passes]

    def gains(self, taken: Mapping[int, int], added: Sequence[tuple[Part, int]]) -> list[float]:
        """Give by how many seconds each pass is shorter with so many of these groups taken, and these added."""
        return [now - self._seconds(number, taken, added) for number, now in enumerate(self._now)]

    def _seconds(self, number: int, taken: Mapping[int, int], added: Sequence[tuple[Part, int]]) -> float:
        threads: _Threads = {}
        in_turn: dict[int, float] = {}
        for part, places in self._others(taken, added):
            if not part.thread:
                in_turn[part.depth] = in_turn.get(part.depth, 0.0) + len(places) * part.seconds[number]
            elif part.launched[number]:
                threads |= dict.fromkeys(places, (part.depth, part.seconds[number]))
        backwards = self._backwards[number]
        launches: dict[int, list[float]] = {}
        for place in sorted(threads, reverse=backwards):
            depth, seconds = threads[place]
            launches.setdefault(depth, []).append(seconds)
        depths = [
            DepthTimes(tuple(launches.get(depth, ())), in_turn.get(depth, 0.0), *self._costs)
            for depth in sorted(launches.keys() | in_turn.keys(), reverse=backwards)
        ]
        return self._strategy.pass_s(depths, SECONDS)

    def _others(
        self, taken: Mapping[int, int], added: Sequence[tuple[Part, int]]
    ) -> Iterator[tuple[Part, tuple[int, ...]]]:
        """Give all parts with their places: of several that are alike the last is taken first."""
        for index, group in enumerate(self._groups):
            kept = len(group.places) - taken.get(index, 0)
            yield group.part, group.places[:kept]
        for (index, count), new in zip_longest(taken.items(), added):
            if new is not None:
                yield new[0], self._groups[index].last(count)
