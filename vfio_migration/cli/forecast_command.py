"""The command `vfio-switchover forecast`: what the switchovers of a fleet will take, and which will miss a limit."""

import csv
import glob
import io
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from vfio_migration.cli.outputs import check_outputs, console_beside, printing, write_json, write_text
from vfio_migration.cli.refusal import refuse
from vfio_migration.engines import EngineError, engine
from vfio_migration.errors import ScenarioError
from vfio_migration.scenarios import Scenario, bundled_scenarios, load_scenario, override

if TYPE_CHECKING:
    from vfio_migration.fleet import Forecast

_INTERRUPTED = 130


def forecast_command(
    scenarios: Annotated[
        list[str], typer.Argument(metavar="SCENARIO...", help="Names of bundled ones, files, folders of files, globs.")
    ],
    samples: Annotated[int, typer.Option(min=1, help="Draws of each scenario's latencies.")] = 10_000,
    seed: Annotated[int, typer.Option(help="What is drawn follows from it: sample K is run K of that seed.")] = 0,
    limit: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="How long a switchover may take.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATTERN.KEY=VALUE", help="Another value for a key; repeatable, as for `run`."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="serial, depths, overlapping or pool:N; else as each scenario says."),
    ] = None,
    engine_name: Annotated[
        str | None,
        typer.Option(
            "--engine", metavar="ENGINE", help="processes: all processors; dask:ADDRESS: a cluster; else this process."
        ),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show all scenarios, not only the worst.")] = False,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write all figures there; '-': standard output.")
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write a row for each scenario and bound there.")
    ] = None,
    html_file: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write a page there for a browser; '-': stdout.")
    ] = None,
) -> None:
    """
    Say what switchovers will take where latencies vary: percentiles, the chance to exceed a limit, what would help.

    Exit status: 0; 2 if a scenario or an engine cannot be used or a file cannot be written; 130 after Ctrl-C.
    """
    console = console_beside((json_file, csv_file, html_file))
    files = _files(scenarios)
    check_outputs((json_file, csv_file, html_file), inputs=[str(path) for path in files.values()])
    try:
        from vfio_migration.fleet_drawing import forecast_page, print_forecast  # noqa: PLC0415 - needs an extra
    except ImportError:
        refuse("forecasts need numpy: pip install 'vfio-switchover[fleet]'")
    settings = [*(settings or ()), *([f"strategy={strategy}"] if strategy is not None else ())]
    loaded = {name: _loaded(path, settings) for name, path in files.items()}
    found = _forecast(loaded, samples, seed, limit, engine_name)
    with printing():
        print_forecast(console, found, show_all=show_all)
    if json_file is not None:
        write_json(json_file, found.as_json())
    if html_file is not None:
        write_text(html_file, forecast_page(found))
    if csv_file is not None:
        write_text(csv_file, _csv(found))


def _forecast(
    loaded: dict[str, Scenario], samples: int, seed: int, limit: float | None, engine_name: str | None
) -> "Forecast":
    from vfio_migration.fleet import forecast  # noqa: PLC0415 - needs an extra

    progress = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    try:
        with engine(engine_name) as executor, progress:
            task = progress.add_task("forecasting", total=len(loaded))
            return forecast(
                loaded,
                samples=samples,
                seed=seed,
                limit=limit,
                executor=executor,
                on_done=lambda count: progress.advance(task, count),
            )
    except EngineError as error:
        refuse(str(error))
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was written", err=True)
        raise typer.Exit(_INTERRUPTED) from None


def _files(given: Sequence[str]) -> dict[str, Path | str]:
    """Give all scenarios by name: a file's stem, or its path where two are equal."""
    bundled = bundled_scenarios()
    found: list[Path | str] = []
    for each in given:
        path = Path(each)
        if path.is_dir():
            found += sorted(path.glob("*.toml"))
        elif path.is_file():
            found.append(path)
        elif each in bundled:
            found.append(each)
        else:
            matched = [Path(name) for name in sorted(glob.glob(each))]  # noqa: PTH207 - of any folder
            found += matched or [each]  # which loading says is none
    unique = list(dict.fromkeys(found))
    if not unique:
        refuse(f"no scenarios in {', '.join(given)}: expected files that end in .toml")
    stems = Counter(Path(each).stem for each in unique)
    return {Path(each).stem if stems[Path(each).stem] == 1 else str(each): each for each in unique}


def _loaded(path: Path | str, settings: list[str] | None) -> Scenario:
    try:
        return override(load_scenario(path), settings or ())
    except ScenarioError as error:
        refuse(str(error))


def _csv(found: "Forecast") -> str:
    """Give a row for each scenario and bound; seconds."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("scenario", "bound", "p50", "p90", "p99", "mean", "exceeds"))
    for each in found.scenarios:
        for bound, figures in each.figures.items():
            rows.writerow((each.name, bound, *figures.as_json().values()))
    return text.getvalue()
