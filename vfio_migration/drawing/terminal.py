"""What a person sees: tables and timelines for a terminal, a pipe or a file."""

import math
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vfio_migration.drawing.lanes import Lane, drawn, lanes, marks_of
from vfio_migration.drawing.vocabulary import NOT_REACHED, WAITS, Mark, bound_lines, mark, part_label
from vfio_migration.plan import Bounds
from vfio_migration.recorded import MOST, Span, SpanKind, Timeline, condensed, critical_path
from vfio_migration.scenarios import PARTS, Result
from vfio_migration.strategies import DEFAULT_STRATEGY
from vfio_migration.wording import ms, percent

_MIN_WIDTH = 20
_FACTS_WIDTH = 58  # of labels, figures and the words of a remark


def print_result(console: Console, result: Result, *, show_all: bool = False) -> None:
    """Print what a run of a scenario came to; with `show_all` each thing that its switchovers waited for."""
    for name, mode in result.modes.items():
        run = mode.typical
        print_timeline(console, f"{result.scenario}, {name}", run.timeline, run.report.switchover_s)
        print_critical_path(console, f"{result.scenario}, {name}", run.timeline, show_all=show_all)
    console.print(_table(console, result))
    console.print(_verdict(console, result))
    for name, mode in result.modes.items():
        for failure in mode.failures:
            console.print(plain(console, f"{name}, {failure}", style="red"))
    print_notes(console, result.notes)


def print_timeline(console: Console, title: str, timeline: Timeline, seconds: float | None = None) -> None:
    """
    Draw the switchover: a lane for each device, one for the ordinary handlers of each depth, and those of the parts.

    `seconds` is what it took as measured, if that is known; else it is taken from the timeline.
    """
    spans = drawn(timeline)
    if timeline.start_ns is None or timeline.end_ns is None or not spans:
        console.print(plain(console, f"{title}: {NOT_REACHED}"))
        return
    labelled = [(_label(lane), lane.spans) for lane in lanes(spans)]
    label_width = max(len(label) for label, _ in labelled)
    width = max(_MIN_WIDTH, console.width - label_width - 3)
    total_ns = max(1, timeline.end_ns - timeline.start_ns)
    took = ms(total_ns / 1e9 if seconds is None else seconds)
    frame = "|" if _ascii(console) else "│"
    console.print(plain(console, f"{title}: switchover {took}", style="bold"))
    for label, lane in labelled:
        line = plain(console, f"{label:<{label_width}} {frame}")
        line.append_text(_bar(console, lane, timeline.start_ns, total_ns, width))
        line.append(frame)
        console.print(line, no_wrap=True, overflow="crop", crop=True)
    axis = f"0{took:>{min(width, console.width - label_width - 2) - 1}}"
    console.print(Text(f"{'':<{label_width}}  {axis}", style="dim"), no_wrap=True, overflow="crop", crop=True)
    _print_legend(console, marks_of(spans))
    console.print()


def print_critical_path(console: Console, title: str, timeline: Timeline, *, show_all: bool = False) -> None:
    """Say in a few lines what makes the switchover as long as it is."""
    path = condensed(critical_path(timeline), None if show_all else MOST)
    if not path:
        return
    console.print(plain(console, f"{title}: {WAITS}", style="bold"))
    longest = max(link.seconds for link in path)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for justify in ("right", "right", "left"):
        table.add_column(justify=justify)
    for link in path:
        what = plain(console, link.what)
        table.add_row(ms(link.seconds), percent(link.share), what, style="bold" if link.seconds == longest else "")
    console.print(table)
    if not show_all and len(path) > MOST:
        console.print("--all shows what all the rest is")
    console.print()


def _print_legend(console: Console, shown: Iterable[Mark]) -> None:
    line = Text()
    for each in shown:
        entry = Text.assemble((_cell(console, each) * 2, each.style), f" {each.meaning}   ")
        if len(line) + len(entry) > console.width:
            console.print(line)
            line = Text()
        line.append_text(entry)
    console.print(line)


def _label(lane: Lane) -> str:
    return f"{lane.depth_label}  {lane.name or 'handlers'}"


def _bar(console: Console, lane: Iterable[Span], start_ns: int, total_ns: int, width: int) -> Text:
    """Draw a lane; where two spans share a cell, the longer one shows, but a configuration before its load thread."""
    cells: list[tuple[float, Mark | None]] = [(0, None)] * width
    for span in lane:
        first = (span.start_ns - start_ns) * width // total_ns
        last = max(first + 1, (span.end_ns - start_ns) * width // total_ns)
        length = math.inf if span.kind is SpanKind.CONFIG else span.end_ns - span.start_ns
        for cell in range(min(first, width - 1), min(last, width)):
            if length >= cells[cell][0]:
                cells[cell] = length, mark(span)
    bar = Text()
    for _, each in cells:
        bar.append(_cell(console, each) if each else " ", style=each.style if each else "")
    return bar


def _cell(console: Console, drawn: Mark) -> str:
    return drawn.ascii if _ascii(console) else drawn.unicode


def _table(console: Console, result: Result) -> Table:
    title = plain(console, f"{result.scenario}: medians of {_runs(result)} run(s), in ms", style="italic")
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in result.modes:
        table.add_column(name, justify="right")
    for part in PARTS:
        table.add_row(part_label(part), *(ms(mode.median(part), unit="") for mode in result.modes.values()))
    return table


def _verdict(console: Console, result: Result) -> Table:
    table = facts(console)
    add_bounds(table, result.bounds, result.strategy, "bound, ")
    if result.speedup is not None:
        table.add_row("speed-up", f"{result.speedup:.2f} x", "serial over parallel")
    if result.efficiency is not None:
        table.add_row("efficiency", f"{result.efficiency:.3f}", "mechanism_s over parallel")
    return table


def _runs(result: Result) -> int:
    return max((len(mode.runs) for mode in result.modes.values()), default=0)


def print_notes(console: Console, notes: Iterable[str]) -> None:
    """Print what there is to say beside the figures."""
    for note in notes:
        console.print(plain(console, f"note: {note}", style="yellow"))


def facts(console: Console) -> Table:
    """Make a table of what something is, its figure and a remark; where it is narrow, the remark is folded first."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=console.width >= _FACTS_WIDTH, overflow="fold")
    table.add_column(overflow="fold")
    return table


def add_bounds(table: Table, bounds: Bounds, strategy: str, before: str = "") -> None:
    """Give each bound a row: what it is, its time, its name in figures, and for which strategy it is."""
    mechanism = "depths in turn" if strategy == DEFAULT_STRATEGY.name else strategy
    for line in bound_lines(bounds):
        also = f": {mechanism}" if line.key == "mechanism_s" else ""
        table.add_row(f"{before}{line.meaning}", ms(line.seconds), f"{line.key}{also}")


def plain(console: Console, text: str, style: str = "") -> Text:
    """Make text of names that anybody chose: no markup, and nothing that the encoding lacks."""
    return Text(text.encode(console.encoding, "replace").decode(console.encoding), style=style)


def _ascii(console: Console) -> bool:
    return not console.encoding.lower().startswith("utf")
