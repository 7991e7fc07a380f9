"""Timelines: what was recorded, as spans with a beginning and an end."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from vmstate import TraceEvent, depth_of_priority


class SpanKind(StrEnum):
    """What a span stands for."""

    ARC = "arc"  # one step of a device's state machine
    CHANGE = "change"  # all that a device does in one pass, in whatever thread
    HANDLER = "handler"  # one callback, as the walk calls it
    JOIN = "join"  # the walk waits for a state-change thread
    SAVE = "save"  # a device's state is read and sent in the switchover
    PHASE = "phase"  # a part of the migration, as its checkpoints mark it


@dataclass(frozen=True)
class Span:
    """
    Something that took time, from `start_ns` to `end_ns` of the clock.

    `name` is the device's or handler's, `depth` that in the device tree (None: a plain priority, or no device),
    `detail` the arc (`PRE_COPY -> PRE_COPY_P2P`) or the pass. `side` is "source" or "destination", or empty if no
    checkpoint of a migration says which. `begun` and `ended` are the places of its two events among all that were
    recorded: they tell the order of what takes no time.
    """

    kind: SpanKind
    name: str
    detail: str
    machine: str
    thread: str
    depth: int | None
    start_ns: int
    end_ns: int
    side: str = ""
    begun: int = field(default=-1, compare=False)
    ended: int = field(default=-1, compare=False)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9

    def overlaps(self, other: "Span") -> bool:
        """Whether there was a moment at which both went on."""
        return self.start_ns < other.end_ns and other.start_ns < self.end_ns

    def holds(self, other: "Span") -> bool:
        """Whether the other is a part of this one: in the same thread, and not longer."""
        return (
            (self.machine, self.thread) == (other.machine, other.thread)
            and self.start_ns <= other.start_ns
            and other.end_ns <= self.end_ns
        )


@dataclass(frozen=True)
class Timeline:
    """The spans of a migration, in order of their beginning, and when the switchover began and ended."""

    spans: tuple[Span, ...]
    start_ns: int | None
    end_ns: int | None

    @property
    def switchover_s(self) -> float | None:
        """How long the switchover took; None if it was not reached, or did not end."""
        if self.start_ns is None or self.end_ns is None:
            return None
        return (self.end_ns - self.start_ns) / 1e9

    def switchover(self) -> tuple[Span, ...]:
        """Give the spans that lie in the switchover, if it was reached."""
        if self.start_ns is None or self.end_ns is None:
            return ()
        return tuple(span for span in self.spans if self.start_ns <= span.start_ns and span.end_ns <= self.end_ns)

    def select(
        self, kind: SpanKind | str | None = None, name: str = "*", detail: str = "*", side: str | None = None
    ) -> tuple[Span, ...]:
        """
        Give the spans of a kind and a side whose name and detail match shell patterns.

        Raises:
            ValueError: there is no such kind, or no such side.

        """
        if kind is not None:
            kind = SpanKind(kind)
        if side not in (None, *_SIDES.values(), ""):
            raise ValueError(f"side is 'source', 'destination' or '' (none of them), not {side!r}")
        return tuple(
            span
            for span in self.spans
            if kind in (None, span.kind)
            and (side is None or span.side == side)
            and fnmatchcase(span.name, name)
            and fnmatchcase(span.detail, detail)
        )


# Which event opens a span and which closes it; a thread's spans of a kind and name follow one another.
_OPENING = {
    "vfio_arc_begin": SpanKind.ARC,
    "vfio_change_begin": SpanKind.CHANGE,
    "handler_begin": SpanKind.HANDLER,
    "vfio_join_begin": SpanKind.JOIN,
    "vfio_save_complete_precopy_start": SpanKind.SAVE,
}
_CLOSING = {
    "vfio_arc_end": SpanKind.ARC,
    "vfio_change_end": SpanKind.CHANGE,
    "handler_end": SpanKind.HANDLER,
    "vfio_join_end": SpanKind.JOIN,
    "vfio_save_complete_precopy": SpanKind.SAVE,
}
# Phases by the checkpoints that open and close them, each pair passed by one thread.
_PHASES = {
    "src-downtime-start": ("src-vm-stopped", "stop"),
    "src-vm-stopped": ("src-downtime-end", "transfer"),
    "dst-precopy-bh-enter": ("dst-precopy-bh-vm-started", "start"),
}
_SIDES = {"src": "source", "dst": "destination"}
_Key = tuple[SpanKind, str, str, str]
_Placed = tuple[int, TraceEvent]


def build_timeline(events: Iterable[TraceEvent]) -> Timeline:
    """Make a timeline of recorded events, of both machines; what was never closed is left out."""
    open_spans: dict[_Key, _Placed] = {}
    open_phases: dict[tuple[str, str], _Placed] = {}  # by what closes them
    spans = []
    sides: dict[str, str] = {}
    start_ns = end_ns = None
    for place, event in enumerate(events):
        if event.name == "vmstate_downtime_checkpoint":
            checkpoint = event.fields["checkpoint"]
            sides[event.machine] = _SIDES.get(checkpoint.partition("-")[0], "")
            if checkpoint == "src-downtime-start":
                start_ns, end_ns = event.time_ns, None
            elif checkpoint == "dst-precopy-bh-vm-started":
                end_ns = event.time_ns
            opening = open_phases.pop((event.machine, checkpoint), None)
            if opening is not None:
                spans.append(_phase(opening, (place, event)))
            if checkpoint in _PHASES:
                open_phases[event.machine, _PHASES[checkpoint][0]] = place, event
        kind = _OPENING.get(event.name)
        if kind is not None:
            open_spans[_key(kind, event)] = place, event
        kind = _CLOSING.get(event.name)
        if kind is not None:
            opening = open_spans.pop(_key(kind, event), None)
            if opening is not None:
                spans.append(_span(kind, opening, (place, event)))
    sided = [replace(span, side=sides.get(span.machine, "")) for span in spans]
    return Timeline(tuple(sorted(sided, key=lambda span: (span.start_ns, -span.end_ns))), start_ns, end_ns)


def _key(kind: SpanKind, event: TraceEvent) -> _Key:
    return kind, event.machine, event.thread, _name(kind, event)


def _name(kind: SpanKind, event: TraceEvent) -> str:
    return str(event.fields["handler" if kind is SpanKind.HANDLER else "name"])


def _phase(opening: _Placed, closing: _Placed) -> Span:
    name = _PHASES[opening[1].fields["checkpoint"]][1]
    return _between(opening, closing, SpanKind.PHASE, name, "", None)


def _span(kind: SpanKind, opening: _Placed, closing: _Placed) -> Span:
    fields = opening[1].fields
    depth: int | None = fields.get("depth")
    detail = ""
    if kind is SpanKind.HANDLER:
        depth = depth_of_priority(fields["priority"])
        detail = fields["kind"]
    elif kind is SpanKind.ARC:
        detail = f"{fields['current']} -> {fields['target']}"
    elif kind in (SpanKind.CHANGE, SpanKind.JOIN):
        detail = fields["kind"]
    return _between(opening, closing, kind, _name(kind, opening[1]), detail, depth)


def _between(opening: _Placed, closing: _Placed, kind: SpanKind, name: str, detail: str, depth: int | None) -> Span:
    (begun, first), (ended, last) = opening, closing
    return Span(
        kind,
        name,
        detail,
        first.machine,
        first.thread,
        depth,
        first.time_ns,
        last.time_ns,
        begun=begun,
        ended=ended,
    )
