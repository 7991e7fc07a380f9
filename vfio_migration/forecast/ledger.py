"""
What the switchover takes, group by group, so that the gain of a change is known without planning all of it again.

Only what a change touches is worked out: the depths that it is at, and its stretch of the transfer. Planning anew for
each change would take too long for a machine of a thousand devices.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from vfio_migration.forecast.parts import PASSES, Part, Placed
from vfio_migration.forecast.passes_anew import PassesAnew
from vfio_migration.forecast.side_by_side_ledger import SideBySideLedger
from vfio_migration.forecast.transfer_ledger import Saving, TransferLedger
from vfio_migration.forecast.walked_depth import WalkedDepth
from vfio_migration.plan import MigrationPlan, SideBySidePlan
from vfio_migration.strategies import DEFAULT_STRATEGY

NS = 9  # digits: the clocks count nanoseconds, what is below is rounding
_SOURCE_PASSES = (0, 1)


class Ledger:
    """The seconds of every pass and depth, group by group, and the transfer."""

    def __init__(self, groups: Sequence[Placed], plan: MigrationPlan) -> None:
        self._groups = groups
        self._plan = plan
        self._in_turn: dict[tuple[int, int], float] = {}
        self._threads: dict[tuple[int, int], list[tuple[float, int]]] = {}
        for index, group in enumerate(groups):
            for number, seconds in enumerate(group.part.seconds):
                cell = (group.part.depth, number)
                if group.part.thread:
                    self._threads.setdefault(cell, []).append((seconds, index))
                else:
                    self._in_turn[cell] = self._in_turn.get(cell, 0.0) + len(group.places) * seconds
        for threads in self._threads.values():
            threads.sort(reverse=True)
        phases = plan.switchover.phases
        self._costs = (phases.launch_s, phases.join_s)
        self._walked: dict[tuple[int, int], WalkedDepth] = {}
        self._transfer = _transfer_of(plan, groups)
        self._anew = PassesAnew(groups, plan) if plan.passes[0].strategy != DEFAULT_STRATEGY else None

    def gain(self, taken: Mapping[int, int], added: Sequence[tuple[Part, int]]) -> float:
        """
        Give by how many seconds the switchover is shorter with so many of these groups taken, and these added.

        What is added takes the places of what is taken, in the same order. Of several that are alike the last is taken
        first. When the switchover is decided stays as it is, and so does what the destination still has to load then.
        """
        gains = self._gains(taken, added) if self._anew is None else self._anew.gains(taken, added)
        stop_gain = sum(gains[number] for number in _SOURCE_PASSES)
        return round(sum(gains) + self._transfer_gain(stop_gain, taken, added), NS) + 0.0  # no negative zero

    def _gains(self, taken: Mapping[int, int], added: Sequence[tuple[Part, int]]) -> list[float]:
        """Give by how much each pass is shorter."""
        gains = [0.0] * PASSES
        away = [(self._groups[index].part, count) for index, count in taken.items()]
        for depth in {part.depth for part, _ in (*away, *added)}:
            for number in range(PASSES):
                gains[number] += self._cell(depth, number, {}, ()) - self._cell(depth, number, taken, added)
        return gains

    def _transfer_gain(self, stop_gain: float, taken: Mapping[int, int], added: Sequence[tuple[Part, int]]) -> float:
        """Give by how much all is shorter that lies between stop and start."""
        away = [(self._groups[index].part, count) for index, count in taken.items()]
        if self._transfer is None:
            before = sum((part.transfer_s + part.saving.state.config_load_s) * count for part, count in away)
            return before - sum((part.transfer_s + part.saving.state.config_load_s) * count for part, count in added)
        others: dict[int, Saving | None] = {}
        for (index, count), new in zip_longest(taken.items(), added):
            group = self._groups[index]
            if new is None or new[0].saving != group.part.saving:
                others |= dict.fromkeys(group.last(count), None if new is None else new[0].saving)
        return self._transfer.gain(stop_gain, others)

    def _cell(self, depth: int, number: int, taken: Mapping[int, int], added: Sequence[tuple[Part, int]]) -> float:
        """Give how long one pass stays at one depth: its longest thread, or all that comes in turn."""
        in_turn = self._in_turn.get((depth, number), 0.0)
        less = [(self._groups[index].part, -count) for index, count in taken.items()]
        for part, count in (*less, *added):
            if part.depth == depth and not part.thread:
                in_turn += count * part.seconds[number]
        if any(self._costs):
            return self._walked_cell(depth, number, taken, added, in_turn)
        left = (
            seconds
            for seconds, index in self._threads.get((depth, number), ())
            if taken.get(index, 0) < len(self._groups[index].places)
        )
        new = (part.seconds[number] for part, _ in added if part.depth == depth and part.thread)
        return max(in_turn, next(left, 0.0), *new)

    def _walked_cell(
        self, depth: int, number: int, taken: Mapping[int, int], added: Sequence[tuple[Part, int]], in_turn: float
    ) -> float:
        """Give the same where launching and joining take the walk some time, so that their order counts."""
        key = (depth, number)
        if key not in self._walked:
            threads = {
                place: group.part.seconds[number]
                for group in self._groups
                if group.part.depth == depth and group.part.launched[number]
                for place in group.places
            }
            self._walked[key] = WalkedDepth(threads, *self._costs, backwards=number in _SOURCE_PASSES)
        others: dict[int, float | None] = {}
        for (index, count), new in zip_longest(taken.items(), added):
            there = new is not None and new[0].depth == depth and new[0].launched[number]
            others |= dict.fromkeys(self._groups[index].last(count), new[0].seconds[number] if there else None)
        return self._walked[key].seconds(in_turn, others)


def _transfer_of(plan: MigrationPlan, groups: Sequence[Placed]) -> TransferLedger | SideBySideLedger | None:
    transfer = plan.transfer
    if transfer is None:
        return None
    if isinstance(transfer, SideBySidePlan):
        return SideBySideLedger(plan, transfer, _savings(groups), len(groups))
    return TransferLedger(plan, transfer, _savings(groups))


def _savings(groups: Sequence[Placed]) -> list[Saving]:
    """Give what saving each device is, in the order of the devices; handlers have no place in it."""
    placed = {place: group.part.saving for group in groups for place in group.places if place >= 0}
    return [placed[place] for place in sorted(placed)]
