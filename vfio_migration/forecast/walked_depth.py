"""One depth of a pass where the walk itself takes time to launch and to join: who comes when counts there."""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate


class WalkedDepth:
    """
    The threads of one depth, in the order of the walk, to be asked what it takes with others.

    The n-th thread of all holds the walk up for n launches, its own time, and the joins from its own on. So each has a
    figure of its own, and the greatest counts; with one thread changed, those before it and those after it keep theirs,
    but for what all of them shift.
    """

    def __init__(self, threads: Mapping[int, float], launch_s: float, join_s: float, *, backwards: bool) -> None:
        self._sign = -1 if backwards else 1
        self._launch_s, self._join_s = launch_s, join_s
        self._shift = launch_s - join_s
        self._threads = dict(threads)
        self._order = sorted(self._sign * place for place in threads)
        figures = [threads[self._sign * key] + number * self._shift for number, key in enumerate(self._order, start=1)]
        self._before = [0.0, *accumulate(figures, max)]  # of the first so many; there are none of the first none
        self._after = [*reversed(list(accumulate(reversed(figures), max))), 0.0]
        self._none = float("-inf")

    def seconds(self, in_turn: float, others: Mapping[int, float | None]) -> float:
        """Give what the depth takes, with other threads at these places; None: none."""
        changed = {place: new for place, new in others.items() if new != self._threads.get(place)}
        if len(changed) > 1:
            threads = {place: new for place, new in (self._threads | changed).items() if new is not None}
            anew = WalkedDepth(threads, self._launch_s, self._join_s, backwards=self._sign < 0)
            return anew.seconds(in_turn, {})
        count = len(self._order)
        if not changed:
            return self._whole(in_turn, count, self._before[-1] if count else self._none)
        ((place, new),) = changed.items()
        at = bisect_left(self._order, self._sign * place)
        there = place in self._threads
        more = (new is not None) - there
        before = self._before[at] if at else self._none
        after = self._after[at + there] + more * self._shift if at + there < count else self._none
        here = self._none if new is None else new + (at + 1) * self._shift
        return self._whole(in_turn, count + more, max(before, here, after))

    def _whole(self, in_turn: float, count: int, greatest: float) -> float:
        return max(in_turn + count * (self._launch_s + self._join_s), (count + 1) * self._join_s + greatest)
