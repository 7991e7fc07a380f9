"""A result as a picture, SVG or PNG: both modes on one axis; needs matplotlib, which the extra `plot` installs."""

import warnings
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfio_migration.drawing.lanes import Lane, Panel, axis_end_s, headline, marks_of, panels, tick_label, ticks_s
from vfio_migration.drawing.vocabulary import LIGHT, Mark, bound_lines, mark
from vfio_migration.errors import VFIOMigrationError
from vfio_migration.scenarios import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")

_STYLE = {"svg.hashsalt": "vfio-switchover", "svg.fonttype": "path", "hatch.linewidth": 0.6}
_GROUND, _TEXT, _MUTED, _RULE = (LIGHT[key] for key in ("background", "text", "muted", "rule"))
_WIDTH = 10.0  # inches, as all lengths here; fonts are in points
_DPI = 150
_MARGIN = 0.2
_DEPTH_WIDTH = 0.6
_ROW = 0.19  # of text
_GAP = 0.07  # between depths
_HEADING = 0.32
_LEGEND_ROW = 0.24
# So many lanes of one mode at most, then so high each, and how many share a name.
_HEIGHTS = ((24, 0.19, 1), (48, 0.14, 1))
_THINNEST = (0.075, 2)
_NAME_HEIGHT = 0.18
_SMALL = 8.0
_NORMAL = 9.0
_TITLE = 12.0
_FLIPPED = 0.5  # from here on the axis, a bound's label lies to the left of its line
_PER_INCH = 72.0


def check_plot(file: str) -> None:
    """
    See before anything runs that a picture can be made under this name.

    Raises:
        VFIOMigrationError: the name says no format that is known, or matplotlib is not installed.

    """
    if Path(file).suffix.lower() not in SUFFIXES:
        raise VFIOMigrationError(f"{file!r}: a plot's name must end in {' or '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise VFIOMigrationError("a plot needs matplotlib, which is not installed: pip install 'vfio-switchover[plot]'")


def write_plot(result: Result, file: str) -> None:
    """
    Draw each mode's run nearest to the median, serial above parallel, and write the picture.

    The same result gives the same file. Text is drawn as shapes, so that it looks the same without any font.

    Raises:
        VFIOMigrationError: see `check_plot`.
        OSError: the file cannot be written.

    """
    check_plot(file)
    from matplotlib import style  # noqa: PLC0415 - an extra, and slow to import

    suffix = Path(file).suffix.lower()
    # Whatever the user's own configuration of matplotlib says, the picture is the same.
    with style.context(["default", _STYLE]):
        figure = _figure(result)
        metadata: dict[str, Any] = {"Software": None}
        if suffix == ".svg":
            metadata = {"Date": None, "Creator": None, "Title": headline(result)}
        with warnings.catch_warnings():
            # A name's letters that the font lacks show as boxes; there is nothing that the user could do.
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
            figure.savefig(file, format=suffix[1:], dpi=_DPI, metadata=metadata)


class _Sheet:
    """A figure whose axes count inches from its upper left corner; `end_s` is where the time axis ends."""

    def __init__(self, height: float, left: float, end_s: float) -> None:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

        self.figure: Figure = Figure(figsize=(_WIDTH, height), facecolor=_GROUND)
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, _WIDTH)
        self.axes.set_ylim(height, 0)
        self.left, self.right, self.end_s = left, _WIDTH - 2 * _MARGIN, end_s

    def x(self, seconds: float) -> float:
        """Give where a moment lies."""
        return self.left + (self.right - self.left) * seconds / self.end_s

    def text(self, x: float, y: float, text: str, size: float = _SMALL, **options: Any) -> None:
        """Write a line, `y` its middle; a `$` is a `$`, not the beginning of a formula."""
        options = {"color": _TEXT, "va": "center_baseline", "parse_math": False, "zorder": 5, **options}
        self.axes.text(x, y, text, fontsize=size, **options)


def _figure(result: Result) -> "Figure":
    shown = panels(result)
    lines = sorted(bound_lines(result.bounds), key=lambda line: line.seconds)
    end_s = axis_end_s(result)
    most = max((len(panel.lanes) for panel in shown), default=0)
    lane_height, every = next((sizes for limit, *sizes in _HEIGHTS if most <= limit), _THINNEST)
    heights = [_HEADING + sum(_height(group, lane_height) for group in panel.depths) for panel in shown]
    names = max((_width(lane.label) for panel in shown for lane in panel.lanes), default=0.0)
    top = _MARGIN + 0.3
    below = top + 0.15 + len(lines) * _ROW
    bottom = below + sum(heights)
    legend = _legend_rows(marks_of(span for panel in shown for lane in panel.lanes for span in lane.spans))
    sheet = _Sheet(bottom + 0.75 + (len(legend) - 1) * _LEGEND_ROW, _MARGIN + _DEPTH_WIDTH + names + 0.15, end_s)
    sheet.text(_MARGIN, _MARGIN + 0.1, headline(result), _TITLE, weight="bold")
    _draw_axis(sheet, below, bottom)
    for row, line in enumerate(lines):
        _draw_bound(sheet, line.label, line.seconds, top + (row + 0.5) * _ROW, bottom)
    y = below
    for panel, height in zip(shown, heights, strict=True):
        _draw_panel(sheet, panel, y, lane_height, int(every))
        y += height
    for row, marks in enumerate(legend):
        _draw_legend(sheet, marks, bottom + 0.5 + row * _LEGEND_ROW)
    return sheet.figure


