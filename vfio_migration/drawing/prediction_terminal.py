"""A prediction for a terminal, a pipe or a file."""

import math
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vfio_migration.drawing.terminal import add_bounds, facts, plain, print_notes
from vfio_migration.drawing.vocabulary import part_label
from vfio_migration.forecast import DeviceShare, Precopy, Prediction, Stage
from vfio_migration.scenarios import PARTS
from vfio_migration.wording import listed, ms, signed_ms

TOP = 10
_WORDS = ("side", "pass", "the slowest", "device", "par.")
_PLAIN_PARTS = ("prepare", "main", "device states")  # which other tables show
_DEVICE_COLUMNS = ("device", "depth", "par.", "prep.", "stop", "sent", "prep.", "start", "without", "switched")
_ROOM = 1000
_HALVES = ((0, 1, 2, 3, 4, 5, 6, 7), (0, 8, 9))  # of these, for a narrow terminal


def print_prediction(
    console: Console, prediction: Prediction, stands: Prediction | None = None, *, show_all: bool = False
) -> None:
    """
    Print the bounds, what takes long in each pass, what each device contributes, and what to speed up first.

    `stands` is the prediction of the scenario as it stands, if this one is of something else.
    """
    _print_bounds(console, prediction)
    if stands is not None:
        _print_difference(console, prediction, stands)
    _print_blackout(console, prediction)
    _print_stages(console, prediction)
    _print_devices(console, prediction)
    _print_changes(console, prediction, show_all=show_all)
    print_notes(console, prediction.notes)


def _print_bounds(console: Console, prediction: Prediction) -> None:
    """Print what the switchover takes, and the bounds; or at once why there is none, of which these say nothing."""
    title = f"{prediction.scenario}: switchover {ms(prediction.switchover_s)}, predicted as configured"
    console.print(plain(console, title, style="bold"))
    if prediction.never:
        console.print(plain(console, f"there never is a switchover: {prediction.never}", style="red"))
        console.print()
        return
    table = facts(console)
    for part in PARTS[1:]:
        table.add_row(part_label(part), ms(getattr(prediction, part)), "")
    add_bounds(table, prediction.bounds, prediction.strategy)
    console.print(table)
    console.print()


def _print_blackout(console: Console, prediction: Prediction) -> None:
    """Print pre-copy and the parts of the blackout, where there is more to say than passes and states."""
    _print_precopy(console, prediction.precopy, never=bool(prediction.never))
    parts = [each for each in prediction.blackout if each.seconds > 0]
    if all(each.what in _PLAIN_PARTS for each in parts):
        return
    table = _titled(console, "what the blackout is made of", "side", "device", "ms")
    table.columns[0].header, table.columns[1].header = "part", "what"
    for each in parts:
        table.add_row(part_label(each.part).strip(), each.what, ms(each.seconds, unit=""))
    console.print(table)
    console.print()


