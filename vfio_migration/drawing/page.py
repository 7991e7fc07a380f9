"""A result as one page for a browser: both modes on one axis, details on hover and by keyboard, no network."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files

from vfio_migration.drawing.lanes import Lane, Panel, axis_end_s, headline, marks_of, panels, tick_label, ticks_s
from vfio_migration.drawing.vocabulary import (
    DARK,
    LIGHT,
    MARKS,
    PART_LABELS,
    WAITS,
    BoundLine,
    bound_lines,
    mark,
    what_happens,
)
from vfio_migration.recorded import Link, Span, SpanKind, condensed, critical_path
from vfio_migration.scenarios import PARTS, Result
from vfio_migration.wording import ms, percent, printable

# So many lanes of one mode at most, then so many pixels each, names in pixels, and how many lanes share a name.
_SIZES = ((24, 20, 12, 1), (48, 15, 11, 1))
_THINNEST = (8, 11, 2)
_FLIPPED = 0.5  # from here on the axis, a bound's label lies to the left of its line


def html_page(result: Result) -> str:
    """
    Give a page that shows each mode's run nearest to the median.

    It loads nothing, and is a picture with tables also where scripts are switched off: these only show details and
    make the arrow keys work. Everything that the user named is escaped.
    """
    shown = panels(result)
    end_s = axis_end_s(result)
    lines = sorted(bound_lines(result.bounds), key=lambda line: line.seconds)
    most = max((len(panel.lanes) for panel in shown), default=0)
    lane_px, name_px, every = next((sizes for limit, *sizes in _SIZES if most <= limit), _THINNEST)
    longest = max((len(lane.label) for panel in shown for lane in panel.lanes), default=0)
    chart = [_bound_labels(lines, end_s), _lines(lines, end_s)]
    chart += [_panel(panel, end_s, every) for panel in shown]
    chart.append(_ticks(end_s))
    # The first bar is where Tab enters; the arrow keys move that on.
    drawing = "\n".join(chart).replace('tabindex="-1"', 'tabindex="0"', 1)
    marks = marks_of(span for panel in shown for lane in panel.lanes for span in lane.spans)
    parts = {
        "title": escape(headline(result)),
        "legend": "".join(f'<li><i class="{each.key}"></i>{escape(each.meaning)}</li>' for each in marks),
        "sizes": f"--lane: {lane_px}px; --name-size: {name_px}px; --names: {longest * 0.62 * name_px + 16:.0f}px",
        "light": _colours(LIGHT, {each.key: each.light for each in MARKS.values()}),
        "dark": _colours(DARK, {each.key: each.dark for each in MARKS.values()}),
        "chart": drawing,
        "tables": "\n".join(
            [_failures(result), _figures(result, lines), *(_path(panel) for panel in shown if panel.lanes)]
        ),
    }
    template = files("vfio_migration.drawing").joinpath("page.html").read_text(encoding="utf-8")
    # In one go, so that a name that looks like a placeholder stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _colours(ground: Mapping[str, str], marks: Mapping[str, tuple[str, str]]) -> str:
    """Give the colours as the page's style sheet names them: a mark's edge by its key, its face with a `-2`."""
    named = dict(ground)
    for key, (edge, face) in marks.items():
        named |= {key: edge, f"{key}-2": face}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())


def _bound_labels(lines: Iterable[BoundLine], end_s: float) -> str:
    """Give each bound's label a row of its own, the lowest bound on top: no line then goes through a label."""
    rows = []
    for line in lines:
        at = line.seconds / end_s
        if _is_inside(line, end_s):
            way = ' class="flipped"' if at > _FLIPPED else ""
            rows.append(f'<div><span{way} style="left: {_place(min(at, 1.0))}">{escape(line.label)}</span></div>')
        else:
            rows.append(
                f'<div><span class="flipped" style="left: 100%">{escape(line.label)} (beyond the axis)</span></div>'
            )
    return f'<div class="bound-labels" role="presentation">{"".join(rows)}</div>'


def _lines(lines: Iterable[BoundLine], end_s: float) -> str:
    drawn = [f'<i class="tick" style="left: {_place(tick / end_s)}"></i>' for tick in ticks_s(end_s)]
    drawn += [
        f'<i class="bound" style="left: {_place(min(line.seconds / end_s, 1.0))}; top: {number * 18}px"></i>'
        for number, line in enumerate(lines)
        if _is_inside(line, end_s)
    ]
    return f'<div class="lines" role="presentation">{"".join(drawn)}</div>'


def _is_inside(line: BoundLine, end_s: float) -> bool:
    # What was measured may be a little shorter than what was planned.
    return line.seconds <= end_s * 1.005


def _ticks(end_s: float) -> str:
    labels = [(tick, tick_label(tick)) for tick in ticks_s(end_s)]
    labels[-1] = (labels[-1][0], f"{labels[-1][1]} ms")
    spans = "".join(f'<span style="left: {_place(tick / end_s)}">{text}</span>' for tick, text in labels)
    return f'<div class="ticks" aria-hidden="true">{spans}</div>'


def _panel(panel: Panel, end_s: float, every: int) -> str:
    notes = _Notes(panel)
    heading = escape(panel.heading)
    rows = [
        f'<div role="rowgroup" aria-label="{heading}">',
        f'<div class="heading" role="row"><span role="columnheader">{heading}</span></div>',
    ]
    for group in panel.depths:
        rows.append('<div class="depth" role="presentation">')
        # The handlers' lane is the first of its depth and always named; of the devices, every so many are.
        devices = 0
        for lane in group:
            depth = (
                f'<span class="depth-name" aria-hidden="true">{group[0].depth_label}</span>' if lane is group[0] else ""
            )
            named = not lane.of_device or devices % every == 0
            rows.append(_lane(panel, lane, end_s, notes, depth + (_name(lane) if named else "")))
            devices += lane.of_device
        rows.append("</div>")
    return "\n".join([*rows, "</div>"])


