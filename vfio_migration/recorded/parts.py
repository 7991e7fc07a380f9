"""What there is in a switchover beside changes and handlers: sending, loading, fixed costs; and the lanes of these."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vfio_migration.recorded.timeline import Span, SpanKind, Timeline

_RAM = "ram"  # the id of memory's section
SENDING = "sending"
LOADING = "loading"
PHASES = "phases"
_LANES = (SENDING, LOADING, PHASES)
_LOADS = (SpanKind.LOADER, SpanKind.LOAD, SpanKind.CONFIG)
_OF_DEVICES = (SpanKind.ARC, SpanKind.CHANGE, SpanKind.SAVE)


@dataclass(frozen=True)
class PartLane:
    """A lane for parts of a kind: its group, its place in that, its name."""

    group: str
    place: int
    name: str

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands: what is sent before what is loaded, memory before devices, the main channel first."""
        return _LANES.index(self.group), self.place


def part_lane(span: Span) -> PartLane | None:
    """
    Give the lane that a span has beside those of devices and handlers; None if it has none.

    What is sent has one for memory, for each other thing that has a section of its own and for each channel; what is
    loaded one for each device; the fixed costs one for each side.
    """
    match span.kind:
        case SpanKind.SECTION:
            return PartLane(SENDING, 0, "RAM") if span.name == _RAM else PartLane(SENDING, 1, span.name)
        case SpanKind.SEND:
            return PartLane(SENDING, 3, span.detail) if span.detail else PartLane(SENDING, 2, "device states")
        case SpanKind.LOADER | SpanKind.LOAD | SpanKind.CONFIG:
            return PartLane(LOADING, 0, span.name)
        case SpanKind.COST:
            return PartLane(PHASES, span.side != "source", span.side or span.machine)
    return None


def parts(timeline: Timeline) -> list[Span]:
    """
    Give the parts of the switchover that take time, in order of their beginning.

    A device's section is none, its state is; nor is a section in which nothing but a phase's fixed cost passes. A load
    thread is one if nothing says when it loads. What was still being loaded when the switchover began counts from
    there.
    """
    start_ns, end_ns = timeline.start_ns, timeline.end_ns
    if start_ns is None or end_ns is None:
        return []
    within = [span for span in timeline.spans if span.start_ns < span.end_ns <= end_ns]
    late = [
        replace(span, start_ns=start_ns, busy_ns=-1)
        for span in within
        if span.kind in _LOADS and span.start_ns < start_ns < span.end_ns
    ]
    spans = [*late, *(span for span in within if span.start_ns >= start_ns)]
    devices = {span.name for span in timeline.spans if span.kind in _OF_DEVICES}
    known = {(span.machine, span.name) for span in spans if span.kind is SpanKind.LOAD}
    costs = [span for span in spans if span.kind is SpanKind.COST]

    def counts(span: Span) -> bool:
        if span.kind is SpanKind.SECTION:
            return span.name not in devices and not holds_cost(span, costs)
        if span.kind is SpanKind.LOADER:
            return (span.machine, span.name) not in known
        return part_lane(span) is not None

    return [span for span in spans if counts(span)]


def holds_cost(span: Span, costs: Iterable[Span]) -> bool:
    """Say whether it is a phase's fixed cost that passes in a handler or a section."""
    return any(span.holds(cost) for cost in costs)
