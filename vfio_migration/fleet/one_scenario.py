"""The forecast of one scenario: its draws, what they come to, and what would help most."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np

from vfio_migration.fleet.closed_form import BOUNDS, closed_form
from vfio_migration.fleet.draws import Array, Draws
from vfio_migration.fleet.figures import Figures, Histogram, figures
from vfio_migration.scenarios import Scenario

SIMULATED = "each sample is a plan of its own: latencies that vary come before the switchover is decided, or in it"


@dataclass(frozen=True)
class Asked:
    """What is asked of each scenario; seconds."""

    samples: int = 10_000
    seed: int = 0
    limit: float | None = None


@dataclass(frozen=True)
class ScenarioForecast:
    """
    What one scenario comes to, by bound: "serial", "mechanism", "ideal".

    `notes` says what is special about it; `histograms` are for what is said of many.
    """

    name: str
    figures: Mapping[str, Figures]
    histograms: Mapping[str, Histogram] = field(repr=False, default_factory=dict)
    notes: tuple[str, ...] = ()


def forecast_one(scenario: Scenario, asked: Asked, name: str | None = None) -> ScenarioForecast:
    """Forecast a scenario."""
    samples, notes = samples_of(scenario, asked)
    histograms = {bound: Histogram() for bound in BOUNDS}
    for bound, values in samples.items():
        histograms[bound].add(values, asked.limit)
    found = {bound: figures(samples[bound], asked.limit) for bound in BOUNDS}
    return ScenarioForecast(name if name is not None else scenario.name, found, histograms, notes)


def samples_of(scenario: Scenario, asked: Asked) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Give the switchovers of all samples, in seconds, by bound; and what is special about them."""
    plan = scenario.plan()
    if plan.never:
        never = np.full(asked.samples, math.inf)
        return dict.fromkeys(BOUNDS, never), (f"there never is a switchover: {plan.never}",)
    closed = closed_form(scenario, plan)
    notes = scenario.notes if scenario.varies else (*scenario.notes, "no latency varies: all samples are alike")
    if closed is None:
        return _joined(_simulated(scenario, asked)), (*notes, SIMULATED)
    blocks = Draws(scenario).blocks(asked.samples, asked.seed, closed.wanted)
    return _joined(closed.switchovers(count, drawn) for count, drawn in blocks), notes


def _simulated(scenario: Scenario, asked: Asked) -> Iterator[dict[str, Array]]:
    generator = Random(asked.seed)  # noqa: S311 - nothing is kept secret with it
    for _ in range(asked.samples):
        bounds = scenario.drawn(generator).plan().bounds
        yield {bound: np.array([getattr(bounds, f"{bound}_s")]) for bound in BOUNDS}


def _joined(blocks: Iterator[dict[str, Array]]) -> dict[str, Array]:
    all_blocks = list(blocks)
    return {bound: np.concatenate([each[bound] for each in all_blocks]) for bound in BOUNDS}
