"""All devices of a pass at a time, whatever their depth."""

from collections.abc import Sequence
from dataclasses import dataclass

from vfio_migration.strategies.arithmetic import Arithmetic, DepthTimes, T, joined_s
from vfio_migration.strategies.base import Change, Walk


@dataclass(frozen=True)
class Overlapping:
    """
    All changes of a pass are launched where its first bracket opens, each is joined where its own closes.

    Two passes with a P2P state between them allow that: in prepare no device goes farther than to a state in which it
    begins no access to another and still answers any, and all are joined before main begins. So no device stops, or
    starts, while another may still reach for it, in whatever order they change (uAPI `VFIO_DEVICE_STATE_RUNNING_P2P`).

    What it gives up: a change runs at the same time as ordinary handlers of other depths, those between the first
    bracket and its own. A handler that has to find its device as it was before the pass cannot be told apart. A device
    cannot be taken away in a pass any more once its first bracket was met (`DeviceBusyError`), where with `depths` it
    can as long as its own was not. One that is registered in the middle of a pass is launched where its own bracket
    opens.
    """

    name = "overlapping"

    def open(self, change: Change, walk: Walk) -> None:
        """Launch it and all others, unless an earlier bracket of the pass has."""
        if not change.begun:
            for each in walk.due():
                each.launch()
            if not change.begun:
                change.launch()

    def close(self, change: Change, walk: Walk) -> None:
        """Join it."""
        change.join()

    def pass_s(self, depths: Sequence[DepthTimes[T]], math: Arithmetic[T]) -> T:
        """Give when the walk has joined the last: handlers add up, and each depth waits for its own devices."""
        now = math.zero
        ends: list[list[T]] = []
        for place, depth in enumerate(depths):
            if not ends and depth.launches:
                ends = [[] for _ in range(place)]
                for each in depths[place:]:
                    now, found = _launched(now, each)
                    ends.append(found)
            now = now + depth.handlers_s
            now = joined_s(now, ends[place] if ends else (), depth.join_s, math)
        return now


def _launched(now: T, depth: DepthTimes[T]) -> tuple[T, list[T]]:
    """Give when the walk has launched all of a depth, and when each of these ends."""
    ends = []
    for seconds in depth.launches:
        now = now + depth.launch_s
        ends.append(now + seconds)
    return now, ends
