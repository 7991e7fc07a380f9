"""The command line: `vfio-switchover`."""

import os
import sys
from contextlib import suppress
from enum import StrEnum
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from vfio_migration.cli.compare_command import compare_command
from vfio_migration.cli.explore_command import explore_command
from vfio_migration.cli.forecast_command import forecast_command
from vfio_migration.cli.import_command import import_command
from vfio_migration.cli.measure_command import measure_command
from vfio_migration.cli.outputs import cannot_write, check_outputs, console_beside, printing, write_json, write_text
from vfio_migration.cli.streams import in_spite_of_streams
from vfio_migration.cli.sweep_command import sweep_command
from vfio_migration.cli.two_ends import receive_command, send_command
from vfio_migration.drawing import check_plot, html_page, print_prediction, print_result, write_plot
from vfio_migration.errors import ScenarioError, VFIOMigrationError
from vfio_migration.forecast import predict as predict_scenario
from vfio_migration.recorded import chrome_trace, format_log, log_files
from vfio_migration.scenarios import (
    MODES,
    Result,
    Run,
    Scenario,
    bundled_scenarios,
    load_scenario,
    override,
    run_scenario,
)
from vfio_migration.strategies import STRATEGIES
from vmstate import VirtualClock, tell_of_interrupts


class _App(typer.Typer):
    """The commands, whatever their standard streams are."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        in_spite_of_streams(super().__call__, *args, **kwargs)


app = _App(
    help="See where a live migration's switchover goes: VFIO state changes, serial against parallel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Mode(StrEnum):
    """Which of the two ways to run."""

    SERIAL = "serial"
    PARALLEL = "parallel"
    BOTH = "both"


class Threads(StrEnum):
    """How a state-change thread comes about: a new one at each launch, or one that waits."""

    PER_CHANGE = "per-change"
    PARKED = "parked"


_Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATTERN.KEY=VALUE",
        help="Another value for a key of some devices or handlers, such as 'vf*.latency.STOP_COPY=0.02'; repeatable.",
    ),
]


_Strategy = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"How a pass treats devices, in parallel: {', '.join(STRATEGIES)}; else as the scenario says.",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vfio-switchover {version('vfio-switchover')}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take what is common to all commands."""
    tell_of_interrupts(_say_that_it_was_heard)
    context.call_on_close(lambda: tell_of_interrupts(lambda: None))


