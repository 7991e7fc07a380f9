"""What the eye makes of what is sent and loaded in pieces: which of them are one bar, and which lanes are not drawn."""

from collections.abc import Iterable
from dataclasses import replace

from vfio_migration.recorded import Span, SpanKind, Timeline, part_lane, parts

SHORTEST_S = 0.0001  # what takes less is not worth a mark
_SEEN = 0.001  # of the switchover: of less nothing would be seen
_PAUSE = 0.004  # of the switchover: a shorter one between two pieces is hardly seen
_STRIPE = 0.01  # of the switchover: what is shorter has no room for anything but its edges
_IN_TURN = "devices in turn"


def seen(timeline: Timeline) -> list[Span]:
    """Give a switchover's parts, pieces joined as the eye would, but for lanes in which next to nothing is done."""
    total_ns = (timeline.end_ns or 0) - (timeline.start_ns or 0)
    by_lane: dict[object, list[Span]] = {}
    for span in parts(timeline):
        by_lane.setdefault((part_lane(span), span.machine), []).append(span)
    shortest_s = max(SHORTEST_S, total_ns / 1e9 * _SEEN)
    found = []
    for spans in by_lane.values():
        if sum(span.busy_s for span in spans) >= shortest_s or any(span.kind is SpanKind.COST for span in spans):
            found += _joined(spans, total_ns)
    return sorted(found, key=lambda span: span.start_ns)


def _joined(spans: Iterable[Span], total_ns: int) -> list[Span]:
    """Join the pieces of each device; and those of several that take turns, where each would be but a stripe."""
    found: list[Span] = []
    for span in _runs(spans, total_ns):
        last = found[-1] if found else None
        in_turn = last is not None and (last.name == _IN_TURN or _is_stripe(last, total_ns))
        if last is not None and in_turn and _is_stripe(span, total_ns) and _follows(last, span, total_ns):
            found[-1] = replace(last.with_next(span), name=_IN_TURN)
        else:
            found.append(span)
    return found


def _runs(spans: Iterable[Span], total_ns: int) -> list[Span]:
    found: list[Span] = []
    for span in spans:
        if found and found[-1].name == span.name and _follows(found[-1], span, total_ns):
            found[-1] = found[-1].with_next(span)
        else:
            found.append(span)
    return found


def _is_stripe(span: Span, total_ns: int) -> bool:
    return span.end_ns - span.start_ns < total_ns * _STRIPE


def _follows(last: Span, span: Span, total_ns: int) -> bool:
    """Say whether both are pieces of a state, and what lies between them could not be seen."""
    return bool(span.size) and last.kind == span.kind and span.start_ns - last.end_ns <= total_ns * _PAUSE
