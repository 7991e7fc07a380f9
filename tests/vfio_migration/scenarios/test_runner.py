import json
import signal
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite.bundled import SHORT
from suite.machines import small
from suite.scenarios import blackouts, machines

from vfio_migration import Migration, MigrationReport, MigrationStatus, MockDevice, migrate
from vfio_migration.errors import ScenarioError
from vfio_migration.forecast import predict
from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.runner import MOST_RECORDED, PARTS, ModeResult, Result, run_once, run_scenario
from vmstate import Machine, VirtualClock

MICROSECOND = 1e-6
bundled = pytest.mark.parametrize("name", SHORT)


def run(scenario: Scenario, *modes: str, runs: int = 1) -> Result:
    return run_scenario(scenario, modes or ("serial", "parallel"), runs=runs, make_clock=VirtualClock)


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=MICROSECOND, rel=0)


@bundled
def test_in_virtual_time_the_switchover_is_the_bound_to_the_microsecond(name: str) -> None:
    scenario = load_scenario(name)
    result = run(scenario)
    assert result.completed
    assert result.bounds == scenario.plan().bounds
    assert result.modes["serial"].median("switchover_s") == about(result.bounds.serial_s)
    assert result.modes["parallel"].median("switchover_s") == about(result.bounds.mechanism_s)
    assert result.efficiency == pytest.approx(1.0)
    assert result.speedup == pytest.approx(result.bounds.serial_s / result.bounds.mechanism_s)


@bundled
@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_each_part_of_the_switchover_is_what_its_passes_take(name: str, mode: str) -> None:
    scenario = load_scenario(name)
    plan = scenario.plan()
    taken = {"source": 0.0, "destination": 0.0}
    for each in plan.passes:
        taken[each.side] += each.serial_s if mode == "serial" else each.mechanism_s
    (once,) = run(scenario, mode).modes[mode].runs
    report = once.report
    # Before its passes the destination waits for what has come and is not loaded yet: in gpus and in mlx5.
    blackout = [(each.what, each.seconds) for each in predict(scenario).blackout if each.part == "destination_start_s"]
    loading = sum(seconds for what, seconds in blackout if what in {"still to be loaded", "config_load"})
    assert (loading > 0) == (name in {"gpus", "mlx5"})
    assert report.source_stop_s == about(taken["source"])
    assert report.transfer_s == about(plan.transfer_s)
    assert report.destination_start_s == about(taken["destination"] + loading)


@bundled
def test_the_stream_does_not_depend_on_how_states_were_changed(name: str) -> None:
    """G4."""
    result = run(load_scenario(name), runs=2)
    reports = [each.report for mode in result.modes.values() for each in mode.runs]
    assert len({(report.stream_sha256, report.bytes_sent) for report in reports}) == 1
    assert reports[0].bytes_sent > 0


@bundled
def test_two_runs_in_virtual_time_have_the_same_timeline(name: str) -> None:
    scenario = load_scenario(name)
    assert run_once(scenario, VirtualClock()).timeline == run_once(scenario, VirtualClock()).timeline


@settings(max_examples=40)
@given(machines())
def test_any_machine_reaches_its_bounds_in_virtual_time(scenario: Scenario) -> None:
    result = run(scenario)
    assert result.completed
    assert result.modes["serial"].median("switchover_s") == about(result.bounds.serial_s)
    assert result.modes["parallel"].median("switchover_s") == about(result.bounds.mechanism_s)


def test_modes_take_turns_and_each_run_is_told_of() -> None:
    ran: list[str] = []
    clocks: list[VirtualClock] = []

    def make_clock() -> VirtualClock:
        clocks.append(VirtualClock())
        return clocks[-1]

    result = run_scenario(small(), runs=2, make_clock=make_clock, on_run=lambda: ran.append("run"))
    assert [len(mode.runs) for mode in result.modes.values()] == [2, 2]
    assert len(ran) == len(clocks) == 4
    serial, parallel, *others = [clock.now() for clock in clocks]
    assert others == [serial, parallel]
    assert serial > parallel


def test_json_has_the_shape_that_the_design_fixes() -> None:
    """Section 5."""
    value = json.loads(json.dumps(run(small(), runs=2).as_json(), allow_nan=False))
    assert list(value) == ["scenario", "modes", "bounds", "speedup", "efficiency"]
    assert value["scenario"] == "small"
    assert list(value["modes"]) == ["serial", "parallel"]
    assert list(value["bounds"]) == ["serial_s", "mechanism_s", "ideal_s"]
    assert value["bounds"] == {"serial_s": about(0.1), "mechanism_s": about(0.05), "ideal_s": about(0.05)}
    assert (value["speedup"], value["efficiency"]) == (pytest.approx(2.0), pytest.approx(1.0))
    for name, seconds in (("serial", 0.1), ("parallel", 0.05)):
        mode = value["modes"][name]
        assert list(mode) == ["status", *PARTS, "runs"]
        assert PARTS == ("switchover_s", "source_stop_s", "transfer_s", "destination_start_s")
        assert mode["status"] == "completed"
        assert [mode[part] for part in PARTS] == [about(seconds), about(seconds * 0.4), about(0), about(seconds * 0.6)]
        assert len(mode["runs"]) == 2
        for each in mode["runs"]:
            assert (each["status"], each["error"], each["state_intact"]) == ("completed", None, True)
            assert each["switchover_s"] == about(seconds)


