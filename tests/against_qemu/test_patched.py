"""
What a real QEMU with the patch took with its property on, forecast from what it took with it off.

Logs and ninety runs are in tests/data/qemu-vfio. What launching and joining cost comes from one log (four devices, one
depth, 100 ms an arc); everything else is forecast with that.
"""

import pytest
from suite import ROOT
from suite.patched_runs import (
    FOLDER,
    Configuration,
    PassTimes,
    forecast,
    passes_of,
    row_of_costs,
    rows_of_the_page,
    taken,
)

from vfio_migration.importing import ImportedScenario, import_logs
from vfio_migration.live import Phases
from vfio_migration.scenarios import override
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock

PASSES = ("stop_prepare_ms", "stop_main_ms", "start_prepare_ms", "start_main_ms")
SIDES = ("stop_ms", "dst_ms")
ON, OFF = taken("on"), taken("off")
# By how much a forecast may miss one side and one pass: eight threads share two CPUs, and medians are of three runs.
MISSES = {(4, 100): (0.02, 0.05), (8, 100): (0.15, 0.15), (4, 20): (0.06, 0.19), (8, 20): (0.12, 0.17)}
SLOW = [each for each in OFF if (each.devices, each.step_ms) in MISSES]
# What the page calls each log with the property on, and how many devices a stage of it has.
STAGES = {
    "on-a": ("4, 20, a", 4),
    "on-b": ("4, 20, b", 2),
    "parallel-virtio": ("4, 20, b, virtio beside", 2),
    "threads-on": ("4, 100, a", 4),
    "parallel-8": ("8, 100, a (the slowest of three)", 8),
}


def imported(name: str) -> ImportedScenario:
    tree = "on-a" if name == "threads-on" else name
    return import_logs(FOLDER / f"{name}-src.log", FOLDER / f"{name}-dst.log", FOLDER / f"{tree}-qtree.txt")


def costs_of(name: str) -> Phases:
    found = imported(name).scenario.phases
    return Phases(launch_s=found.launch_s, join_s=found.join_s)


@pytest.fixture(scope="module")
def costs() -> Phases:
    return costs_of("threads-on")


def misses(forecasts: PassTimes, took: PassTimes, names: tuple[str, ...]) -> dict[str, float]:
    return {name: getattr(forecasts, name) / getattr(took, name) - 1 for name in names}


@pytest.mark.parametrize("name", STAGES)
def test_costs_are_found_in_every_log_with_the_property_on(name: str) -> None:
    found = costs_of(name)
    assert 0.0003 <= found.launch_s + found.join_s <= 0.006
    assert found.launch_s > 0


@pytest.mark.parametrize("configuration", SLOW, ids=str)
def test_each_side_and_each_pass_is_forecast_from_runs_with_the_property_off(
    configuration: Configuration, costs: Phases
) -> None:
    forecasts = forecast(configuration, OFF[configuration], costs)
    of_sides, of_passes = MISSES[configuration.devices, configuration.step_ms]
    for names, most in ((SIDES, of_sides), (PASSES, of_passes)):
        found = misses(forecasts, ON[configuration], names)
        assert {name: miss for name, miss in found.items() if abs(miss) > most} == {}


@pytest.mark.parametrize("configuration", [each for each in SLOW if each.step_ms == 20], ids=str)
def test_at_20_ms_a_forecast_without_these_costs_is_short(configuration: Configuration) -> None:
    found = misses(forecast(configuration, OFF[configuration], Phases()), ON[configuration], SIDES)
    assert all(-0.23 <= miss <= -0.07 for miss in found.values()), found


@pytest.mark.parametrize(("off", "configuration"), [("off-a", (4, 20, "a")), ("serial-10.2", (4, 20, "b"))])
def test_a_log_with_the_property_off_forecasts_the_runs_with_it_on(
    off: str, configuration: tuple[int, int, str], costs: Phases
) -> None:
    set_ = [f"phases.launch_s={costs.launch_s}", f"phases.join_s={costs.join_s}"]
    took = ON[Configuration(*configuration)]
    forecasts = passes_of(override(imported(off).scenario, set_).plan())
    for name in ("stop_ms", "dst_ms"):
        assert getattr(forecasts, name) == pytest.approx(getattr(took, name), rel=0.06), name


def test_the_log_of_a_machine_with_virtio_devices_forecasts_its_own_other_log() -> None:
    found = costs_of("parallel-virtio")
    set_ = [f"phases.launch_s={found.launch_s}", f"phases.join_s={found.join_s}"]
    forecasts = passes_of(override(imported("virtio-off").scenario, set_).plan())
    took = passes_of(imported("parallel-virtio").scenario.plan())
    for name in (*SIDES, *PASSES):
        assert getattr(forecasts, name) == pytest.approx(getattr(took, name), rel=0.05), name


@pytest.mark.parametrize("name", STAGES)
def test_a_run_of_the_imported_machine_takes_what_the_real_one_took(name: str) -> None:
    scenario = imported(name).scenario
    run = run_once(scenario, VirtualClock())
    plan = scenario.plan()
    assert run.report.switchover_s == pytest.approx(plan.bounds.mechanism_s, abs=1e-5)
    assert run.report.source_stop_s == pytest.approx(plan.source_stop_s, abs=1e-5)


def test_the_page_shows_these_figures(costs: Phases) -> None:
    page = (ROOT / "docs" / "patched-qemu.md").read_text(encoding="utf-8")
    assert f"`launch_s` {costs.launch_s * 1000:.2f} ms, `join_s` {costs.join_s * 1000:.2f} ms" in page
    rows = [
        *rows_of_the_page(costs),
        *(row_of_costs(what, costs_of(log), each) for log, (what, each) in STAGES.items()),
    ]
    assert [row for row in rows if row not in page] == []
