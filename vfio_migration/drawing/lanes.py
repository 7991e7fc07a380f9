"""What is drawn of a switchover, whatever draws it: spans with their marks, in lanes, on a common axis."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from vfio_migration.drawing.pieces import SHORTEST_S, seen
from vfio_migration.drawing.vocabulary import MARKS, NOT_REACHED, Mark, mark
from vfio_migration.recorded import LOADING, Span, SpanKind, Timeline, holds_cost, part_lane
from vfio_migration.scenarios import MODES, ModeResult, Result
from vfio_migration.wording import ms, natural, printable, shortened

PLAIN = -1  # the depth of plain priorities: before all others
_BESIDE = 1 << 40  # of lanes that belong to no depth: after all others
_MOST_TICKS = 8


@dataclass(frozen=True)
class Lane:
    """
    What one device does, or (`name` empty) the ordinary handlers of one depth; depth PLAIN: a plain priority.

    Or, with a `group`, what is sent in one way, loaded to one device, or a fixed cost of one side.
    """

    depth: int
    name: str
    spans: tuple[Span, ...]
    group: str = ""

    @property
    def depth_label(self) -> str:
        """The depth in words, or the group."""
        return self.group or ("plain" if self.depth == PLAIN else f"depth {self.depth}")

    @property
    def of_device(self) -> bool:
        """Whether it is one of many that stand for devices, so that not each of them needs a name beside it."""
        return bool(self.name) and self.group in ("", LOADING)

    @property
    def label(self) -> str:
        """Whose lane it is; the middle of a very long name is left out, and what cannot be printed is replaced."""
        return shortened(printable(self.name)) or "handlers"


@dataclass(frozen=True)
class Panel:
    """One mode's switchover: its lanes (none if it was not reached) and when it began."""

    mode: str
    timeline: Timeline
    lanes: tuple[Lane, ...]
    start_ns: int
    total_ns: int
    switchover_s: float | None

    @property
    def heading(self) -> str:
        """The mode and what its switchover took."""
        return f"{self.mode}: {f'switchover {ms(self.switchover_s)}' if self.lanes else NOT_REACHED}"

    @property
    def depths(self) -> tuple[tuple[Lane, ...], ...]:
        """The lanes, those of a depth or a group together."""
        return tuple(tuple(group) for _, group in groupby(self.lanes, key=lambda lane: lane.depth_label))

    def begins_s(self, span: Span) -> float:
        """Give how long after the switchover's beginning a span began, in seconds."""
        return (span.start_ns - self.start_ns) / 1e9


def drawn(timeline: Timeline) -> list[Span]:
    """
    Give the spans worth drawing: the handlers of a VFIO device show as the arcs that run in them.

    So do those in which nothing but a phase's fixed cost passes. Of what is sent and loaded in pieces, those between
    which no pause could be seen are one.
    """
    spans = timeline.switchover()
    beside = seen(timeline)
    devices = {span.name for span in spans if span.kind is SpanKind.ARC}
    costs = [span for span in beside if span.kind is SpanKind.COST]
    work = [
        span
        for span in spans
        if (span.kind in (SpanKind.ARC, SpanKind.SAVE) and span.seconds > 0)
        or (
            span.kind is SpanKind.HANDLER
            and span.name not in devices
            and span.seconds >= SHORTEST_S
            and not holds_cost(span, costs)
        )
    ]
    return [*work, *beside]


def lanes(spans: Iterable[Span]) -> list[Lane]:
    """
    Sort spans into lanes: by depth, plain priorities first, then by name, vf2 before vf10.

    After them come those of what is sent, what is loaded, and the fixed costs.
    """
    spans = list(spans)
    depths = {span.name: span.depth for span in spans if span.kind is SpanKind.ARC}
    found: dict[tuple[int, tuple[int, int], str, str], list[Span]] = {}
    for span in spans:
        part = part_lane(span)
        if part is not None:
            key = (_BESIDE, part.order, part.name, part.group)
        elif span.kind is SpanKind.HANDLER:
            key = (PLAIN if span.depth is None else span.depth, (0, 0), "", "")
        else:
            key = (depths.get(span.name) or 0, (1, 0), span.name, "")
        found.setdefault(key, []).append(span)
    in_order = sorted(found.items(), key=lambda each: (each[0][:2], natural(each[0][2])))
    return [Lane(depth, name, tuple(lane), group) for (depth, _, name, group), lane in in_order]


def panels(result: Result) -> tuple[Panel, ...]:
    """Give each mode's run that is nearest to the median, serial above parallel."""
    return tuple(_panel(name, result.modes[name]) for name in MODES if name in result.modes)


def axis_end_s(result: Result) -> float:
    """Give where the common axis ends: at the longest switchover that is drawn, in seconds; more than 0."""
    drawn_s = [panel.total_ns / 1e9 for panel in panels(result) if panel.lanes]
    return max(drawn_s, default=result.bounds.serial_s) or 1e-9


def ticks_s(end_s: float) -> tuple[float, ...]:
    """Give round numbers of seconds from 0 to the axis' end, not too many."""
    step = 10.0**-9
    while True:
        for factor in (1, 2, 5):
            if end_s / (step * factor) <= _MOST_TICKS:
                return tuple(number * step * factor for number in range(int(end_s / (step * factor) + 1e-9) + 1))
        step *= 10


def headline(result: Result) -> str:
    """Say in one line what the run came to: medians, and the speed-up."""
    parts = [f"{ms(result.modes[name].median('switchover_s'))} {name}" for name in MODES if name in result.modes]
    faster = "" if result.speedup is None else f", {result.speedup:.2f} times as fast"
    return f"{shortened(printable(result.scenario), 60)}: switchover {', '.join(parts)}{faster}"


def tick_label(seconds: float) -> str:
    """Write a tick's number of milliseconds."""
    return f"{round(seconds * 1000, 9):,.10g}"


def marks_of(spans: Iterable[Span]) -> tuple[Mark, ...]:
    """Give the marks that these spans need, in the legend's order."""
    shown = {mark(span).key for span in spans}
    return tuple(each for key, each in MARKS.items() if key in shown)


def _panel(name: str, mode: ModeResult) -> Panel:
    run = mode.typical
    timeline = run.timeline
    start_ns, end_ns = timeline.start_ns, timeline.end_ns
    if start_ns is None or end_ns is None:
        return Panel(name, timeline, (), 0, 0, None)
    total_ns = max(1, end_ns - start_ns)
    took_s = total_ns / 1e9 if run.report.switchover_s is None else run.report.switchover_s
    return Panel(name, timeline, tuple(lanes(drawn(timeline))), start_ns, total_ns, took_s)
