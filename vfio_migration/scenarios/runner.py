"""Runs a scenario: migrates it, serial and in parallel, as often as asked, and says what it took."""

import math
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from statistics import median
from typing import Any

from vfio_migration.errors import ScenarioError, described
from vfio_migration.live import Migration, MigrationReport, MigrationStatus, migrate
from vfio_migration.plan import Bounds
from vfio_migration.recorded import Timeline, build_timeline
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.without_link import without_link
from vfio_migration.strategies import DEFAULT_STRATEGY
from vfio_migration.wording import listed
from vmstate import Clock, Recorder, TraceEvent

MODES = ("serial", "parallel")
MOST_RECORDED = 8  # runs of a mode of which more than figures is kept
PARTS = ("switchover_s", "source_stop_s", "transfer_s", "destination_start_s")


@dataclass(frozen=True)
class Run:
    """One migration of the scenario."""

    report: MigrationReport
    state_intact: bool
    timeline: Timeline
    events: tuple[TraceEvent, ...] = ()
    recorded: bool = True  # whether timeline and events were kept

    @property
    def completed(self) -> bool:
        """Whether the destination has taken over, with the state that the source had."""
        return self.report.completed and self.state_intact

    @property
    def failure(self) -> str:
        """What went wrong; empty if nothing did."""
        if not self.report.completed:
            error = self.report.error
            return f"migration {self.report.status}: {'' if error is None else described(error)}{self._devices}"
        return "" if self.state_intact else "the state that arrived is not what was sent"

    @property
    def _devices(self) -> str:
        """What became of devices in a migration that did not complete."""
        report = self.report
        reset = "reset, so that the guest's state is lost: "
        said = [
            f"{what}{listed(devices)}"
            for what, devices in (
                (f"of the source, {reset}", report.reset_devices),
                ("of the source, lost: ", report.lost_devices),
                ("of the destination, lost: ", report.destination_lost_devices),
            )
            if devices
        ]
        return "".join(f"; {each}" for each in said)


@dataclass(frozen=True)
class ModeResult:
    """All runs of one mode."""

    runs: tuple[Run, ...]

    @property
    def status(self) -> MigrationStatus:
        """`completed` if all runs are, else the first other status."""
        return next((run.report.status for run in self.runs if not run.report.completed), MigrationStatus.COMPLETED)

    def median(self, part: str) -> float | None:
        """Give the median over the runs of a part of the switchover, in seconds; None if none reached it."""
        values = [value for run in self.runs if (value := getattr(run.report, part)) is not None]
        return median(values) if values else None

    @property
    def failures(self) -> tuple[str, ...]:
        """What went wrong in which run, a line each."""
        return tuple(f"run {number}: {run.failure}" for number, run in enumerate(self.runs, start=1) if run.failure)

    @property
    def typical(self) -> Run:
        """The run whose switchover is nearest to the median, of those of which more than figures were kept."""
        middle = self.median("switchover_s")
        recorded = [run for run in self.runs if run.recorded]
        if middle is None:
            return recorded[0]
        return min(recorded, key=lambda run: _distance(run, middle))


@dataclass(frozen=True)
class Result:
    """What running a scenario came to; `notes` says what of it has no effect, `strategy` how passes treated devices."""

    scenario: str
    modes: dict[str, ModeResult]
    bounds: Bounds
    notes: tuple[str, ...] = ()
    strategy: str = DEFAULT_STRATEGY.name

    @property
    def completed(self) -> bool:
        """Whether every run of every mode completed."""
        return all(run.completed for mode in self.modes.values() for run in mode.runs)

    @property
    def speedup(self) -> float | None:
        """The serial switchover over the parallel one; None unless both were measured."""
        serial, parallel = self._switchover("serial"), self._switchover("parallel")
        return serial / parallel if serial is not None and parallel else None

    @property
    def efficiency(self) -> float | None:
        """What the mechanism could reach over the parallel switchover as measured."""
        parallel = self._switchover("parallel")
        return self.bounds.mechanism_s / parallel if parallel and math.isfinite(self.bounds.mechanism_s) else None

    def as_json(self) -> dict[str, Any]:
        """Give what `run --json` writes; times in seconds, medians over the runs."""
        return {
            "scenario": self.scenario,
            "modes": {
                name: {
                    "status": str(mode.status),
                    **{part: mode.median(part) for part in PARTS},
                    "runs": [_run_json(run) for run in mode.runs],
                }
                for name, mode in self.modes.items()
            },
            "bounds": {key: value if math.isfinite(value) else None for key, value in asdict(self.bounds).items()},
            "speedup": self.speedup,
            "efficiency": self.efficiency,
        }

    def _switchover(self, mode: str) -> float | None:
        return self.modes[mode].median("switchover_s") if mode in self.modes else None


