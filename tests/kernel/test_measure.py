"""K2: `vfio-switchover measure` of real devices, end to end."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suite.mtty import Delaying, S, bring, got, group_of, put, saved

from vfio_migration.kernel import KernelDevice
from vfio_migration.measuring import MODES, Subject, measure, measured_scenario
from vfio_migration.scenarios.file import load_scenario
from vfio_migration.testing import SWITCHOVER_ARCS

RUNS = 3
DELAY_S = 0.02


def measured(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = "from vfio_migration.cli.main import app; app()"
    return subprocess.run(
        [sys.executable, "-c", command, "measure", *arguments],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def arcs_of(device: dict[str, Any], mode: str) -> set[str]:
    return {what for what, by_mode in device["times"].items() if by_mode.get(mode) is not None and " -> " in what}


@pytest.mark.parametrize("itself", [False, True])
def test_all_figures_are_there_and_a_scenario(itself: bool, uuids: Callable[[], str], tmp_path: Path) -> None:
    names, targets = [uuids(), uuids()], [uuids(), uuids()]
    json_file, scenario_file = tmp_path / "figures.json", tmp_path / "measured.toml"
    options = [] if itself else ["--to", ",".join(targets)]
    options += ["--runs", str(RUNS), "--yes", "--json", str(json_file), "--scenario", str(scenario_file)]
    ended = measured(*names, *options)
    assert ended.returncode == 0, ended.stderr
    for name in names:
        assert name in ended.stderr  # what will be done to which devices
    figures = json.loads(json_file.read_text())
    assert (figures["itself"], figures["failures"]) == (itself, [])
    assert list(figures["devices"]) == names
    assert list(figures["modes"]) == list(MODES)
    for mode, parts in figures["modes"].items():
        assert parts["runs"] == RUNS
        for device in figures["devices"].values():
            assert set(SWITCHOVER_ARCS) <= arcs_of(device, mode)
    load_scenario(scenario_file).plan()


@pytest.mark.parametrize("itself", [False, True])
def test_the_scenario_predicts_what_was_measured(itself: bool, opened: Callable[..., KernelDevice]) -> None:
    # Devices that take a while: mtty's own arcs take microseconds, beside which the measuring itself is long.
    def made() -> Delaying:
        return Delaying(opened(), DELAY_S)

    subjects = [Subject(f"vf{number}", made(), None if itself else made()) for number in range(2)]
    measurement = measure(subjects, runs=RUNS)
    assert measurement.failures == ()
    found = measured_scenario(measurement, "real")
    assert found is not None
    assert list(found.predicted) == list(MODES)
    for mode, predicted in found.predicted.items():
        took = measurement.part(mode, "switchover_s")
        assert took is not None
        sys.stdout.write(f"itself={itself}, {mode}: {took}, predicted {predicted}\n")
        assert predicted == pytest.approx(took.median, rel=0.05)


def test_the_devices_are_as_new_afterwards(uuids: Callable[[], str]) -> None:
    names = [uuids(), uuids()]
    ended = measured(names[0], "--to", names[1], "--runs", "1", "--yes", "--mode", "parked", "--json", "-")
    assert ended.returncode == 0, ended.stderr
    assert list(json.loads(ended.stdout)["modes"]) == ["parked"]
    for name in names:
        with KernelDevice(name) as device:
            assert device.state is S.RUNNING
            assert saved(device)


def test_nothing_is_touched_unless_somebody_agrees(uuids: Callable[[], str]) -> None:
    name = uuids()
    with KernelDevice(name) as device:
        put(device, b"content")
    ended = measured(name)
    assert ended.returncode == 2
    assert "--yes" in ended.stderr
    with KernelDevice(name) as device:
        assert got(device, 7) == b"content"


def test_a_device_that_is_in_use_is_named_and_left_alone(uuids: Callable[[], str]) -> None:
    free, used = uuids(), uuids()
    with KernelDevice(used) as device:
        bring(device, S.STOP)
        ended = measured(free, used, "--runs", "1", "--yes")
        assert ended.returncode == 2
        assert used in ended.stderr.replace("\n", "")
        assert "in use elsewhere" in ended.stderr
        assert device.state is S.STOP
    assert Path(group_of(used)).exists()
    for name in (free, used):
        KernelDevice(name).close()  # nobody has it