def _height(group: Iterable[Lane], lane_height: float) -> float:
    lanes = sum(lane_height if lane.of_device else max(lane_height, _NAME_HEIGHT) for lane in group)
    return max(lanes, _NAME_HEIGHT) + _GAP


def _width(text: str, size: float = _SMALL) -> float:
    """Give how wide a text is, in inches."""
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415 - an extra
    from matplotlib.textpath import TextToPath  # noqa: PLC0415 - an extra

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(width) / _PER_INCH


def _draw_axis(sheet: _Sheet, top: float, bottom: float) -> None:
    ticks = ticks_s(sheet.end_s)
    for tick in ticks:
        sheet.axes.plot([sheet.x(tick)] * 2, [top, bottom], color=_RULE, linewidth=0.6, zorder=0)
        unit = " ms" if tick == ticks[-1] else ""
        sheet.text(sheet.x(tick), bottom + 0.14, tick_label(tick) + unit, color=_MUTED, ha="center")


def _draw_bound(sheet: _Sheet, label: str, seconds: float, y: float, bottom: float) -> None:
    """Draw a bound's line from its label's row down; one that lies beyond the axis is only named."""
    if seconds > sheet.end_s * 1.005:
        sheet.text(sheet.right, y, f"{label} (beyond the axis)", ha="right")
        return
    x = sheet.x(min(seconds, sheet.end_s))
    sheet.axes.plot([x, x], [y - _ROW / 2, bottom], color=_TEXT, linewidth=0.9, linestyle=(0, (3, 2)), zorder=3)
    flipped = seconds / sheet.end_s > _FLIPPED
    # With a ground of its own, for the lines of lower bounds pass behind it.
    ground = {"facecolor": _GROUND, "edgecolor": "none", "pad": 0.8}
    sheet.text(x + (-0.05 if flipped else 0.05), y, label, ha="right" if flipped else "left", bbox=ground)


def _draw_panel(sheet: _Sheet, panel: Panel, y: float, lane_height: float, every: int) -> None:
    ground = {"facecolor": _GROUND, "edgecolor": "none", "pad": 0.8}
    sheet.text(_MARGIN, y + _HEADING * 0.6, panel.heading, _NORMAL, weight="bold", bbox=ground)
    y += _HEADING
    bars: dict[Mark, list[tuple[float, float, float, float]]] = {}
    for group in panel.depths:
        sheet.axes.plot([_MARGIN, sheet.right], [y, y], color=_RULE, linewidth=0.6, zorder=0)
        lane_y = y + _GAP / 2
        first_height = lane_height if group[0].of_device else max(lane_height, _NAME_HEIGHT)
        sheet.text(_MARGIN, lane_y + first_height / 2, group[0].depth_label, color=_MUTED)
        devices = 0
        for lane in group:
            height = lane_height if lane.of_device else max(lane_height, _NAME_HEIGHT)
            if not lane.of_device or devices % every == 0:
                sheet.text(_MARGIN + _DEPTH_WIDTH, lane_y + height / 2, lane.label)
            devices += lane.of_device
            for span in lane.spans:
                x = sheet.x(panel.begins_s(span))
                width = max(0.01, sheet.x(panel.begins_s(span) + span.seconds) - x)
                bars.setdefault(mark(span), []).append((x, lane_y + height * 0.06, width, height * 0.88))
            lane_y += height
        y += _height(group, lane_height)
    for each, places in bars.items():
        _draw_bars(sheet, each, places)


def _draw_bars(sheet: _Sheet, drawn: Mark, places: Iterable[tuple[float, float, float, float]]) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - an extra

    edge, face = drawn.light
    for x, y, width, height in places:
        bar = Rectangle(
            (x, y), width, height, facecolor=face, edgecolor=edge, linewidth=0.4, hatch=drawn.hatch, zorder=2
        )
        sheet.axes.add_patch(bar)


def _legend_rows(marks: Iterable[Mark]) -> list[list[Mark]]:
    """Have as many rows as the width asks for, one at least."""
    rows: list[list[Mark]] = [[]]
    taken = _MARGIN
    for each in marks:
        width = _entry_width(each)
        if rows[-1] and taken + width > _WIDTH:
            rows.append([])
            taken = _MARGIN
        rows[-1].append(each)
        taken += width
    return rows


def _entry_width(each: Mark) -> float:
    return 0.37 + _width(each.meaning) + 0.25


def _draw_legend(sheet: _Sheet, marks: Iterable[Mark], y: float) -> None:
    x = _MARGIN
    for each in marks:
        _draw_bars(sheet, each, [(x, y - 0.06, 0.3, 0.12)])
        sheet.text(x + 0.37, y, each.meaning)
        x += _entry_width(each)
