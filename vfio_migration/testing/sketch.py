"""Small timelines in plain text, for messages of failed tests."""

from collections.abc import Sequence

from vfio_migration.recorded import Span, SpanKind

_WIDTH = 60
_MOST = 16  # lanes; more do not explain anything


def sketch(spans: Sequence[Span], marked: Sequence[Span] = ()) -> str:
    """
    Draw spans, a lane for each name and kind of work; those that are `marked` are drawn as `#`, others as `-`.

    Joins, and handlers that do nothing but launch and join, are left out unless they are marked. Where nothing took
    any time, the order of events takes its place.
    """
    devices = {span.name for span in spans if span.kind is SpanKind.CHANGE}
    shown = [span for span in spans if span in marked or _is_worth_a_lane(span, devices)]
    if not shown:
        return "(nothing was recorded that takes time)"
    timeless = all(span.start_ns == span.end_ns == shown[0].start_ns for span in shown)
    extents = {id(span): (span.begun, span.ended) if timeless else (span.start_ns, span.end_ns) for span in shown}
    start, end = min(extent[0] for extent in extents.values()), max(extent[1] for extent in extents.values())
    lanes: dict[str, list[Span]] = {}
    for span in sorted(shown, key=lambda span: span not in marked):  # what matters stays if there are too many
        lanes.setdefault(_lane(span), []).append(span)
    kept = dict(list(lanes.items())[:_MOST])
    width = max(map(len, kept))
    lines = [
        f"{name:<{width}} |{_bar([(extents[id(span)], span in marked) for span in lane], start, end)}|"
        for name, lane in sorted(kept.items(), key=_place)
    ]
    if len(lanes) > len(kept):
        lines.append(f"and {len(lanes) - len(kept)} more")
    axis = f"{end - start} events" if timeless else f"{(end - start) / 1e6:,.3f} ms"
    return "\n".join([*lines, f"{'':<{width}}  0{axis:>{_WIDTH - 1}}"])


def _is_worth_a_lane(span: Span, devices: set[str]) -> bool:
    return span.kind in (SpanKind.ARC, SpanKind.SAVE) or (span.kind is SpanKind.HANDLER and span.name not in devices)


def _lane(span: Span) -> str:
    return " ".join(filter(None, (span.machine, span.name or "(unnamed)")))


def _place(item: tuple[str, list[Span]]) -> tuple[int, int, str]:
    start, begun = min((span.start_ns, span.begun) for span in item[1])
    return start, begun, item[0]


def _bar(lane: Sequence[tuple[tuple[int, int], bool]], start: int, end: int) -> str:
    cells = [" "] * _WIDTH
    total = max(1, end - start)
    for (begin, finish), is_marked in sorted(lane, key=lambda each: each[1]):
        first = min((begin - start) * _WIDTH // total, _WIDTH - 1)
        last = min(max((finish - start) * _WIDTH // total, first + 1), _WIDTH)
        cells[first:last] = ("#" if is_marked else "-") * (last - first)
    return "".join(cells)