@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_with_one_mode_there_is_nothing_to_compare_it_with(mode: str) -> None:
    result = run(small(), mode)
    assert list(result.modes) == [mode]
    assert result.speedup is None
    assert (result.efficiency is None) is (mode == "serial")
    assert list(result.as_json()["modes"]) == [mode]


def failing(on_read: int) -> Callable[[MockDevice, int], bytes]:
    """Have that reading of all fail."""
    read = MockDevice.read
    reads = 0

    def broken(device: MockDevice, size: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads == on_read:
            raise OSError(5, "gone")
        return read(device, size)

    return broken


def test_a_failed_run_is_reported_and_does_not_spoil_the_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MockDevice, "read", failing(on_read=1))
    result = run(small(), runs=2)
    assert not result.completed
    serial, parallel = result.modes["serial"], result.modes["parallel"]
    assert (serial.status, parallel.status) == (MigrationStatus.FAILED, MigrationStatus.COMPLETED)
    assert serial.median("switchover_s") == about(0.1)
    assert serial.typical is serial.runs[1]
    value = result.as_json()["modes"]["serial"]
    assert (value["status"], value["runs"][0]["status"], value["runs"][0]["error"]) == (
        "failed",
        "failed",
        "[Errno 5] device 'vf0', pre-copy in machine 'source': gone",
    )
    assert value["runs"][0]["switchover_s"] is None


def test_where_no_run_reached_the_switchover_there_are_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: MockDevice, size: int) -> bytes:
        raise OSError(5, "gone")

    monkeypatch.setattr(MockDevice, "read", broken)
    result = run(small())
    assert (result.speedup, result.efficiency, result.completed) == (None, None, False)
    assert {result.as_json()["modes"][mode][part] for mode in result.modes for part in PARTS} == {None}
    assert result.modes["serial"].typical is result.modes["serial"].runs[0]


def test_the_typical_run_is_the_one_nearest_to_the_median() -> None:
    (once,) = run(small(), "serial").modes["serial"].runs
    runs = tuple(replace(once, report=replace(once.report, source_stop_s=seconds)) for seconds in (9.0, 1.0, 2.0, 7.0))
    failed = replace(once, report=replace(once.report, source_stop_s=None))
    mode = ModeResult((failed, *runs))
    others = 0.06
    assert mode.median("switchover_s") == about((2.0 + 7.0) / 2 + others)
    assert mode.median("source_stop_s") == about(4.5)
    assert ModeResult((failed, *runs[:3])).typical is runs[2]


def test_state_that_is_not_the_source_s_is_no_completed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MockDevice, "state_hash", property(id))
    result = run(small())
    assert not result.completed
    assert result.modes["serial"].status is MigrationStatus.COMPLETED
    assert [each["state_intact"] for each in result.as_json()["modes"]["serial"]["runs"]] == [False]


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("at", "status"), [("pre-switchover", "cancelled"), ("completed", "completed")])
def test_ctrl_c_ends_the_runs_whether_or_not_it_came_in_time_to_cancel(
    monkeypatch: pytest.MonkeyPatch, at: str, status: str
) -> None:
    ran: list[MigrationReport] = []

    def interrupt(migration: Migration, reached: MigrationStatus) -> None:
        if reached == at:
            ident = threading.main_thread().ident
            assert ident is not None
            signal.pthread_kill(ident, signal.SIGINT)

    def interrupted(source: Machine, destination: Machine, **options: object) -> MigrationReport:
        # Where it is to be cancelled it waits for that, however late the signal is heard.
        pause = at == MigrationStatus.PRE_SWITCHOVER
        ran.append(migrate(source, destination, pause_before_switchover=pause, on_status=interrupt))
        return ran[-1]

    monkeypatch.setattr("vfio_migration.scenarios.runner.migrate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(small(), runs=3)
    assert [(report.status, report.interrupted) for report in ran] == [(status, True)]


@pytest.mark.slow
def test_of_many_runs_figures_are_kept_and_of_the_typical_one_the_events() -> None:
    result = run_scenario(load_scenario("vfs"), ("parallel",), runs=20, make_clock=VirtualClock)
    mode = result.modes["parallel"]
    assert len(mode.runs) == 20
    assert sum(run.recorded for run in mode.runs) == sum(bool(run.events) for run in mode.runs) == MOST_RECORDED
    assert mode.typical.events
    assert mode.typical.report.switchover_s == mode.median("switchover_s")


@settings(max_examples=60)
@given(blackouts(), st.booleans())
def test_in_virtual_time_a_run_takes_what_is_predicted(scenario: Scenario, parallel: bool) -> None:
    """B0 to B7, by two pieces of code that share nothing: the plan works it out, the machines wait for it."""
    scenario = scenario if parallel else scenario.serial()
    prediction = predict(scenario)
    if prediction.never:
        with pytest.raises(ScenarioError, match="would never begin"):
            run(scenario, "parallel")
        return
    report = run_once(scenario, VirtualClock()).report
    assert report.completed
    near = pytest.approx
    within = 1e-3 if scenario.surroundings.ram is not None else 2e-6
    assert report.source_stop_s == near(prediction.source_stop_s, abs=2e-6, rel=0)
    assert report.transfer_s == near(prediction.transfer_s, abs=within, rel=0)
    assert report.destination_start_s == near(prediction.destination_start_s, abs=within, rel=0)
    assert report.blackout_s == near(prediction.switchover_s, abs=within, rel=0)
