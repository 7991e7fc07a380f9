"""`vfio-switchover explore`: whether the invariants of a migration hold in every order of its threads."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vfio_migration.device import MockDevice
from vfio_migration.engines import EngineError, engine
from vfio_migration.errors import DeviceBusyError, ScenarioError
from vfio_migration.live import migrate
from vfio_migration.scenarios import Scenario, load_scenario, refuse_endless
from vfio_migration.testing import Invariants
from vmstate import VirtualClock
from vmstate.exploring import Exploration, ReplayError, explore, replay

_INTERRUPTED = 130


@dataclass(frozen=True)
class ScenarioCheck:
    """The test that is explored: one migration of a scenario, its faults included, and the invariants after it."""

    scenario: Scenario

    def __call__(self, clock: VirtualClock) -> None:
        """
        Migrate once, in the time of a clock.

        Raises:
            InvariantViolationError: something does not hold that holds after every migration.
            KeyboardInterrupt: Ctrl-C, which has cancelled the migration.

        """
        source = self.scenario.build("source", clock=clock)
        destination = self.scenario.build("destination", clock=clock, destination=True)
        try:
            source.machine.start()
            invariants = Invariants(source.machine, destination.machine)
            around = self.scenario.surroundings
            report = migrate(source.machine, destination.machine, parameters=around.parameters, link=around.link)
            given_up = len(report.lost_devices) + len(report.destination_lost_devices)
            invariants.check(report, given_up=given_up)
            if report.interrupted:
                raise KeyboardInterrupt
        finally:
            for built in (source, destination):
                _let_go(clock, built.mocks.values(), built.close)


def _let_go(clock: VirtualClock, mocks: Iterable[MockDevice], close: Callable[[], None]) -> None:
    """Take all devices away, also such as stall."""
    for mock in mocks:
        mock.heal()
        mock.release()
    with suppress(Exception):  # after a deadlock there may be nobody left to wait for
        clock.sleep(0.0)
    with suppress(DeviceBusyError):  # what was cut short is of no use to anybody
        close()


@dataclass
class _Pace:
    """How many schedules there were, how fast, and how much of the space that is."""

    progress: Progress
    total: int
    began_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._task = self.progress.add_task("", total=self.total)

    def tried(self, count: int, seen: float | None) -> None:
        share = "" if seen is None else f", {seen:.1%} of all"
        self.progress.update(self._task, completed=count, description=f"{self.rate(count):.0f} schedules/s{share}")

    def rate(self, count: int) -> float:
        return count / max(time.monotonic() - self.began_s, 1e-9)


def explore_command(
    scenario: Annotated[str, typer.Argument(help="A bundled scenario's name, or the path of a TOML file.")],
    policy: Annotated[
        str, typer.Option(help="pct, random, exhaustive, exhaustive:N (at most N preemptions) or in-order.")
    ] = "pct",
    schedules: Annotated[int, typer.Option(min=1, help="How many to try at most.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another one draws other schedules.")] = 0,
    timing: Annotated[
        str, typer.Option(help="exact: latencies are as they are; any: they are unknown, any wait may end next.")
    ] = "exact",
    engine_name: Annotated[
        str | None,
        typer.Option("--engine", metavar="ENGINE", help="processes, or dask:ADDRESS; else this process."),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option("--replay", metavar="SCHEDULE", help="Run this one again, as a failure showed it.")
    ] = None,
) -> None:
    """
    Migrate a scenario in many orders of its threads, and see that what must hold afterwards does.

    Exit status: 0, 1 if something does not hold in a schedule, 2 if what was given cannot be used, or 130 after Ctrl-C.
    """
    console = Console(highlight=False)
    check = ScenarioCheck(_loaded(scenario))
    try:
        if schedule is not None:
            _replay(console, check, schedule)
            return
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        with engine(engine_name) as make, ExitStack() as ended, progress:
            executor = None
            if make is not None:
                executor = make()
                ended.callback(executor.shutdown, wait=False)
            pace = _Pace(progress, schedules)
            found = explore(
                check,
                policy=policy,
                schedules=schedules,
                seed=seed,
                timing=timing,
                executor=executor,
                on_tried=pace.tried,
            )
    except BrokenExecutor:
        typer.echo("error: a worker died: is there enough memory?", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was found so far", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except (EngineError, ReplayError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    _print(console, check.scenario.name, found, pace.rate(found.schedules))
    if found.failure is not None:
        raise typer.Exit(1)


def _loaded(scenario: str) -> Scenario:
    try:
        loaded = load_scenario(scenario)
        refuse_endless(loaded)
    except ScenarioError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    return loaded


def _replay(console: Console, check: ScenarioCheck, schedule: str) -> None:
    try:
        replay(check, schedule)
    except (ReplayError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever the failure was, it is shown
        console.print(f"{check.scenario.name}: {type(error).__name__}: {error}", markup=False)
        raise typer.Exit(1) from None
    console.print(f"{check.scenario.name}: all that must hold does, in this schedule", markup=False)


def _print(console: Console, name: str, found: Exploration, rate: float) -> None:
    if found.failure is not None:
        console.print(f"{name}: {found.failure.report}", markup=False, soft_wrap=True)
        console.print(f"schedule {found.schedules}; to replay it:", markup=False)
        console.print(f"--replay '{found.failure.schedule}'", markup=False, soft_wrap=True)
        return
    share = ", which are all" if found.complete else "" if found.seen is None else f", {found.seen:.3%} of all"
    console.print(
        f"{name}: all that must hold does, in {found.schedules} schedule(s){share} ({rate:.0f} a second)", markup=False
    )
