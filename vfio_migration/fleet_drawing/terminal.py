"""A fleet's forecast, for a terminal, a pipe or a file."""

import math
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from vfio_migration.drawing import plain, print_notes
from vfio_migration.fleet import BOUNDS, IDEAL, MECHANISM, SERIAL, Figures, Forecast
from vfio_migration.wording import listed, ms, percent

_MOST = 30  # scenarios in a table; the worst ones


def print_forecast(console: Console, forecast: Forecast, *, show_all: bool = False) -> None:
    """Print each scenario's switchover, the worst first, all together, and what would help the worst."""
    worst_first = sorted(forecast.scenarios, key=lambda each: -each.figures[MECHANISM].p99)
    shown = worst_first if show_all else worst_first[:_MOST]
    title = f"switchovers, in ms: {forecast.asked.samples:,} samples of each, seed {forecast.asked.seed}"
    table = Table(title=plain(console, title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("scenario")
    limit = forecast.asked.limit
    for what in ("serial p99", "p50", "p90", "p99", "ideal p99"):
        table.add_column(what, justify="right")
    if limit is not None:
        table.add_column(f"over {ms(limit)}", justify="right")
    for each in shown:
        table.add_row(plain(console, each.name), *_cells(each.figures, limit))
    if len(forecast.scenarios) > 1:
        table.add_section()
        table.add_row("all together", *_cells(forecast.all, limit))
    console.print(table)
    if len(shown) < len(worst_first):
        console.print(f"and {len(worst_first) - len(shown):,} more; --all shows them")
    if limit is not None:
        _print_misses(console, forecast, limit)
    for name, some in forecast.helps.items():
        for help_ in some[:1] if len(forecast.helps) > 1 and not show_all else some:
            said = f"{name}: {help_.change}: p99 {ms(help_.p99_s)}, {ms(help_.gains_s)} less"
            console.print(plain(console, said))
    notes = {note: [each.name for each in forecast.scenarios if note in each.notes] for note in _notes(forecast)}
    print_notes(console, (f"{listed(names, 'scenarios', 5)}: {note}" for note, names in notes.items()))


def _print_misses(console: Console, forecast: Forecast, limit: float) -> None:
    """Say which scenarios miss the limit at p99: one after another, with the mechanism, at best."""
    for bound, words in ((SERIAL, "serial"), (MECHANISM, "as configured"), (IDEAL, "at best")):
        names = [each.name for each in forecast.scenarios if each.figures[bound].p99 > limit]
        said = f"would miss {ms(limit)} at p99, {words}: {len(names)} of {len(forecast.scenarios)}"
        console.print(plain(console, f"{said}{': ' if names else ''}{listed(names, 'scenarios', 10)}"))


def _notes(forecast: Forecast) -> dict[str, None]:
    return dict.fromkeys(note for each in forecast.scenarios for note in each.notes)


def _cells(figures: Mapping[str, Figures], limit: float | None) -> list[str]:

    serial, mechanism, ideal = (figures[bound] for bound in BOUNDS)
    values = (serial.p99, mechanism.p50, mechanism.p90, mechanism.p99, ideal.p99)
    cells = ["never" if math.isinf(each) else ms(each, unit="") for each in values]
    return cells if limit is None else [*cells, percent(mechanism.exceeds or 0.0)]
