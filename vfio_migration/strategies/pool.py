"""Depth after depth, with so many devices at a time at most."""

from collections.abc import Sequence
from dataclasses import dataclass

from vfio_migration.strategies.arithmetic import Arithmetic, DepthTimes, T, joined_s, sum_of
from vfio_migration.strategies.base import Change, Walk


@dataclass(frozen=True)
class Pool:
    """
    As `depths`, with `most` changes of a depth at a time: for a kernel or firmware that does not gain from more.

    Each device has its thread all the same, which waits for a place before it begins; places are given in the order of
    the launches. The walk waits for no place. A change that the watchdog gives up gives its place back, although its
    thread may still be at its device.

    What it gives up: a change that is made on the spot, as no thread can be started, waits for no place, so that one
    more may run meanwhile. All that is promised of `depths` holds.

    Raises:
        ValueError: `most` is no number of places, which is 1 or more.

    """

    most: int

    def __post_init__(self) -> None:
        if not isinstance(self.most, int) or isinstance(self.most, bool) or self.most < 1:
            raise ValueError(f"a pool needs a place or more: expected pool:N with N of 1 or more, got {self.most!r}")

    @property
    def name(self) -> str:
        """How it is called: `pool:4`."""
        return f"pool:{self.most}"

    def open(self, change: Change, walk: Walk) -> None:
        """Launch it; it begins when there is a place."""
        change.launch(walk.places(self.most))

    def close(self, change: Change, walk: Walk) -> None:
        """Join it."""
        change.join()

    def pass_s(self, depths: Sequence[DepthTimes[T]], math: Arithmetic[T]) -> T:
        """Give the sum over depths, each by list scheduling in the order of the launches."""
        return sum_of([self._depth_s(each, math) for each in depths], math)

    def _depth_s(self, depth: DepthTimes[T], math: Arithmetic[T]) -> T:
        now = math.zero
        ends = []
        free: list[T] = []  # when each place that was given is free again, ascending; the others are free at once
        for seconds in depth.launches:
            now = now + depth.launch_s
            begin = now
            if len(free) == self.most:
                begin = math.longest((now, free.pop(0)))
            ends.append(begin + seconds)
            _insert(free, ends[-1], math)
        return joined_s(now + depth.handlers_s, ends, depth.join_s, math)


def _insert(ascending: list[T], moment: T, math: Arithmetic[T]) -> None:
    """Put one more among moments in order, by comparing and exchanging, which arrays can do sample by sample."""
    for place, each in enumerate(ascending):
        ascending[place] = math.shortest((each, moment))
        moment = math.longest((each, moment))
    ascending.append(moment)
