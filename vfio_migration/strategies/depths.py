"""Depth after depth, all devices of a depth at a time: the patch's way."""

from collections.abc import Sequence
from dataclasses import dataclass

from vfio_migration.strategies.arithmetic import Arithmetic, DepthTimes, T, joined_s, sum_of
from vfio_migration.strategies.base import Change, Walk


@dataclass(frozen=True)
class Depths:
    """
    A thread for each device, launched where its bracket opens and joined where it closes.

    So a change runs at the same time as other devices and as ordinary handlers of its depth, and never at the same time
    as a handler of another depth.
    """

    name = "depths"

    def open(self, change: Change, walk: Walk) -> None:
        """Launch it."""
        change.launch()

    def close(self, change: Change, walk: Walk) -> None:
        """Join it."""
        change.join()

    def pass_s(self, depths: Sequence[DepthTimes[T]], math: Arithmetic[T]) -> T:
        """Give the sum over depths of what each takes: it launches, calls, joins."""
        return sum_of([_depth_s(each, math) for each in depths], math)


def _depth_s(depth: DepthTimes[T], math: Arithmetic[T]) -> T:
    now = math.zero
    ends = []
    for seconds in depth.launches:
        now = now + depth.launch_s
        ends.append(now + seconds)
    return joined_s(now + depth.handlers_s, ends, depth.join_s, math)
