"""Forecasts for a fleet: the distribution of each scenario's switchover, and of all."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from vfio_migration.engines import in_order_of
from vfio_migration.fleet.closed_form import BOUNDS, MECHANISM
from vfio_migration.fleet.figures import Figures, Histogram, figures_json
from vfio_migration.fleet.helps import Help, helps
from vfio_migration.fleet.one_scenario import Asked, ScenarioForecast, forecast_one
from vfio_migration.scenarios import Scenario

_MOST_HELPED = 10  # scenarios: of a fleet only the worst are asked what would help them
_PIECE = 5_000_000  # numbers drawn in a piece of work: about a second


@dataclass(frozen=True)
class Forecast:
    """
    What a fleet comes to: each scenario, in the order in which they were given, and all together, by bound.

    `helps` is what would help most, by scenario, of those with the longest p99.
    """

    asked: Asked
    scenarios: tuple[ScenarioForecast, ...]
    helps: Mapping[str, tuple[Help, ...]] = field(default_factory=dict)
    all: Mapping[str, Figures] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(repr=False, default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give what `forecast --json` writes; seconds, null for what never is."""
        return {
            "samples": self.asked.samples,
            "seed": self.asked.seed,
            "limit": self.asked.limit,
            "scenarios": {
                each.name: figures_json(each.figures)
                | {
                    "blackout": figures_json(each.figures),  # nothing lies between them that varies: the same
                    "helps": [vars(one) for one in self.helps.get(each.name, ())],
                    "notes": list(each.notes),
                }
                for each in self.scenarios
            },
            "all": figures_json(self.all),
        }


def forecast(
    scenarios: Mapping[str, Scenario],
    *,
    samples: int = 10_000,
    seed: int = 0,
    limit: float | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    most_helps: int = 5,
    on_done: Callable[[int], object] = lambda _: None,
) -> Forecast:
    """
    Forecast scenarios, each by its name: `samples` draws of each, from the seed.

    Sample K of a scenario is what run K of `run_scenario(scenario, seed=seed)` takes. `limit` is in seconds. With an
    `executor`, of whatever kind, work is done there; something that makes executors has a new one made if its workers
    die. `on_done` is called with how many more scenarios are done.

    Raises:
        ValueError: there is no scenario, or no sample.
        EngineError: workers keep dying.

    """
    if not scenarios or samples < 1:
        raise ValueError("a forecast needs a scenario and a sample at least")
    asked = Asked(samples, seed, limit)
    pieces = _pieces(scenarios, asked)
    make = (lambda: _Kept(executor)) if isinstance(executor, Executor) else executor
    found = in_order_of(_forecast_all, pieces, make, lambda place: on_done(len(pieces[place].scenarios)))
    ones = tuple(each for some, _ in found for each in some)
    worst = sorted(ones, key=lambda each: -each.figures[MECHANISM].p99)[:_MOST_HELPED]
    helped = [_Piece(asked, ((each.name, scenarios[each.name]),)) for each in worst if most_helps]
    found_helps = in_order_of(partial(_helps_of, most_helps), helped, make)
    together = {bound: Histogram() for bound in BOUNDS}
    for _, histograms in found:
        for bound, histogram in histograms.items():
            together[bound].join(histogram)
    return Forecast(
        asked,
        ones,
        {each.name: some for each, some in zip(worst, found_helps, strict=False)},
        {bound: each.figures(limit) for bound, each in together.items()},
        together,
    )


@dataclass(frozen=True)
class _Piece:
    asked: Asked
    scenarios: tuple[tuple[str, Scenario], ...]


def _pieces(scenarios: Mapping[str, Scenario], asked: Asked) -> list[_Piece]:
    """Cut the work, in the order of the scenarios."""
    pieces: list[_Piece] = []
    some: list[tuple[str, Scenario]] = []
    size = 0
    for item in scenarios.items():
        some.append(item)
        size += asked.samples * max(1, sum(len(spec.varying) for spec in item[1].devices))
        if size >= _PIECE:
            pieces.append(_Piece(asked, tuple(some)))
            some, size = [], 0
    return [*pieces, *([_Piece(asked, tuple(some))] if some else [])]


def _forecast_all(piece: _Piece) -> tuple[list[ScenarioForecast], dict[str, Histogram]]:
    """Give the forecast of each, and one histogram of all: thousands of them would not fit into memory."""
    together = {bound: Histogram() for bound in BOUNDS}
    ones = []
    for name, scenario in piece.scenarios:
        found = forecast_one(scenario, piece.asked, name)
        for bound, histogram in found.histograms.items():
            together[bound].join(histogram)
        ones.append(replace(found, histograms={}))
    return ones, together


def _helps_of(most: int, piece: _Piece) -> tuple[Help, ...]:
    ((_, scenario),) = piece.scenarios
    return helps(scenario, piece.asked, most)


class _Kept(Executor):
    """Somebody else's executor, which is not shut down here."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.submit = executor.submit  # type: ignore[method-assign]

    def shutdown(self, wait: bool = True, **_: object) -> None:
        """Leave it as it is."""
