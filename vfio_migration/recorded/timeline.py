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
    SECTION = "section"  # the source writes a section of the stream: memory, a device, whatever else migrates
    SEND = "send"  # a device's state is on its way, over the main channel or over the one that `detail` names
    LOADER = "loader"  # the destination's load thread of a device
    LOAD = "load"  # a device's state is written to it
    CONFIG = "config"  # a device's configuration is loaded
    COST = "cost"  # something of a switchover that takes its time whatever is sent: `[phases]`
    PHASE = "phase"  # a part of the migration, as its checkpoints mark it


@dataclass(frozen=True)
class Span:
    """
    Something that took time, from `start_ns` to `end_ns` of the clock.

    `name` is the device's or handler's, `depth` that in the device tree (None: a plain priority, or no device),
    `detail` the arc (`PRE_COPY -> PRE_COPY_P2P`), the pass or the channel. `side` is "source" or "destination", or
    empty if no checkpoint of a migration says which. `begun` and `ended` are the places of its two events among all
    that were recorded: they tell the order of what takes no time.

    Pieces of a state that are sent or loaded one right after another are one span: of `size` bytes in all, during which
    it was at it for `busy_ns`; -1: all the time.
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
    size: int = field(default=0, compare=False)
    busy_ns: int = field(default=-1, compare=False)

    @property
    def busy_s(self) -> float:
        """How long it was at it."""
        return self.seconds if self.busy_ns < 0 else self.busy_ns / 1e9

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

    def with_next(self, other: "Span") -> "Span":
        """Give this one and the next as one, of which the pause between them is a part in which nothing was done."""
        busy_ns = sum(each.end_ns - each.start_ns if each.busy_ns < 0 else each.busy_ns for each in (self, other))
        size = self.size + other.size
        return replace(self, end_ns=other.end_ns, ended=other.ended, size=size, busy_ns=busy_ns)


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
    "vfio_save_complete_precopy_thread_start": SpanKind.SAVE,
    "savevm_section_start": SpanKind.SECTION,
    "multifd_send_begin": SpanKind.SEND,
    "vfio_load_bufs_thread_start": SpanKind.LOADER,
    "vfio_load_state_device_buffer_load_start": SpanKind.LOAD,
    "vfio_load_device_config_state_start": SpanKind.CONFIG,
    "migration_phase_begin": SpanKind.COST,
}
_CLOSING = {
    "vfio_arc_end": SpanKind.ARC,
    "vfio_change_end": SpanKind.CHANGE,
    "handler_end": SpanKind.HANDLER,
    "vfio_join_end": SpanKind.JOIN,
    "vfio_save_complete_precopy": SpanKind.SAVE,
    "vfio_save_complete_precopy_thread_end": SpanKind.SAVE,
    "savevm_section_end": SpanKind.SECTION,
    "multifd_send_end": SpanKind.SEND,
    "vfio_load_bufs_thread_end": SpanKind.LOADER,
    "vfio_load_state_device_buffer_load_end": SpanKind.LOAD,
    "vfio_load_device_config_state_end": SpanKind.CONFIG,
    "migration_phase_end": SpanKind.COST,
}
# Events that come when it is over, as QEMU has them, and say when it began: one for each piece of a state.
_WHOLE = {
    "vfio_save_block": (SpanKind.SEND, "data_size"),
    "vfio_load_state_device_data": (SpanKind.LOAD, "size"),
}
# Which field has the name; of all others it is "name".
_NAMES = {SpanKind.HANDLER: "handler", SpanKind.SECTION: "id"}
# Phases by the checkpoints that open and close them, each pair passed by one thread.
_PHASES = {
    "src-downtime-start": ("src-vm-stopped", "stop"),
    "src-vm-stopped": ("src-downtime-end", "transfer"),
    "dst-precopy-bh-enter": ("dst-precopy-bh-vm-started", "start"),
}
_SIDES = {"src": "source", "dst": "destination"}
_IN_PIECES = (SpanKind.SEND, SpanKind.LOAD)
_PAUSE = 0.05  # of a piece: with a shorter pause before it, it follows the one before at once
_Key = tuple[SpanKind, str, str, str]
_Placed = tuple[int, TraceEvent]


def build_timeline(events: Iterable[TraceEvent]) -> Timeline:
    """
    Make a timeline of recorded events, of both machines; what was never closed is left out.

    So are pieces of a state that took no time to be sent or loaded.
    """
    building = _Building()
    for place, event in enumerate(events):
        building.add((place, event))
    return building.timeline()


class _Building:
    """A timeline in the making: what was opened and not closed yet, and what is known so far."""

    def __init__(self) -> None:
        self._open: dict[_Key, _Placed] = {}
        self._open_phases: dict[tuple[str, str], _Placed] = {}  # by what closes them
        self._spans: list[Span] = []
        self._last_pieces: dict[tuple[str, ...], int] = {}  # where they stand among the spans
        self._sides: dict[str, str] = {}
        self._start_ns: int | None = None
        self._end_ns: int | None = None

    def add(self, placed: _Placed) -> None:
        event = placed[1]
        name = event.name
        if name in _WHOLE:
            self._add_piece(_whole(placed))
        elif name in _OPENING:
            self._open[_key(_OPENING[name], event)] = placed
        elif name in _CLOSING:
            kind = _CLOSING[name]
            opening = self._open.pop(_key(kind, event), None)
            if opening is not None:
                span = _span(kind, opening, placed)
                if kind in _IN_PIECES:
                    self._add_piece(span)
                else:
                    self._spans.append(span)
        elif name == "vmstate_downtime_checkpoint":
            self._pass_checkpoint(placed)

    def timeline(self) -> Timeline:
        sided = [replace(span, side=self._sides.get(span.machine, "")) for span in self._spans]
        in_order = sorted(sided, key=lambda span: (span.start_ns, -span.end_ns))
        return Timeline(tuple(in_order), self._start_ns, self._end_ns)

    def _add_piece(self, span: Span) -> None:
        """Have a piece follow the one before it, if it does so at once."""
        length_ns = span.end_ns - span.start_ns
        if not length_ns:
            return
        key = span.kind, span.machine, span.thread, span.name, span.detail
        place = self._last_pieces.get(key)
        if place is not None and span.start_ns - self._spans[place].end_ns <= length_ns * _PAUSE:
            self._spans[place] = self._spans[place].with_next(span)
        else:
            self._last_pieces[key] = len(self._spans)
            self._spans.append(span)

    def _pass_checkpoint(self, placed: _Placed) -> None:
        event = placed[1]
        checkpoint = event.fields["checkpoint"]
        self._sides[event.machine] = _SIDES.get(checkpoint.partition("-")[0], "")
        if checkpoint == "src-downtime-start":
            self._start_ns, self._end_ns = event.time_ns, None
        elif checkpoint == "dst-precopy-bh-vm-started":
            self._end_ns = event.time_ns
        opening = self._open_phases.pop((event.machine, checkpoint), None)
        if opening is not None:
            self._spans.append(_phase(opening, placed))
        if checkpoint in _PHASES:
            self._open_phases[event.machine, _PHASES[checkpoint][0]] = placed


def _key(kind: SpanKind, event: TraceEvent) -> _Key:
    return kind, event.machine, event.thread, _name(kind, event)


def _name(kind: SpanKind, event: TraceEvent) -> str:
    return str(event.fields[_NAMES.get(kind, "name")])


def _whole(placed: _Placed) -> Span:
    """Give the span of an event that comes when it is over."""
    place, event = placed
    kind, size = _WHOLE[event.name]
    begun_ns = event.fields.get("began_ns", event.time_ns)
    opening = place, replace(event, time_ns=begun_ns)
    return replace(_between(opening, placed, kind, _name(kind, event), "", None), size=event.fields[size])


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
    elif kind is SpanKind.SEND:
        detail = f"channel {fields['channel']}"
    span = _between(opening, closing, kind, _name(kind, opening[1]), detail, depth)
    return replace(span, size=fields["bytes"]) if "bytes" in fields else span


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
