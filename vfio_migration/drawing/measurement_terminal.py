"""What was measured of devices, for a terminal, a pipe or a file."""

from statistics import fmean

from rich.console import Console
from rich.table import Table

from vfio_migration.drawing.terminal import plain, print_notes, print_timeline
from vfio_migration.drawing.vocabulary import part_label
from vfio_migration.measuring import PARTS, Figures, MeasuredScenario, Measurement, figures, slowed
from vfio_migration.wording import ms


def print_measurement(console: Console, measurement: Measurement, scenario: MeasuredScenario | None) -> None:
    """Print what each request of each device took, by mode; the switchovers and their prediction; a timeline."""
    for device in measurement.devices:
        console.print(_device_table(console, measurement, device))
        console.print()
    for mode in measurement.runs:
        run = measurement.typical(mode)
        if run is not None and not measurement.itself:
            print_timeline(console, f"{mode}, the run nearest to the median", run.timeline, run.switchover_s)
    console.print(_switchover_table(console, measurement, scenario))
    for failure in measurement.failures:
        console.print(plain(console, f"failed: {failure}", style="red"))
    print_notes(console, scenario.notes if scenario is not None else ())


def _device_table(console: Console, measurement: Measurement, device: str) -> Table:
    """Give each thing that was asked of a device, in each mode, a row: median, p90 and spread, in ms."""
    modes = list(measurement.runs)
    sizes = measurement.sizes(modes[0], device)
    read = ", ".join(f"{figures_of.median:,.0f} bytes of {which}" for which, figures_of in _sizes(sizes))
    table = Table(title=plain(console, f"{device}: {read}"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("in ms", no_wrap=True)
    table.add_column("")
    for what in ("median", "p90", "spread"):
        table.add_column(what, justify="right")
    samples = {mode: measurement.samples(mode, device) for mode in modes}
    for row in dict.fromkeys(what for mode in modes for what in samples[mode]):
        for mode in modes:
            label = row if mode == modes[0] else ""
            table.add_row(label, plain(console, mode), *_cells(figures(samples[mode].get(row, ()))))
    return table


def _switchover_table(console: Console, measurement: Measurement, scenario: MeasuredScenario | None) -> Table:
    """Give each mode a column: the parts of its switchover, what is predicted, how much longer arcs took in it."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("medians, in ms")
    for mode in measurement.runs:
        table.add_column(plain(console, mode), justify="right")
    modes = list(measurement.runs)
    for part in PARTS:
        table.add_row(part_label(part), *(_middle(measurement.part(mode, part)) for mode in modes))
    whole = [measurement.part(mode, PARTS[0]) for mode in modes]
    table.add_row("p90 of the switchover", *(_number(None if each is None else each.p90) for each in whole))
    predicted = {} if scenario is None else scenario.predicted
    table.add_row("predicted by the scenario", *(_number(predicted.get(mode)) for mode in modes))
    table.add_row("arcs, against serial", *(_longer(slowed(measurement, mode)) for mode in modes))
    table.add_row("switchovers", *(f"{len(measurement.completed(mode))}" for mode in modes))
    return table


def _middle(found: Figures | None) -> str:
    return _number(None if found is None else found.median)


def _longer(times: dict[str, float]) -> str:
    return f"x{fmean(times.values()):.2f}" if times else "-"


def _sizes(sizes: dict[str, list[float]]) -> list[tuple[str, Figures]]:
    return [(which, found) for which, counts in sizes.items() if (found := figures(counts)) is not None]


def _cells(found: Figures | None) -> tuple[str, str, str]:
    if found is None:
        return "-", "", ""
    return _number(found.median), _number(found.p90), _number(found.spread)


def _number(seconds: float | None) -> str:
    return "-" if seconds is None else ms(seconds, unit="", digits=3)
