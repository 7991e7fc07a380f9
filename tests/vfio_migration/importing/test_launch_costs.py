"""What launching and joining cost, found again in the logs of runs in which it is known."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from suite.qemu_logs import HOST_QTREE, logs_of_run, source_log

from vfio_migration.importing import ImportedScenario, import_logs
from vfio_migration.live import Phases
from vfio_migration.recorded.qemu_log import QEMU_FORMATS
from vfio_migration.scenarios import Scenario, load_scenario, override

COSTS = Phases(launch_s=0.0004, join_s=0.0009)


def imported(scenario: Scenario, folder: Path, *, as_qemu: bool = False) -> ImportedScenario:
    files = logs_of_run(scenario, folder)
    for file in files if as_qemu else ():
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(line for line in lines if line.split()[1] in QEMU_FORMATS), encoding="utf-8")
    return import_logs(*files, HOST_QTREE if scenario.name == "host" else None)


@pytest.mark.parametrize("costs", [COSTS, Phases(launch_s=0.0009, join_s=0.0004), Phases(join_s=0.001), Phases()])
@pytest.mark.parametrize("name", ["host", "vfs"])
def test_they_are_found_in_a_log_that_says_what_handlers_took(name: str, costs: Phases, tmp_path: Path) -> None:
    scenario = replace(load_scenario(name), phases=costs)
    log = imported(scenario, tmp_path)
    found = log.scenario.phases
    assert (found.launch_s, found.join_s) == pytest.approx((costs.launch_s, costs.join_s), abs=5e-6)
    assert any("launch_s and join_s of [phases]: a guess" in note for note in log.notes) == (costs != Phases())
    assert log.scenario.plan().bounds.mechanism_s == pytest.approx(scenario.plan().bounds.mechanism_s, abs=5e-5)


def test_they_are_found_in_a_log_as_qemu_writes_it(tmp_path: Path) -> None:
    scenario = replace(load_scenario("vfs"), phases=COSTS)
    log = imported(scenario, tmp_path, as_qemu=True)
    found = log.scenario.phases
    assert (found.launch_s, found.join_s) == pytest.approx((COSTS.launch_s, COSTS.join_s), abs=5e-6)
    # However they are split, each side is as long as it was.
    plan, expected = log.scenario.plan(), scenario.plan()
    assert plan.source_stop_s == pytest.approx(expected.source_stop_s, abs=5e-5)
    assert plan.destination_start_s == pytest.approx(expected.destination_start_s, abs=5e-5)


def test_a_log_of_changes_in_turn_has_none(tmp_path: Path) -> None:
    found = imported(replace(load_scenario("vfs"), phases=COSTS).serial(), tmp_path).scenario.phases
    assert (found.launch_s, found.join_s) == (0.0, 0.0)


def test_devices_that_change_in_turn_beside_others_are_told(tmp_path: Path) -> None:
    off = {"vf1", "vf2", "gpu0", "gpu3"}
    scenario = override(replace(load_scenario("host"), phases=COSTS), [f"{name}.parallel=false" for name in off])
    log = imported(scenario, tmp_path)
    assert {spec.id for spec in log.scenario.devices if not spec.entry.parallel} == off
    assert log.scenario.plan().bounds.mechanism_s == pytest.approx(scenario.plan().bounds.mechanism_s, rel=0.01)
    assert any("change in turn, beside others that do not" in note for note in log.notes)


@pytest.mark.parametrize("values", [("true", "true"), ("true", "false"), ("false", "false")])
def test_a_tree_that_says_how_the_property_was_set_is_believed(values: tuple[str, str], tmp_path: Path) -> None:
    tree = tmp_path / "tree.txt"
    tree.write_text(
        "bus: main-system-bus\n"
        + "".join(
            f'  dev: vfio-pci, id "vf{number}"\n    x-migration-parallel-states = {value}\n'
            for number, value in enumerate(values)
        ),
        encoding="utf-8",
    )
    log = import_logs(source_log({"vf0": (1, 20, 3), "vf1": (1, 20, 3)}).write(tmp_path / "src.log"), qtree=tree)
    # With both off, what parallel changes would make of it is the question.
    assert [spec.entry.parallel for spec in log.scenario.devices] == [True, "true" not in values or values[1] == "true"]
    assert any("the tree says that parallel changes were on" in note for note in log.notes) == ("true" in values)
    assert any("--set '*.parallel=false'" in note for note in log.notes) == ("true" not in values)


def test_what_a_thread_that_is_alone_at_its_depth_costs_is_all_in_its_join(tmp_path: Path) -> None:
    tree = tmp_path / "tree.txt"
    tree.write_text(
        'bus: main-system-bus\n  dev: vfio-pci, id "vf0"\n    x-migration-parallel-states = true\n', encoding="utf-8"
    )
    log = source_log({"vf0": (10, 20, 3)})
    main = next(place for place, line in enumerate(log.lines) if "new state STOP_COPY" in line)
    log.lines[main:] = [later(line, 4) for line in log.lines[main:]]
    found = import_logs(log.write(tmp_path / "src.log"), qtree=tree)
    phases = found.scenario.phases
    assert (phases.launch_s, phases.join_s, phases.flush_block_s) == pytest.approx((0.0, 0.002, 0.0), abs=1e-6)
    # Both stages cost as much, and the side is as long as it was: 30 ms of arcs, 4 between them.
    assert found.scenario.plan().source_stop_s == pytest.approx(0.034, abs=1e-6)
    assert any("no two devices changed at the same depth" in note for note in found.notes)


def later(line: str, ms: float) -> str:
    time, _, event = line.partition(" ")
    return f"{datetime.fromisoformat(time) + timedelta(milliseconds=ms):%Y-%m-%dT%H:%M:%S.%f}Z {event}"
