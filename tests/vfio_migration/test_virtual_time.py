"""Whole migrations in virtual time: always the same, and as long as the plan says."""

import hashlib

import pytest
from suite.bundled import BUNDLED
from suite.machines import SERIAL

from vfio_migration import migrate
from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.runner import run_scenario
from vmstate import Recorder, VirtualClock


def recorded(scenario: Scenario) -> str:
    """Migrate once and give everything that was traced: times, machines, threads, names, fields."""
    clock, recorder = VirtualClock(), Recorder()
    source = scenario.build("source", clock=clock, trace=recorder)
    destination = scenario.build("destination", clock=clock, trace=recorder, destination=True)
    source.machine.start()
    assert migrate(source.machine, destination.machine).completed
    for each in (source, destination):
        each.close()
    return "\n".join(map(str, recorder.events))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "runs"),
    [
        ("per-change", 20),
        ("parked", 10),
        (SERIAL, 5),
        pytest.param("per-change", 100, marks=pytest.mark.slow),
    ],
)
def test_all_runs_of_the_host_record_the_same_byte_for_byte(mode: str, runs: int) -> None:
    scenario = load_scenario("host")
    scenario = scenario.serial() if mode == SERIAL else scenario.with_threads(mode)
    first = recorded(scenario)
    assert first.count("\n") > 500
    digests = {hashlib.sha256(recorded(scenario).encode()).hexdigest() for _ in range(runs - 1)}
    assert digests == {hashlib.sha256(first.encode()).hexdigest()}


@pytest.mark.parametrize("name", BUNDLED)
def test_the_switchover_is_exactly_the_sum_that_the_plan_gives(name: str) -> None:
    scenario = load_scenario(name)
    result = run_scenario(scenario, runs=1, make_clock=VirtualClock)
    assert result.completed
    serial, parallel = (result.modes[mode].median("switchover_s") for mode in ("serial", "parallel"))
    assert serial == pytest.approx(result.bounds.serial_s, abs=1e-6, rel=0)
    assert parallel == pytest.approx(result.bounds.mechanism_s, abs=1e-6, rel=0)
