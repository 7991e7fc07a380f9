import pytest
from suite.machines import small

from vfio_migration.forecast.prediction import predict
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.runner import run_scenario
from vfio_migration.scenarios.without_link import without_link
from vmstate import VirtualClock


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["ram.size=1000"], "[ram]"),
        (["parameters.max_bandwidth=5"], "max_bandwidth"),
        (["ram.size=1000", "parameters.switchover_bandwidth=5"], "[ram], switchover_bandwidth"),
    ],
)
def test_what_has_no_effect_without_a_link_is_named(settings: list[str], named: str) -> None:
    scenario = override(small(), settings)
    note = f"no effect of {named}: sending takes no time without [link]"
    assert without_link(scenario) == (note,)
    assert note in predict(scenario).notes
    assert run_scenario(scenario, ("serial",), runs=1, make_clock=VirtualClock).notes == (note,)


@pytest.mark.parametrize("settings", [[], ["parameters.downtime_limit_s=1"], ["ram.size=1000", "link.bandwidth=1e6"]])
def test_where_all_has_an_effect_nothing_is_said(settings: list[str]) -> None:
    assert without_link(override(small(), settings)) == ()
