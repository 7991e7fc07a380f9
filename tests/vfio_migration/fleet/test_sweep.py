"""Sweeps: what values are meant, that each point is the prediction of its scenario, what is printed and drawn."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vfio_migration.cli.main import app
from vfio_migration.errors import ScenarioError
from vfio_migration.fleet import Asked, forecast_one, parse_vary, sweep
from vfio_migration.forecast import predict
from vfio_migration.scenarios import load_scenario, override

RUNNER = CliRunner()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=0.02:0.20:4", ("0.02", "0.08", "0.14", "0.2")),
        ("devices.vf=1:4", ("1", "2", "3", "4")),
        ("strategy=depths, overlapping", ("depths", "overlapping")),
        ("strategy=pool:4", ("pool:4",)),
        ("strategy=pool:2,pool:4", ("pool:2", "pool:4")),
        ("vf*.parallel=true,false", ("true", "false")),
        ("a.latency.STOP={ min = 0.1, max = 0.2 }", ("{ min = 0.1, max = 0.2 }",)),
        ("a.b=1:2:1", ("1",)),
    ],
)
def test_values_are_ranges_or_lists(text: str, values: tuple[str, ...]) -> None:
    assert parse_vary(text).values == values


@pytest.mark.parametrize("text", ["a.b", "=1", "a.b=", "a.b=4:1", "a.b=2:1:5"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match="expected"):
        parse_vary(text)


def test_each_point_is_the_prediction_of_its_scenario() -> None:
    host = load_scenario("host")
    varied = [parse_vary("vf*.latency.STOP_COPY=0.02:0.2:3"), parse_vary("vf*.parallel=true,false")]
    points = sweep(host, varied)
    assert len(points) == 6
    assert [each.values["vf*.parallel"] for each in points[:2]] == ["true", "false"]  # the last changes fastest
    for each in points:
        bounds = predict(override(host, [f"{key}={value}" for key, value in each.values.items()])).bounds
        assert (each.serial_s, each.mechanism_s, each.ideal_s) == (bounds.serial_s, bounds.mechanism_s, bounds.ideal_s)
        assert each.p99_s is None


def test_so_many_devices_are_fewer_of_them_or_more_like_the_last() -> None:
    vfs = load_scenario("vfs")
    points = sweep(vfs, [parse_vary("devices.vf=1:9")])  # with eight there never is a switchover
    one, four = points[0], points[3]
    assert four.serial_s == predict(vfs).bounds.serial_s
    assert one.serial_s < four.serial_s < points[6].serial_s < points[8].serial_s == math.inf
    steps = [later.serial_s - earlier.serial_s for earlier, later in pairwise(points[3:7])]
    assert steps == pytest.approx([steps[0]] * len(steps))
    for text in ("devices.nic=1:2", "devices.vf=0:1", "devices.vf=many"):
        with pytest.raises(ScenarioError, match="devices"):
            sweep(vfs, [parse_vary(text)])


def test_strategies_are_values_like_others() -> None:
    names = ("depths", "overlapping", "serial", "pool:1")
    by_name = {
        each.values["strategy"]: each
        for each in sweep(load_scenario("host"), [parse_vary("strategy=" + ",".join(names))])
    }
    assert by_name["overlapping"].mechanism_s < by_name["depths"].mechanism_s < by_name["serial"].mechanism_s
    assert by_name["overlapping"].mechanism_s == pytest.approx(by_name["overlapping"].ideal_s, rel=0.2)
    assert by_name["serial"].mechanism_s == pytest.approx(by_name["serial"].serial_s)


def test_where_latencies_vary_there_is_a_p99() -> None:
    varying = override(load_scenario("vfs"), ["vf*.latency.RUNNING_P2P->RUNNING={ min = 0.01, max = 0.1 }"])
    (point,) = sweep(varying, [parse_vary("vf0.parallel=true")], samples=300, seed=3)
    assert point.p99_s == forecast_one(varying, Asked(300, 3)).figures["mechanism"].p99


def test_too_many_combinations_are_refused() -> None:
    with pytest.raises(ScenarioError, match="100,000 at most"):
        sweep(load_scenario("vfs"), [parse_vary("devices.vf=1:500"), parse_vary("vf0.seed=1:500")])


def test_the_command_prints_draws_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    vary = ["--vary", "vf*.latency.STOP_COPY=0.02:0.20:10", "--vary", "strategy=depths,overlapping"]
    result = RUNNER.invoke(app, ["sweep", "host", *vary, "--plot", "sweep.svg", "--json", "sweep.json"])
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 22
    data = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    assert len(data["points"]) == 20
    assert data["points"][0]["values"] == {"vf*.latency.STOP_COPY": "0.02", "strategy": "depths"}
    assert "<svg" in (tmp_path / "sweep.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--vary", "a.b=1:2"], "nowhere"),
        (["host", "--vary", "a.b"], "expected KEY="),
        (["host", "--vary", "vf*.paralel=true"], "did you mean"),
        (["host", "--vary", "devices.vf=1:2", "--engine", "cloud"], "expected 'processes'"),
    ],
)
def test_what_cannot_be_swept_is_refused(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = RUNNER.invoke(app, ["sweep", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_picture_of_no_known_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    result = RUNNER.invoke(app, ["sweep", "host", "--vary", "devices.vf=1:2", "--plot", "sweep.doc"])
    assert result.exit_code == 2
    assert "sweep.doc" in result.stderr
