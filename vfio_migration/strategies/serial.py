"""One device after another, without threads."""

from collections.abc import Sequence
from dataclasses import dataclass

from vfio_migration.strategies.arithmetic import Arithmetic, DepthTimes, T, sum_of
from vfio_migration.strategies.base import Change, Walk


@dataclass(frozen=True)
class Serial:
    """
    Each device's change is made where its bracket opens, before the ordinary handlers of its depth.

    What it gives up: nothing runs at the same time as anything else; and a stalled device stalls the walk, which a
    watchdog cannot mend, since only who joins gives up. What a change raises is raised where its bracket opens.
    """

    name = "serial"

    def open(self, change: Change, walk: Walk) -> None:
        """Make it."""
        change.make()

    def close(self, change: Change, walk: Walk) -> None:
        """Do nothing: it was made."""

    def pass_s(self, depths: Sequence[DepthTimes[T]], math: Arithmetic[T]) -> T:
        """Give the sum of everything."""
        return sum_of([each.in_turn_s(math) for each in depths], math)
