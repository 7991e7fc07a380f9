"""What a pass takes by each strategy: worked out by hand, over samples at once, and as runs in virtual time do."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite.bundled import SHORT
from suite.scenarios import machines
from suite.strategies import STRATEGIES

from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.runner import run_once
from vfio_migration.strategies import SECONDS, Arithmetic, DepthTimes, strategy_named
from vmstate import VirtualClock


def depth(*launches: float, handlers_s: float = 0.0, launch_s: float = 0.0, join_s: float = 0.0) -> DepthTimes[float]:
    return DepthTimes(launches, handlers_s, launch_s, join_s)


@pytest.mark.parametrize(
    ("strategy", "depths", "seconds"),
    [
        ("serial", [], 0),
        ("overlapping", [], 0),
        ("serial", [depth(3, 5, handlers_s=4), depth(2, launch_s=7, join_s=7)], 14),
        ("depths", [depth(3, 5, handlers_s=4), depth(2)], 5 + 2),
        ("depths", [depth(3, 5, handlers_s=9), depth(handlers_s=1)], 9 + 1),
        ("depths", [depth(3, 5, launch_s=1, join_s=2)], (2 + 5) + 2),  # the first was joined at 4 to 6
        ("overlapping", [depth(3, 5), depth(6), depth(handlers_s=1), depth(2)], 6 + 1),
        ("overlapping", [depth(3, handlers_s=4), depth(6, handlers_s=4)], 4 + 4),
        ("overlapping", [depth(handlers_s=4), depth(3), depth(5)], 4 + 5),  # launched at the first bracket, not before
        ("overlapping", [depth(1, launch_s=1, join_s=2), depth(10, launch_s=1, join_s=2)], (2 + 10) + 2),
        ("overlapping", [depth(1, launch_s=1, join_s=9), depth(10, launch_s=1, join_s=9)], (2 + 9) + 1 + 9),
        ("pool:1", [depth(3, 5, handlers_s=4), depth(2, 2)], 8 + 4),
        ("pool:2", [depth(3, 5, 4, 1)], 7),  # the third begins at 3, the fourth at 5
        ("pool:2", [depth(9, 1, 1, 1)], 9),  # three go by while the first is still at it
        ("pool:2", [depth(1, 5, 9)], 10),
        ("pool:3", [depth(3, 5, 4, handlers_s=6)], 6),
        ("pool:1", [depth(3, 5, launch_s=1, join_s=2)], (1 + 3 + 5) + 2),  # the second has lined up at 2
    ],
)
def test_small_passes_take_what_is_computed_by_hand(
    strategy: str, depths: Sequence[DepthTimes[float]], seconds: float
) -> None:
    assert strategy_named(strategy).pass_s(depths, SECONDS) == seconds


@dataclass(frozen=True)
class Samples:
    """As little of an array as a strategy may ask for."""

    values: tuple[float, ...]

    def __add__(self, other: Self, /) -> "Samples":
        return Samples(tuple(a + b for a, b in zip(self.values, other.values, strict=True)))


COUNT = 5
SAMPLES: Arithmetic[Samples] = Arithmetic(
    Samples((0.0,) * COUNT),
    lambda values: reduce(lambda a, b: Samples(tuple(map(max, a.values, b.values))), values),
    lambda values: reduce(lambda a, b: Samples(tuple(map(min, a.values, b.values))), values),
)
whole_seconds = st.integers(0, 20).map(float)
samples = st.tuples(*[whole_seconds] * COUNT).map(Samples)
passes = st.lists(
    st.builds(DepthTimes, st.lists(samples, max_size=6).map(tuple), samples, samples, samples), max_size=4
)


@pytest.mark.parametrize("name", STRATEGIES)
@given(passes)
def test_over_samples_it_is_what_each_of_them_gives_alone(name: str, depths: list[DepthTimes[Samples]]) -> None:
    strategy = strategy_named(name)
    alone = [
        strategy.pass_s(
            [
                DepthTimes(
                    tuple(each.values[number] for each in depth.launches),
                    depth.handlers_s.values[number],
                    depth.launch_s.values[number],
                    depth.join_s.values[number],
                )
                for depth in depths
            ],
            SECONDS,
        )
        for number in range(COUNT)
    ]
    assert list(strategy.pass_s(depths, SAMPLES).values) == alone


def test_of_two_strategies_the_bolder_takes_no_longer_without_costs() -> None:
    depths = [depth(3, 5, 4, handlers_s=2), depth(4, 4), depth(handlers_s=3), depth(9, handlers_s=1)]
    taken = [
        strategy_named(each).pass_s(depths, SECONDS)
        for each in ("serial", "pool:1", "pool:2", "pool:64", "depths", "overlapping")
    ]
    assert taken == [35, 12 + 8 + 3 + 9, 7 + 4 + 3 + 9, 5 + 4 + 3 + 9, 5 + 4 + 3 + 9, 5 + 3 + 1]


COSTS = ["phases.launch_s=0.002", "phases.join_s=0.001"]


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=30)
@given(machines(), st.sampled_from([[], COSTS]))
def test_any_machine_takes_in_virtual_time_what_its_plan_says(name: str, scenario: Scenario, costs: list[str]) -> None:
    planned = override(scenario, [*costs, f"strategy={name}"])
    for each, seconds in (
        (planned, planned.plan().bounds.mechanism_s),
        (planned.serial(), planned.plan().bounds.serial_s),
    ):
        run = run_once(each, VirtualClock())
        assert run.completed
        assert run.report.switchover_s == pytest.approx(seconds, abs=1e-6, rel=0)


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("strategy", ["serial", "overlapping", "pool:2", "pool:4"])
def test_bundled_scenarios_do_too(name: str, strategy: str) -> None:
    scenario = load_scenario(name).with_strategy(strategy)
    run = run_once(scenario, VirtualClock(), record=False)
    assert run.completed
    assert run.report.switchover_s == pytest.approx(scenario.plan().bounds.mechanism_s, abs=1e-6, rel=0)
    assert scenario.plan().bounds.serial_s == load_scenario(name).plan().bounds.serial_s