def run_scenario(
    scenario: Scenario,
    modes: Sequence[str] = MODES,
    *,
    runs: int = 3,
    seed: int = 0,
    make_clock: Callable[[], Clock | None] = lambda: None,
    on_run: Callable[[], object] = lambda: None,
) -> Result:
    """
    Migrate a scenario's machine `runs` times in each mode; `on_run` is called after each.

    Latencies that vary are drawn anew for each of the `runs`, from the seed, and are the same for all modes. Bounds are
    those of their means.

    Raises:
        ScenarioError: the switchover would never begin, and so no run would end.
        KeyboardInterrupt: Ctrl-C; a migration that could still be cancelled was, and its source runs again.

    """
    refuse_endless(scenario)
    results = {mode: _Collected() for mode in modes}
    generator = Random(seed)  # noqa: S311 - nothing is kept secret with it
    for _ in range(runs):
        drawn = scenario.drawn(generator)
        for mode in modes:  # in turns, so that whatever else the machine does meets all of them
            run = run_once(drawn if mode == "parallel" else drawn.serial(), make_clock())
            if run.report.interrupted:
                raise KeyboardInterrupt
            results[mode].add(run)
            on_run()
    return Result(
        scenario.name,
        {mode: ModeResult(tuple(each.runs)) for mode, each in results.items()},
        scenario.plan().bounds,
        (*by_strategy(scenario), *without_link(scenario), *at_their_means(scenario, "bounds are")),
        scenario.strategy.name,
    )


class _Collected:
    """
    The runs of one mode: figures of all, and of a few what was recorded.

    These are the ones nearest to the median so far. Which is nearest in the end is known only then; in virtual time all
    are alike, and of a few runs all are kept.
    """

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._switchovers: list[float] = []
        self._recorded: list[int] = []

    def add(self, run: Run) -> None:
        """Add a run; one that is recorded may have to be forgotten but for its figures."""
        if run.report.switchover_s is not None:
            insort(self._switchovers, run.report.switchover_s)
        self._recorded.append(len(self.runs))
        self.runs.append(run)
        if len(self._recorded) > MOST_RECORDED:
            count = len(self._switchovers)
            middle = self._switchovers[count // 2] if count else 0.0
            farthest = max(self._recorded, key=lambda place: _distance(self.runs[place], middle))
            self._recorded.remove(farthest)
            forgotten = self.runs[farthest]
            self.runs[farthest] = replace(forgotten, timeline=Timeline((), None, None), events=(), recorded=False)


def _distance(run: Run, middle: float) -> float:
    """Give how far a run's switchover is from this; one that reached none is farther than any."""
    return math.inf if run.report.switchover_s is None else abs(run.report.switchover_s - middle)


def at_their_means(scenario: Scenario, what: str) -> tuple[str, ...]:
    """Say of what takes latencies that vary at their means that it does; nothing if none varies."""
    names = [spec.id for spec in scenario.devices if spec.varying]
    if not names:
        return ()
    return (f"latencies of {listed(names)} vary: {what} those of their means",)


def by_strategy(scenario: Scenario) -> tuple[str, ...]:
    """Say by which strategy devices change their states, if it is not the patch's."""
    if scenario.strategy == DEFAULT_STRATEGY:
        return ()
    return (f"the strategy is '{scenario.strategy.name}': what 'this mechanism' can reach is what that can",)


def refuse_endless(scenario: Scenario) -> None:
    """Raise ScenarioError if the switchover would never begin, and so no run would end."""
    never = scenario.plan().never
    if never:
        raise ScenarioError(f"{scenario.name}: the switchover would never begin: {never}")


def run_once(scenario: Scenario, clock: Clock | None = None, *, record: bool = True) -> Run:
    """Build a pair of machines, start the source, and migrate it; unless recorded, the timeline is empty."""
    recorder = Recorder()
    trace = recorder if record else None
    source = scenario.build("source", clock=clock, trace=trace)
    destination = scenario.build("destination", clock=source.machine.clock, trace=trace, destination=True)
    source.machine.start()
    sent: dict[str, str] = {}

    def note_states(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.COMPLETED:  # before the clean-up, which may have to reset a device
            sent.update((name, mock.state_hash) for name, mock in source.mocks.items())

    around = scenario.surroundings
    report = migrate(
        source.machine, destination.machine, parameters=around.parameters, link=around.link, on_status=note_states
    )
    intact = report.completed and all(mock.state_hash == sent.get(name) for name, mock in destination.mocks.items())
    source.close()
    destination.close()
    return Run(report, intact, build_timeline(recorder.events), tuple(recorder.events))


def _run_json(run: Run) -> dict[str, Any]:
    report = run.report
    return {
        "status": str(report.status),
        "error": None if report.error is None else described(report.error),
        **{part: getattr(report, part) for part in PARTS},
        "bytes_sent": report.bytes_sent,
        "stream_sha256": report.stream_sha256,
        "state_intact": run.state_intact,
        "reset_devices": list(report.reset_devices),
        "lost_devices": list(report.lost_devices),
    }
