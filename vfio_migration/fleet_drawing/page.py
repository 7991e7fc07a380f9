"""A fleet's forecast as one page for a browser: scenarios in order, a band for each, by keyboard, without network."""

import math
import re
from html import escape
from importlib.resources import files

from vfio_migration.fleet import IDEAL, MECHANISM, SERIAL, Forecast, ScenarioForecast
from vfio_migration.wording import ms, percent, printable

_MOST = 5_000  # rows; the worst ones


def forecast_page(forecast: Forecast) -> str:
    """
    Give the page: the scenarios with the longest p99 first, from median to p90 and p99, and the figures as a table.

    It loads nothing, and is complete where scripts are switched off. Everything that the user named is escaped.
    """
    worst_first = sorted(forecast.scenarios, key=lambda each: -each.figures[MECHANISM].p99)
    shown = worst_first[:_MOST]
    limit = forecast.asked.limit
    seconds = [each.figures[bound].p99 for each in shown for bound in (SERIAL, MECHANISM)]
    end_s = max([each for each in (*seconds, limit or 0.0) if math.isfinite(each)] or [0.0]) or 1.0
    columns = ("p50", "p90", "p99", "ideal p99", "serial p99", *(["over the limit"] if limit is not None else []))
    rows = "\n".join(_row(each, end_s, limit) for each in shown)
    parts = {
        "title": escape(f"Forecast of {len(forecast.scenarios):,} scenarios, {forecast.asked.samples:,} samples each"),
        "limit": "" if limit is None else f'<i class="limit"></i>the limit, {escape(ms(limit))}',
        "end": escape(ms(end_s)),
        "columns": "".join(f'<th scope="col" class="number">{escape(each)}</th>' for each in columns),
        "rows": rows.replace('tabindex="-1"', 'tabindex="0"', 1),
        "helps": "".join(
            f"<li>{escape(printable(f'{name}: {some[0].change}: p99 {ms(some[0].p99_s)}'))}</li>"
            for name, some in forecast.helps.items()
            if some
        ),
    }
    template = files("vfio_migration.fleet_drawing").joinpath("page.html").read_text(encoding="utf-8")
    # In one go, so that a name that looks like a placeholder stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _row(each: ScenarioForecast, end_s: float, limit: float | None) -> str:
    figures, serial = each.figures[MECHANISM], each.figures[SERIAL]
    marks = [
        _mark("tail", figures.p90, figures.p99, end_s),
        _mark("band", figures.p50, figures.p90, end_s),
        _mark("serial", serial.p99, serial.p99, end_s),
        *([] if limit is None else [_mark("limit", limit, limit, end_s)]),
    ]
    times = (figures.p50, figures.p90, figures.p99, each.figures[IDEAL].p99, serial.p99)
    cells = ["never" if math.isinf(seconds) else ms(seconds) for seconds in times]
    cells += [] if limit is None else [percent(figures.exceeds or 0.0)]
    numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells)
    name = f'<th scope="row">{escape(printable(each.name))}</th>'
    return f'<tr tabindex="-1">{name}<td class="bands"><div class="track">{"".join(marks)}</div></td>{numbers}</tr>'


def _mark(kind: str, begin_s: float, until_s: float, end_s: float) -> str:
    """Draw something on the axis; nothing of what is never."""
    if not math.isfinite(begin_s):
        return ""
    left, right = begin_s / end_s * 100, min(until_s, end_s) / end_s * 100
    width = "" if kind in ("serial", "limit") else f";width:{max(0.0, right - left):.2f}%"
    return f'<i class="{kind}" style="left:{left:.2f}%{width}"></i>'
