"""Finds spans without looking at all of them: of a thread, the last that ended before a moment, those beside one."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable
from itertools import accumulate

from vfio_migration.recorded.timeline import Span


class LastEnded:
    """Spans by their end; of those that end at the same moment, the longest is the last."""

    def __init__(self, spans: Iterable[Span]) -> None:
        # Backwards, so that of several that are alike the first is found.
        self._spans = list(spans)
        self._spans.reverse()
        self._spans.sort(key=lambda span: (span.end_ns, -span.start_ns))
        self._ends = [span.end_ns for span in self._spans]

    def before(self, moment_ns: int) -> Span | None:
        """Give the one that ended last, not after this moment."""
        place = bisect_right(self._ends, moment_ns)
        return self._spans[place - 1] if place else None


class Holders:
    """Spans of which others may be parts, by thread; those of one thread follow one another."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = _grouped(spans, lambda span: (span.machine, span.thread))
        for some in self._spans.values():
            some.sort(key=lambda span: span.start_ns)
        self._starts = {key: [span.start_ns for span in some] for key, some in self._spans.items()}

    def holding(self, span: Span) -> Span | None:
        """Give the one that this span is a part of, if it is a part of any."""
        key = span.machine, span.thread
        place = bisect_right(self._starts.get(key, ()), span.start_ns)
        # Of two that begin at the same moment, one took no time at all.
        for holder in reversed(self._spans.get(key, [])[max(0, place - 2) : place]):
            if holder.holds(span):
                return holder
        return None


class Beside:
    """Spans by what they have in common, to find those of a kind that go on at the same time as one of them."""

    def __init__(self, spans: Iterable[Span], sort: Callable[[Span], Hashable]) -> None:
        self._sort = sort
        self._spans = _grouped(spans, sort)
        for some in self._spans.values():
            some.sort(key=lambda span: span.start_ns)
        self._starts = {key: [span.start_ns for span in some] for key, some in self._spans.items()}
        # The latest end up to each place: before the first that is late enough, none can overlap.
        self._ends = {key: list(accumulate((span.end_ns for span in some), max)) for key, some in self._spans.items()}

    def overlapping(self, span: Span) -> list[Span]:
        """Give those of its sort that overlap it, itself among them, in order of their beginning."""
        key = self._sort(span)
        if key not in self._spans:
            return []
        first = bisect_right(self._ends[key], span.start_ns)
        last = bisect_left(self._starts[key], span.end_ns)
        return [each for each in self._spans[key][first:last] if each.overlaps(span)]


def _grouped(spans: Iterable[Span], sort: Callable[[Span], Hashable]) -> dict[Hashable, list[Span]]:
    groups: dict[Hashable, list[Span]] = {}
    for span in spans:
        groups.setdefault(sort(span), []).append(span)
    return groups
