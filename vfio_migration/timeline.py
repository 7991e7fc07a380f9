"""Timelines: what was recorded, as spans with a beginning and an end."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from vmstate import TraceEvent, depth_of_priority


class SpanKind(StrEnum):
    """What a span stands for."""

    ARC = "arc"
    HANDLER = "handler"
    SAVE = "save"


@dataclass(frozen=True)
class Span:
    """
    Something that took time, from `start_ns` to `end_ns` of the clock.

    `name` is the device's or handler's, `depth` that in the device tree (None: a plain priority), `detail`
    the arc (`PRE_COPY -> PRE_COPY_P2P`) or the pass.
    """

    kind: SpanKind
    name: str
    detail: str
    machine: str
    thread: str
    depth: int | None
    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9

    def overlaps(self, other: "Span") -> bool:
        """Whether there was a moment at which both went on."""
        return self.start_ns < other.end_ns and other.start_ns < self.end_ns


@dataclass(frozen=True)
class Timeline:
    """The spans of a migration, in order of their beginning, and when the switchover began and ended."""

    spans: tuple[Span, ...]
    start_ns: int | None
    end_ns: int | None

    def switchover(self) -> tuple[Span, ...]:
        """Give the spans that lie in the switchover, if it was reached."""
        if self.start_ns is None or self.end_ns is None:
            return ()
        return tuple(span for span in self.spans if self.start_ns <= span.start_ns and span.end_ns <= self.end_ns)


# Which event opens a span and which closes it; a thread's spans of a kind and name follow one another.
_OPENING = {
    "vfio_arc_begin": SpanKind.ARC,
    "handler_begin": SpanKind.HANDLER,
    "vfio_save_complete_precopy_start": SpanKind.SAVE,
}
_CLOSING = {
    "vfio_arc_end": SpanKind.ARC,
    "handler_end": SpanKind.HANDLER,
    "vfio_save_complete_precopy": SpanKind.SAVE,
}


def build_timeline(events: Iterable[TraceEvent]) -> Timeline:
    """Make a timeline of recorded events, of both machines; what was never closed is left out."""
    open_spans: dict[tuple[SpanKind, str, str, str], TraceEvent] = {}
    spans = []
    start_ns = end_ns = None
    for event in events:
        if event.name == "vmstate_downtime_checkpoint":
            if event.fields["checkpoint"] == "src-downtime-start":
                start_ns, end_ns = event.time_ns, None
            elif event.fields["checkpoint"] == "dst-precopy-bh-vm-started":
                end_ns = event.time_ns
        kind = _OPENING.get(event.name)
        if kind is not None:
            open_spans[kind, event.machine, event.thread, _name(kind, event)] = event
        kind = _CLOSING.get(event.name)
        if kind is not None:
            opening = open_spans.pop((kind, event.machine, event.thread, _name(kind, event)), None)
            if opening is not None:
                spans.append(_span(kind, opening, event))
    return Timeline(tuple(sorted(spans, key=lambda span: span.start_ns)), start_ns, end_ns)


def _name(kind: SpanKind, event: TraceEvent) -> str:
    return str(event.fields["handler" if kind is SpanKind.HANDLER else "name"])


def _span(kind: SpanKind, opening: TraceEvent, closing: TraceEvent) -> Span:
    fields = opening.fields
    depth: int | None = None
    detail = ""
    if kind is SpanKind.HANDLER:
        depth = depth_of_priority(fields["priority"])
        detail = fields["kind"]
    elif kind is SpanKind.ARC:
        depth = fields["depth"]
        detail = f"{fields['current']} -> {fields['target']}"
    return Span(
        kind,
        _name(kind, opening),
        detail,
        opening.machine,
        opening.thread,
        depth,
        opening.time_ns,
        closing.time_ns,
    )
