"""The fixed costs of a switchover: rule B7. What is planned is what a run takes, wherever they lie."""

from pathlib import Path

import pytest

from vfio_migration.errors import ScenarioError
from vfio_migration.scenarios.file import parse_scenario
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock

TEXT = """
[tree]
devices = [{ bus = "main-system-bus", ids = "vf{0..1}" }]
[[vfio]]
devices = "*"
latency = { default = 0.010 }
[phases]
pause_vcpus_s = 0.001
flush_block_s = 0.002
final_query_s = 0.004
other_state_s = "8 ms"
load_state_s = 0.016
activate_block_s = 0.032
"""


def test_phases_belong_to_the_parts_that_they_are_in() -> None:
    scenario = parse_scenario(TEXT, Path("x.toml"))
    plan, report = scenario.plan(), run_once(scenario, VirtualClock()).report
    assert plan.source_stop_s == pytest.approx(0.023)
    assert plan.transfer_s == pytest.approx(0.012)
    assert plan.destination_start_s == pytest.approx(0.078)
    assert plan.bounds.serial_s - plan.bounds.mechanism_s == pytest.approx(0.050)
    assert (report.source_stop_s, report.transfer_s, report.destination_start_s) == pytest.approx(
        (plan.source_stop_s, plan.transfer_s, plan.destination_start_s)
    )


def test_only_a_switchover_waits_for_them() -> None:
    scenario = parse_scenario(TEXT, Path("x.toml"))
    clock = VirtualClock()
    built = scenario.build("source", clock=clock)
    built.machine.start()
    built.machine.stop()
    assert clock.now() == pytest.approx(0.040e9)  # two arcs there and two back
    built.close()


def test_a_phase_in_the_past_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"phases\.load_state_s: expected seconds"):
        parse_scenario(TEXT.replace("0.016", "-1"), Path("x.toml"))