def _say_that_it_was_heard() -> None:
    """Write to the descriptor itself: a signal's handler may have come into the middle of what the stream does."""
    with suppress(OSError):
        os.write(2, b"\nCtrl-C: what cannot be cut ends first; once more leaves at once\n")


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A bundled scenario's name, or the path of a TOML file.")] = "host",
    mode: Annotated[Mode, typer.Option(help="How devices change their state.")] = Mode.BOTH,
    runs: Annotated[int, typer.Option(min=1, help="Migrations in each mode; medians are shown.")] = 3,
    threads: Annotated[
        Threads | None, typer.Option(help="How state-change threads come about; else as the scenario says.")
    ] = None,
    strategy: _Strategy = None,
    settings: _Settings = None,
    seed: Annotated[int, typer.Option(help="For latencies that vary: each of the runs draws its own from it.")] = 0,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show all that the switchover waits for, not only the largest.")
    ] = False,
    virtual: Annotated[bool, typer.Option("--virtual", help="Run in virtual time: no wait takes any.")] = False,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the figures there; '-': standard output.")
    ] = None,
    trace_file: Annotated[
        str | None, typer.Option("--trace", metavar="FILE", help="Write a trace there for Perfetto; '-': stdout.")
    ] = None,
    plot_file: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Draw both modes there: a name in .svg or .png.")
    ] = None,
    html_file: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write a page there for a browser; '-': stdout.")
    ] = None,
    qemu_log: Annotated[
        str | None, typer.Option("--qemu-log", metavar="PREFIX", help="Write PREFIX-src.log and -dst.log, as QEMU's.")
    ] = None,
) -> None:
    """
    Migrate a scenario's machine and say what the switchover took.

    Exit status: 0 if every migration completed, 1 if not, 2 if the scenario cannot be used or a file cannot be
    written, 130 after Ctrl-C.
    """
    # With figures on standard output, what is for people goes where the progress bar goes.
    console = console_beside((json_file, trace_file, html_file))
    modes = MODES if mode is Mode.BOTH else (str(mode),)
    loaded = _loaded(scenario, settings, strategy)
    logs = {} if qemu_log is None else log_files(qemu_log, modes)
    _check_plot(plot_file)
    check_outputs((json_file, trace_file, plot_file, html_file, *logs.values()), inputs=(scenario,))
    if threads is not None:
        loaded = loaded.with_threads(str(threads))
    try:
        with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task(f"migrating {loaded.name}", total=runs * len(modes))
            result = run_scenario(
                loaded,
                modes,
                runs=runs,
                seed=seed,
                make_clock=VirtualClock if virtual else lambda: None,
                on_run=lambda: progress.advance(task),
            )
    except ScenarioError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted: the migration under way was cancelled, and its source runs again", err=True)
        raise typer.Exit(130) from None
    with printing():
        print_result(console, result, show_all=show_all)
    if json_file is not None:
        write_json(json_file, result.as_json())
    if trace_file is not None:
        write_json(trace_file, chrome_trace({name: mode.typical.timeline for name, mode in result.modes.items()}))
    if plot_file is not None:
        _write_plot(plot_file, result)
    if html_file is not None:
        write_text(html_file, html_page(result))
    for (each, machine), file in logs.items():
        _write_log(file, result.modes[each].typical, machine)
        typer.echo(f"written: {file} ({machine}, {each}, the run nearest to the median)", err=True)
    raise typer.Exit(0 if result.completed else 1)


@app.command()
def predict(
    scenario: Annotated[str, typer.Argument(help="A bundled scenario's name, or the path of a TOML file.")],
    strategy: _Strategy = None,
    settings: _Settings = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show all changes, not only the first ten.")] = False,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the figures there; '-': standard output.")
    ] = None,
) -> None:
    """
    Say what a scenario's switchover will take, without waiting for it, and what to speed up first.

    Exit status: 0, or 2 if the scenario cannot be used or a file cannot be written.
    """
    console = console_beside((json_file,))
    prediction = predict_scenario(_loaded(scenario, settings, strategy))
    stands = predict_scenario(_loaded(scenario)) if settings or strategy else None
    check_outputs((json_file,), inputs=(scenario,))
    with printing():
        print_prediction(console, prediction, stands, show_all=show_all)
    if json_file is not None:
        write_json(json_file, prediction.as_json(stands))


app.command("import")(import_command)
app.command("compare")(compare_command)
app.command("sweep")(sweep_command)
app.command("forecast")(forecast_command)
app.command("explore")(explore_command)
app.command("measure")(measure_command)
app.command("send")(send_command)
app.command("receive")(receive_command)


@app.command()
def scenarios() -> None:
    """List the scenarios that come with the package."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, description in bundled_scenarios().items():
        table.add_row(name, description)
    Console(highlight=False).print(table)


def _loaded(scenario: str, settings: list[str] | None = None, strategy: str | None = None) -> Scenario:
    try:
        changed = override(load_scenario(scenario), settings or [])
        return changed if strategy is None else changed.with_strategy(strategy)
    except ValueError as error:
        typer.echo(f"error: --strategy: {error}", err=True)
        raise typer.Exit(2) from None
    except ScenarioError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _check_plot(file: str | None) -> None:
    try:
        if file is not None:
            check_plot(file)
    except VFIOMigrationError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _write_plot(file: str, result: Result) -> None:
    try:
        write_plot(result, file)
    except OSError as error:
        cannot_write(file, error)


def _write_log(file: str, run: Run, machine: str) -> None:
    try:
        text = format_log(run.events, machine)
    except ScenarioError as error:
        typer.echo(f"error: {file!r}: {error}", err=True)
        raise typer.Exit(2) from None
    write_text(file, text)
