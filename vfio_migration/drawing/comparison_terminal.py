"""Two scenarios held against each other, for a terminal, a pipe or a file."""

import math

from rich.console import Console
from rich.table import Table

from vfio_migration.drawing.terminal import plain
from vfio_migration.forecast import Comparison, Difference
from vfio_migration.wording import ms, signed_ms

_MOST = 40


def print_comparison(console: Console, comparison: Comparison, *, show_all: bool = False) -> None:
    """Print bounds and parts of both, and what devices do that takes another time, the largest difference first."""
    names = (comparison.first, comparison.second)
    console.print(_table(console, "predicted, in ms", names, comparison.whole))
    if comparison.same:
        console.print("nothing differs")
        return
    differing = sorted(comparison.devices, key=lambda each: -abs(each.longer_s))
    if differing:
        shown = differing if show_all else differing[:_MOST]
        console.print(_table(console, "what devices do, where it differs, in ms", names, shown))
    if not show_all and len(differing) > _MOST:
        console.print(f"and {len(differing) - _MOST} more; --all shows them")


def _table(
    console: Console, title: str, names: tuple[str, str], rows: "tuple[Difference, ...] | list[Difference]"
) -> Table:
    table = Table(title=plain(console, title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in (*names, "longer"):
        table.add_column(plain(console, name), justify="right")
    for each in rows:
        table.add_row(plain(console, each.what), _cell(each.first_s), _cell(each.second_s), _longer(each))
    return table


def _cell(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return "never" if math.isinf(seconds) else ms(seconds, unit="")


def _longer(each: Difference) -> str:
    if not math.isfinite(each.longer_s):
        return "-"
    return signed_ms(each.longer_s).removesuffix(" ms")
