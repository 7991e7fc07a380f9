"""The command `vfio-switchover sweep`: a scenario with each of many values, and what its switchover takes with each."""

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from vfio_migration.cli.outputs import cannot_write, check_outputs, console_beside, printing, write_json
from vfio_migration.cli.refusal import refuse
from vfio_migration.engines import EngineError, engine
from vfio_migration.errors import ScenarioError
from vfio_migration.scenarios import load_scenario, override
from vfio_migration.wording import ms

if TYPE_CHECKING:
    from vfio_migration.fleet import Point

_INTERRUPTED = 130


def sweep_command(
    scenario: Annotated[str, typer.Argument(help="A bundled scenario's name, or the path of a TOML file.")],
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUES",
            help="FIRST:LAST:COUNT, FIRST:LAST (whole numbers) or A,B,C; a key as for --set, or devices.PREFIX. "
            "Repeatable: every combination.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATTERN.KEY=VALUE", help="Another value for a key in all of them; repeatable."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Draws for the p99 of each, where latencies vary.")] = 1000,
    seed: Annotated[int, typer.Option(help="What is drawn follows from it.")] = 0,
    engine_name: Annotated[
        str | None, typer.Option("--engine", metavar="ENGINE", help="processes, dask:ADDRESS; else this process.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write all points there; '-': standard output.")
    ] = None,
    plot_file: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Draw the switchover over the last key's values.")
    ] = None,
) -> None:
    """
    Predict a scenario's switchover with every combination of values.

    Exit status: 0; 2 if a scenario, a key or a value cannot be used or a file cannot be written; 130 after Ctrl-C.
    """
    console = console_beside((json_file,))
    check_outputs((json_file, plot_file), inputs=(scenario,))
    try:
        points = _swept(scenario, settings, vary, samples, seed, engine_name)
    except ScenarioError as error:
        refuse(str(error))
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was written", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    with printing():
        console.print(_table(points))
    if json_file is not None:
        data = {"scenario": scenario, "vary": vary, "points": [each.as_json() for each in points]}
        write_json(json_file, data)
    if plot_file is not None:
        _plot(plot_file, points)


def _swept(
    scenario: str, settings: list[str] | None, vary: list[str], samples: int, seed: int, engine_name: str | None
) -> "tuple[Point, ...]":
    try:
        from vfio_migration.fleet import parse_vary, sweep  # noqa: PLC0415 - needs an extra
    except ImportError:
        refuse("sweeps need numpy: pip install 'vfio-switchover[fleet]'")
    loaded = override(load_scenario(scenario), settings or ())
    varied = [parse_vary(each) for each in vary]
    progress = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    try:
        with engine(engine_name) as executor, progress:
            task = progress.add_task("sweeping", total=math.prod(len(each.values) for each in varied))
            return sweep(
                loaded,
                varied,
                samples=samples,
                seed=seed,
                executor=executor,
                on_done=lambda count: progress.advance(task, count),
            )
    except EngineError as error:
        refuse(str(error))


def _table(points: "Sequence[Point]") -> Table:
    table = Table(title="switchovers, in ms", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for key in points[0].values:
        table.add_column(key, justify="right")
    varies = any(each.p99_s is not None for each in points)
    for what in ("serial", "as configured", "ideal", *(["p99"] if varies else [])):
        table.add_column(what, justify="right")
    for each in points:
        times = (each.serial_s, each.mechanism_s, each.ideal_s, *([each.p99_s] if varies else []))
        table.add_row(*each.values.values(), *(_cell(seconds) for seconds in times))
    return table


def _cell(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return "never" if math.isinf(seconds) else ms(seconds, unit="")


def _plot(file: str, points: "Sequence[Point]") -> None:
    from vfio_migration.fleet_drawing import write_sweep  # noqa: PLC0415 - needs an extra, which is here by now

    try:
        write_sweep(points, file)
    except ImportError:
        refuse("pictures need matplotlib: pip install 'vfio-switchover[plot]'")
    except (OSError, ValueError) as error:
        cannot_write(file, error)