def _lane(panel: Panel, lane: Lane, end_s: float, notes: "_Notes", label: str) -> str:
    bars = []
    for span in lane.spans:
        first, *rest = notes.of(lane, span)
        place = f"left: {_place(panel.begins_s(span) / end_s)}; width: {_place(span.seconds / end_s)}"
        words = escape(", ".join((first, *rest[: _Notes.MAIN])))
        bars.append(
            f'<div class="bar {mark(span).key}" role="gridcell" tabindex="-1" style="{place}" aria-label="{words}"'
            f' data-details="{escape(chr(10).join((first, *rest)))}"></div>'
        )
    inner = "".join(bars)
    kind = "lane" if lane.of_device else "lane named"
    who = escape(f"{lane.label}, {lane.depth_label}")
    return f'<div class="{kind}" role="row" aria-label="{who}">{label}<div class="track">{inner}</div></div>'


def _name(lane: Lane) -> str:
    return f'<span class="name" role="rowheader" title="{escape(printable(lane.name))}">{escape(lane.label)}</span>'


class _Notes:
    """What there is to say of a panel's spans."""

    MAIN = 3  # so many lines after the first are read out; the rest is for who looks closer

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._around: Mapping[str, list[Span]] = defaultdict(list)
        for span in panel.timeline.switchover():
            if span.kind in (SpanKind.CHANGE, SpanKind.JOIN):
                self._around[span.name].append(span)

    def of(self, lane: Lane, span: Span) -> list[str]:
        """Give the lines of a span's details: whose, what, how long, from when, its share, what it is part of."""
        begins_s = self._panel.begins_s(span)
        share = (span.end_ns - span.start_ns) / self._panel.total_ns
        side = f"{span.side}: " if span.side else ""
        name = lane.name if span.kind is SpanKind.SECTION else span.name
        lines = [
            f"{printable(name) or 'unnamed'}, {lane.depth_label}",
            f"{side}{what_happens(span)}",
            f"{ms(span.seconds)}, from {ms(begins_s)}",
            f"{percent(share)} of the switchover",
        ]
        if span.size:
            lines.append(f"{span.size:,} bytes")
        if 0 <= span.busy_s < span.seconds:
            lines.append(f"in pieces: {ms(span.busy_s)} without the pauses between them")
        around = self._around.get(span.name, ()) if span.kind is SpanKind.ARC else ()
        change = next((each for each in around if each.kind is SpanKind.CHANGE and each.holds(span)), None)
        if change is not None:
            lines.append(f"in the {change.detail} pass, whose change took {ms(change.seconds)}")
            lines.append(f"thread: {printable(change.thread)}")
            for each in around:
                if (each.kind, each.detail, each.machine) == (SpanKind.JOIN, change.detail, change.machine):
                    lines.append(f"the walk waited {ms(each.seconds)} to join it")
                    break
        return lines


def _figures(result: Result, lines: Iterable[BoundLine]) -> str:
    modes = result.modes
    head = "".join(f'<th class="number" scope="col">{escape(name)}</th>' for name in modes)
    rows = [
        f'<tr><th scope="row">{label}</th>'
        + "".join(f'<td class="number">{ms(mode.median(part))}</td>' for mode in modes.values())
        + "</tr>"
        for part, label in PART_LABELS.items()
        if part in PARTS
    ]
    if not result.completed:
        status = "".join(f'<td class="number">{escape(str(mode.status))}</td>' for mode in modes.values())
        rows.append(f'<tr><th scope="row">status</th>{status}</tr>')
    span = len(modes)
    rows += [_wide(f"bound, {line.meaning}", ms(line.seconds), span) for line in lines]
    if result.speedup is not None:
        rows.append(_wide("speed-up, serial over parallel", f"{result.speedup:.2f} x", span))
    if result.efficiency is not None:
        rows.append(_wide("efficiency, bound of this mechanism over parallel", f"{result.efficiency:.3f}", span))
    runs = max((len(mode.runs) for mode in modes.values()), default=0)
    return (
        f'<section class="figures"><h2>Medians of {runs} run(s)</h2><table><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></section>"
    )


def _failures(result: Result) -> str:
    lines = [f"{name}, {failure}" for name, mode in result.modes.items() for failure in mode.failures]
    if not lines:
        return ""
    items = "".join(f"<li>{escape(printable(line))}</li>" for line in lines)
    return f'<section class="failures"><h2>What went wrong</h2><ul>{items}</ul></section>'


def _wide(label: str, figure: str, span: int) -> str:
    return f'<tr><th scope="row">{label}</th><td class="number" colspan="{span}">{figure}</td></tr>'


def _path(panel: Panel) -> str:
    path = condensed(critical_path(panel.timeline))
    longest = max((link.seconds for link in path if link.span is not None), default=0.0)
    rows = "".join(_link(link, longest) for link in path)
    return (
        f"<section><h2>{escape(panel.mode)}: {WAITS}</h2><table><thead><tr>"
        '<th class="number" scope="col">time</th><th class="number" scope="col">share</th><th scope="col">what</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _link(link: Link, longest: float) -> str:
    style = ' class="longest"' if link.span is not None and link.seconds == longest else ""
    return (
        f'<tr{style}><td class="number">{ms(link.seconds)}</td><td class="number">{percent(link.share)}</td>'
        f'<td class="what">{escape(printable(link.what))}</td></tr>'
    )


def _place(part: float) -> str:
    return f"{part * 100:.4f}%"