def _print_precopy(console: Console, precopy: Precopy, *, never: bool) -> None:
    """Print what comes before the switchover, where a bandwidth was measured in it."""
    if precopy.bandwidth is None:
        return
    table = Table(
        title="before the switchover", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    passed = f"{precopy.iterations:,} iterations, pass {precopy.passes:,}"
    said = f"never ends (the calculation was given up after {passed})" if never else f"{ms(precopy.seconds)}, {passed}"
    table.add_row("pre-copy", said)
    reached = f"{precopy.bandwidth:,.0f} bytes/s" if math.isfinite(precopy.bandwidth) else "more than can be measured"
    table.add_row("bandwidth reached", reached)
    if precopy.ram_left is not None:
        table.add_row("memory left", f"{precopy.ram_left:,} bytes, {ms(precopy.ram_left_s)}")
    console.print(table)
    console.print()


def _print_difference(console: Console, prediction: Prediction, stands: Prediction) -> None:
    with_what = "with --set" if prediction.strategy == stands.strategy else "with another strategy"
    table = _titled(
        console, f"{with_what}, against the scenario as it stands, in ms", "device", "stands", "set", "change"
    )
    for part in PARTS:
        before, after = getattr(stands, part), getattr(prediction, part)
        table.add_row(part_label(part), ms(before, unit=""), ms(after, unit=""), signed_ms(after - before))
    table.columns[0].header = ""
    console.print(table)
    console.print()


def _print_stages(console: Console, prediction: Prediction) -> None:
    table = _titled(console, "where the time goes", "side", "pass", "depth", "ms", "the slowest")
    for stage in prediction.stages:
        if stage.seconds > 0:
            table.add_row(
                stage.side,
                stage.kind,
                "plain" if stage.depth is None else str(stage.depth),
                ms(stage.seconds, unit=""),
                plain(console, _slowest(stage)),
            )
    console.print(table)
    console.print()


def _slowest(stage: Stage) -> str:
    """Name them; several threads take as long at the same time, what comes in turn takes as long together."""
    in_turn = listed(stage.in_turn) + (", in turn" if len(stage.in_turn) > 1 else "")
    return "; ".join(filter(None, (listed(stage.slowest), in_turn)))


def _print_devices(console: Console, prediction: Prediction) -> None:
    groups = {device.alike: device for device in reversed(prediction.devices)}
    rows: list[list[str | Text]] = [
        [plain(console, listed(alike)), *_device_row(device, never=bool(prediction.never))]
        for alike, device in reversed(groups.items())
    ]
    tables = [_devices_table(console, rows, range(len(_DEVICE_COLUMNS)))]
    # Measured where there is room, for a table says that it fits into whatever it is given.
    if console.measure(tables[0], options=console.options.update(width=_ROOM)).minimum > console.width:
        # Two that can be read instead of one in which figures are broken.
        tables = [_devices_table(console, rows, places) for places in _HALVES]
        tables[1].title = None
    for table in tables:
        console.print(table)
    console.print("*: nothing at its depth takes longer in that pass")
    console.print("without: by how much the switchover changes without one such device")
    console.print("switched: by how much with parallel changes (par.) of one such device the other way")
    console.print()


def _devices_table(console: Console, rows: Sequence[Sequence[str | Text]], places: Iterable[int]) -> Table:
    places = list(places)
    table = _titled(console, "devices, in ms", *(_DEVICE_COLUMNS[place] for place in places))
    table.box, table.padding = None, (0, 1, 0, 0)  # it is wide
    for column in table.columns[1:]:
        column.no_wrap = True
    for row in rows:
        table.add_row(*(row[place] for place in places))
    return table


def _device_row(device: DeviceShare, *, never: bool) -> list[str]:
    passes = [f"{ms(each.seconds, unit='')}{'*' if each.critical else ''}" for each in device.passes]
    return [
        str(device.depth),
        "on" if device.parallel else "off",
        *passes[:2],
        ms(device.transfer_s, unit=""),
        *passes[2:],
        *(("-", "-") if never else (signed_ms(-device.contributes_s), signed_ms(-device.toggle_gain_s))),
    ]


def _print_changes(console: Console, prediction: Prediction, *, show_all: bool) -> None:
    shown = prediction.changes if show_all else prediction.changes[:TOP]
    if not show_all:
        shown = tuple(each for each in shown if each.gain_s > 0)
    console.print(Text("what to speed up first", style="bold"))
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column(justify="right", no_wrap=True, overflow="fold")
    table.add_column(overflow="fold")
    for rank, change in enumerate(shown, start=1):
        table.add_row(f"{rank}.", plain(console, str(change)))
    if shown:
        console.print(table)
    else:
        console.print("nothing that could be changed alone makes it shorter")
    left = len(prediction.changes) - len(shown)
    if left:
        console.print(f"and {left:,} more with --all")


def _titled(console: Console, title: str, *columns: str) -> Table:
    """Make a table of words to the left and figures to the right; what is too long is folded, not cut."""
    table = Table(title=plain(console, title, style="italic"), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", justify="left" if column in _WORDS else "right")
    return table
