"""Two scenarios held against each other: what differs is what was changed, and by how much."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vfio_migration.cli.main import app
from vfio_migration.forecast import compare, predict
from vfio_migration.scenarios import load_scenario, override

RUNNER = CliRunner()


def test_a_scenario_is_the_same_as_itself() -> None:
    host = predict(load_scenario("host"))
    found = compare(host, host)
    assert found.same
    assert found.devices == ()
    assert [each.what for each in found.whole] == [
        "serial_s", "mechanism_s", "ideal_s", "source_stop_s", "transfer_s", "destination_start_s",
    ]  # fmt: skip


def test_what_was_changed_is_what_differs() -> None:
    host = load_scenario("host")
    slower = override(host, ["vf0.latency.PRE_COPY_P2P->STOP_COPY=0.5"])
    before = host.devices[[spec.id for spec in host.devices].index("vf0")]
    found = compare(predict(host), predict(slower))
    (only,) = found.devices
    assert only.what == "vf0, source main"
    assert only.second_s == 0.5
    assert only.longer_s == pytest.approx(0.5 - (only.first_s or 0))
    assert only.first_s in before.latency.values()
    whole = {each.what: each for each in found.whole}
    assert whole["serial_s"].longer_s == pytest.approx(only.longer_s)
    assert whole["destination_start_s"].longer_s == 0


def test_a_device_that_only_one_has_takes_no_time_in_the_other() -> None:
    found = compare(predict(load_scenario("vfs")), predict(load_scenario("mixed")))
    lacking = [each for each in found.devices if each.first_s is None or each.second_s is None]
    assert lacking
    assert all(each.longer_s == (each.second_s or 0) - (each.first_s or 0) for each in lacking)


def test_what_never_is_is_said_so() -> None:
    mlx5 = load_scenario("mlx5")
    found = compare(predict(mlx5), predict(override(mlx5, ["ram.dirty_rate=1e12"])))
    data = found.as_json()
    assert not data["same"]
    assert data["whole"][0]["second_s"] is None
    assert json.dumps(data)


def test_the_command_holds_two_files_or_one_and_a_change_against_each_other(tmp_path: Path) -> None:
    with_change = RUNNER.invoke(app, ["compare", "host", "--set", "vf*.parallel=false", "--json", "-"])
    assert with_change.exit_code == 0
    data = json.loads(with_change.stdout)
    assert not data["same"]
    assert (data["first"], data["second"]) == ("host", "host, as set")
    two = RUNNER.invoke(app, ["compare", "vfs", "mixed"])
    assert two.exit_code == 0
    assert "vfs" in two.stdout
    assert "mechanism_s" in two.stdout
    same = RUNNER.invoke(app, ["compare", "vfs", "vfs"])
    assert "nothing differs" in same.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["host"], "expected another scenario"),
        (["host", "nowhere"], "nowhere"),
        (["host", "--set", "x"], "expected PATTERN"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments: list[str], said: str) -> None:
    result = RUNNER.invoke(app, ["compare", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr
