"""K2: the command, over a faked kernel: what it says and asks before, what it writes, what it leaves."""

import errno
import json
from pathlib import Path

import pytest
from suite.fake_kernel import FakeKernel, kernel_with
from typer.testing import CliRunner

from vfio_migration import DeviceState
from vfio_migration.cli import measure_command as module
from vfio_migration.cli.main import app
from vfio_migration.scenarios import load_scenario

RUNNER = CliRunner()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    kernel = kernel_with(4)
    monkeypatch.setattr(module, "system", lambda: kernel)
    return kernel


def names(kernel: FakeKernel) -> list[str]:
    return [each.name for each in kernel.devices]


def test_two_devices_into_two_others(kernel: FakeKernel, tmp_path: Path) -> None:
    first, second, third, fourth = names(kernel)
    figures, scenario = tmp_path / "figures.json", tmp_path / "measured.toml"
    written = ("--json", str(figures), "--scenario", str(scenario))
    to = ("--to", f"{third},{fourth}")
    result = RUNNER.invoke(app, ["measure", first, second, *to, "--runs", "2", "--yes", *written])
    assert result.exit_code == 0, result.output
    assert f"{first}: reset, stopped, its state read out and loaded into {third}" in result.stderr
    assert "PRE_COPY_P2P -> STOP_COPY" in result.stdout
    assert "lower bounds" in " ".join(result.stdout.split())
    data = json.loads(figures.read_text(encoding="utf-8"))
    assert set(data["devices"]) == {first, second}
    assert {mode: each["runs"] for mode, each in data["modes"].items()} == {"serial": 2, "per-change": 2, "parked": 2}
    assert [spec.id for spec in load_scenario(scenario).devices] == [first, second]
    assert kernel.open_descriptors == {}
    assert {each.state for each in kernel.devices} == {DeviceState.RUNNING}


def test_each_back_into_itself_in_one_mode(kernel: FakeKernel) -> None:
    result = RUNNER.invoke(
        app, ["measure", names(kernel)[0], "--runs", "1", "--mode", "parked", "--yes", "--json", "-"]
    )
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["itself"]
    assert list(data["modes"]) == ["parked"]
    assert "back into itself" in result.stderr
    assert kernel.devices[1].resets == 0


def test_nothing_is_touched_before_somebody_has_agreed(kernel: FakeKernel) -> None:
    result = RUNNER.invoke(app, ["measure", names(kernel)[0]])
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert [each.resets for each in kernel.devices] == [0] * 4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--to", "x,y"], "expected one for each"),
        (["--to", "nowhere"], "is no device"),
        (["--runs", "0"], "runs"),
    ],
)
def test_what_cannot_be_measured_is_refused(kernel: FakeKernel, more: list[str], said: str) -> None:
    result = RUNNER.invoke(app, ["measure", names(kernel)[0], "--yes", *more])
    assert result.exit_code == 2
    assert said in result.stderr
    assert kernel.open_descriptors == {}


def test_a_device_that_is_named_twice_is_refused(kernel: FakeKernel) -> None:
    name = names(kernel)[0]
    result = RUNNER.invoke(app, ["measure", name, "--to", name, "--yes"])
    assert result.exit_code == 2
    assert f"named twice: {name}" in result.stderr


def test_a_device_that_is_in_use_is_named(kernel: FakeKernel) -> None:
    first, second = names(kernel)[:2]
    kernel.refusals[f"/dev/vfio/{kernel.devices[1].group}"] = errno.EBUSY
    result = RUNNER.invoke(app, ["measure", first, second, "--yes"])
    assert result.exit_code == 2
    assert second in result.stderr
    assert "in use" in result.stderr
    assert kernel.open_descriptors == {}


def test_a_switchover_that_fails_is_said_and_leaves_nothing(kernel: FakeKernel) -> None:
    def failing(step: DeviceState) -> None:
        if step is DeviceState.STOP_COPY:
            raise OSError(errno.EIO, "broken")

    kernel.devices[0].before_arc = failing
    result = RUNNER.invoke(app, ["measure", names(kernel)[0], "--yes", "--runs", "3"])
    assert result.exit_code == 1
    assert "failed: serial, run 1" in result.stdout
    assert kernel.open_descriptors == {}
    assert kernel.devices[0].state is DeviceState.RUNNING


def test_a_ctrl_c_gives_the_devices_back(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure", interrupted)
    result = RUNNER.invoke(app, ["measure", names(kernel)[0], "--yes"])
    assert result.exit_code == 130
    assert kernel.open_descriptors == {}
    assert kernel.devices[0].resets >= 1
