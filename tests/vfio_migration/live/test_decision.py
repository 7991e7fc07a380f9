"""What a source knows of its bandwidth."""

import math

import pytest

from vfio_migration.errors import ScenarioError
from vfio_migration.forecast.prediction import predict
from vfio_migration.live.decision import Decision
from vfio_migration.live.parameters import Link, MigrationParameters
from vfio_migration.live.wire import Wire
from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.runner import run_once, run_scenario
from vmstate import VirtualClock


def decision_after(bandwidth: float, sent: int) -> Decision:
    """Give what is known after a first window in which so much was sent."""
    clock = VirtualClock()
    wire = Wire(clock, Link(bandwidth))
    decision = Decision(clock, wire)
    wire.carry(sent)
    decision.iterated(sent)
    decision.iterated(0)  # which waits until the window ends
    return decision


def test_what_was_carried_in_no_time_was_carried_infinitely_fast() -> None:
    decision = decision_after(1e30, 1000)
    assert decision.measured == math.inf
    assert decision.threshold(MigrationParameters(downtime_limit_s=0.3)) == math.inf
    assert decision.threshold(MigrationParameters(downtime_limit_s=0.0)) == 0.0


def test_what_took_time_is_measured_while_the_link_was_busy_and_nothing_says_nothing() -> None:
    assert decision_after(1e6, 1000).measured == 1e6
    assert decision_after(1e6, 0).measured is None


@pytest.mark.parametrize("settings", [[], ["ram.size=1000000000", "ram.dirty_rate=1e6"]])
def test_a_link_that_takes_no_time_is_planned_as_it_runs_and_costs_nothing(settings: list[str]) -> None:
    scenario = override(load_scenario("mixed"), ["link.bandwidth=1e30", *settings])
    prediction = predict(scenario)
    assert not prediction.never
    assert prediction.switchover_s == pytest.approx(predict(load_scenario("mixed")).switchover_s)
    report = run_once(scenario, VirtualClock()).report
    assert report.switchover_s == pytest.approx(prediction.switchover_s, abs=2e-6)


def test_a_limit_of_nothing_is_never_met_however_fast_the_link_is() -> None:
    scenario = override(load_scenario("host"), ["link.bandwidth=1e30", "parameters.downtime_limit_s=0"])
    assert "bytes to send once they are stopped" in predict(scenario).never
    with pytest.raises(ScenarioError, match="would never begin: the devices have"):
        run_scenario(scenario, ("serial",), runs=1, make_clock=VirtualClock)
