import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from suite.machines import SMALL
from typer.testing import CliRunner, Result

from vfio_migration import MockDevice
from vfio_migration.changes.launchers import THREADS, Launcher, make_launcher
from vfio_migration.cli.main import app
from vfio_migration.scenarios.file import load_scenario
from vmstate import Clock


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    file = tmp_path / "small.toml"
    file.write_text(SMALL, encoding="utf-8")
    return str(file)


def figures(text: str) -> dict[str, Any]:
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


def test_version_is_the_package_s() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"vfio-switchover {version('vfio-switchover')}\n")


def test_without_a_command_there_is_help() -> None:
    result = invoke()
    assert "run" in result.output
    assert "scenarios" in result.output


def test_scenarios_lists_the_bundled_ones_with_what_they_are() -> None:
    result = invoke("scenarios")
    assert result.exit_code == 0
    # A description that is too long for the line goes on below, indented.
    listed = ["gpus", "host", "mixed", "mlx5", "vfs"]
    assert re.findall(r"^(\w+) +\w+", result.stdout, flags=re.MULTILINE) == listed
    for name, words in (
        ("gpus", "four vGPUs"),
        ("host", "a QEMU 11.1 host"),
        ("mixed", "VFs and GPUs at two depths"),
        ("mlx5", "four mlx5 VFs"),
        ("vfs", "four VFs"),
    ):
        assert re.search(rf"^{name} +{words}", result.stdout, flags=re.MULTILINE)


def test_run_shows_both_modes_and_the_bounds() -> None:
    result = invoke("run", "vfs", "--virtual", "--runs", "1")
    assert result.exit_code == 0
    # Arcs of 30 + 80 and 105 + 35 ms, four times or once. Between them 40 MB of each VF, read in 10.0 ms and sent in
    # 12.8: 91.2; and 4.8 ms of what pre-copy left, of the VFs and of memory.
    for words in ("vfs, serial: switchover 1,096.0 ms", "vfs, parallel: switchover 346.0 ms", "mechanism_s", "3.17 x"):
        assert words in result.stdout
    assert result.stderr == ""


def test_run_takes_the_host_unless_told_otherwise() -> None:
    result = invoke("run", "--virtual", "--runs", "1")
    assert result.exit_code == 0
    assert "host: medians of 1 run(s)" in result.stdout


def test_run_makes_three_migrations_in_each_mode_unless_told_otherwise(scenario: str) -> None:
    value = figures(invoke("run", scenario, "--virtual", "--json", "-").stdout)
    assert {mode: len(each["runs"]) for mode, each in value["modes"].items()} == {"serial": 3, "parallel": 3}


@pytest.mark.parametrize(
    ("mode", "modes"), [("serial", ["serial"]), ("parallel", ["parallel"]), ("both", ["serial", "parallel"])]
)
def test_mode_says_which_way_to_run(scenario: str, mode: str, modes: list[str]) -> None:
    result = invoke("run", scenario, "--virtual", "--mode", mode, "--runs", "2", "--json", "-")
    assert result.exit_code == 0
    value = figures(result.stdout)
    assert [(name, len(each["runs"])) for name, each in value["modes"].items()] == [(name, 2) for name in modes]


@pytest.mark.parametrize("written", THREADS)
@pytest.mark.parametrize("asked", [None, *THREADS])
def test_threads_come_about_as_the_option_says_or_else_as_the_scenario(
    scenario: str, monkeypatch: pytest.MonkeyPatch, written: str, asked: str | None
) -> None:
    made: list[str] = []

    def note(threads: str, clock: Clock, device: str) -> Launcher:
        made.append(threads)
        return make_launcher(threads, clock, device)

    monkeypatch.setattr("vfio_migration.registered.make_launcher", note)
    with Path(scenario).open("a", encoding="utf-8") as file:
        file.write(f'threads = "{written}"\n')
    option = [] if asked is None else ["--threads", asked]
    assert invoke("run", scenario, "--virtual", "--runs", "1", "--mode", "parallel", *option).exit_code == 0
    assert made == [asked or written] * 4  # two devices on each side


def test_without_virtual_the_clock_is_the_real_one(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("vmstate.clocks.clock.time.sleep", slept.append)
    assert invoke("run", scenario, "--runs", "1", "--mode", "serial").exit_code == 0
    assert slept
    slept.clear()
    assert invoke("run", scenario, "--runs", "1", "--mode", "serial", "--virtual").exit_code == 0
    assert slept == []


def test_json_goes_to_a_file_and_the_picture_to_standard_output(scenario: str, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    result = invoke("run", scenario, "--virtual", "--runs", "1", "--json", str(file))
    assert result.exit_code == 0
    assert "switchover" in result.stdout
    value = figures(file.read_text(encoding="utf-8"))
    assert value["scenario"] == "small"
    assert value["modes"]["parallel"]["switchover_s"] == pytest.approx(0.05)


def test_with_json_on_standard_output_nothing_else_is_there(scenario: str) -> None:
    result = invoke("run", scenario, "--virtual", "--runs", "1", "--json", "-")
    assert result.exit_code == 0
    assert figures(result.stdout)["scenario"] == "small"
    assert "small, serial: switchover" in result.stderr


def test_a_file_that_cannot_be_written_is_an_error_with_its_name(scenario: str, tmp_path: Path) -> None:
    result = invoke("run", scenario, "--virtual", "--runs", "1", "--json", str(tmp_path / "no" / "out.json"))
    assert result.exit_code == 2
    assert "out.json" in result.stderr
    assert "No such file" in result.stderr


@pytest.mark.parametrize("option", ["--json", "--trace", "--html"])
def test_standard_output_is_for_one_output_only(scenario: str, option: str) -> None:
    result = invoke("run", scenario, "--virtual", "--runs", "1", option, "-")
    assert result.exit_code == 0
    assert "switchover" in result.stderr
    assert result.stdout.lstrip()[0] in "{<"
    other = "--html" if option == "--json" else "--json"
    both = invoke("run", scenario, "--virtual", option, "-", other, "-")
    assert (both.exit_code, both.stdout) == (2, "")
    assert both.stderr == "error: standard output: two outputs cannot go there\n"


def test_an_output_replaces_no_input_and_no_other_output(scenario: str, tmp_path: Path) -> None:
    before = Path(scenario).read_text(encoding="utf-8")
    again = tmp_path / "link.json"
    again.symlink_to(scenario)
    for command in ("run", "predict"):
        for file in (scenario, str(again)):
            result = invoke(command, scenario, "--json", file)
            assert result.exit_code == 2
            assert "is what this command reads" in result.stderr
    assert Path(scenario).read_text(encoding="utf-8") == before
    same = str(tmp_path / "x")
    result = invoke("run", scenario, "--virtual", "--json", same, "--html", str(tmp_path / "." / "x"))
    assert result.exit_code == 2
    assert "two outputs cannot go there" in result.stderr
    assert not Path(same).exists()
    assert invoke("run", scenario, "--virtual", "--json", os.devnull, "--html", os.devnull).exit_code == 0


def test_files_are_written_although_nobody_reads_the_tables(scenario: str, tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    script = "import sys; from vfio_migration.cli.main import app; sys.argv[0] = 'vfio-switchover'; app()"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, "run", scenario, "--virtual", "--json", str(file)],
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=40,
            check=False,
        )
    finally:
        os.close(writing)
    assert figures(file.read_text(encoding="utf-8"))["scenario"] == "small", done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("json_file", [[], ["--json", "-"]])
def test_a_migration_that_failed_makes_the_exit_status_1_and_is_shown(
    scenario: str, monkeypatch: pytest.MonkeyPatch, json_file: list[str]
) -> None:
    def broken(device: MockDevice, size: int) -> bytes:
        raise OSError(5, "gone")

    monkeypatch.setattr(MockDevice, "read", broken)
    result = invoke("run", scenario, "--virtual", "--runs", "1", *json_file)
    assert result.exit_code == 1
    shown = result.stderr if json_file else result.stdout
    gone = "[Errno 5] device 'vf0', pre-copy in machine 'source': gone"
    assert f"serial, run 1: migration failed: {gone}" in " ".join(shown.split())
    if json_file:
        assert figures(result.stdout)["modes"]["serial"]["status"] == "failed"


def test_state_that_did_not_arrive_makes_the_exit_status_1(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MockDevice, "state_hash", property(id))
    assert invoke("run", scenario, "--virtual", "--runs", "1").exit_code == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["bad.toml", "cannot be read", "gpus, host, mixed, mlx5, vfs"]),
        ("[tree", ["bad.toml", "expected TOML"]),
        (SMALL.replace("0.010", "-1"), ["bad.toml", "vfio[0].latency.'default'", "0 or more", "-1"]),
    ],
)
def test_a_scenario_that_cannot_be_used_is_one_line_and_exit_status_2(
    tmp_path: Path, text: str | None, words: list[str]
) -> None:
    file = tmp_path / "bad.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    result = invoke("run", str(file))
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mode", "sideways"],
        ["--threads", "green"],
        ["--runs", "0"],
        ["--runs", "x"],
        ["--no-such-option"],
        ["vfs", "host"],
    ],
)
def test_arguments_that_make_no_sense_are_exit_status_2(arguments: list[str]) -> None:
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize("place", ["run_scenario", "migrate"])
def test_ctrl_c_is_said_and_exit_status_130(scenario: str, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "vfio_migration.cli.main.run_scenario"
        if place == "run_scenario"
        else "vfio_migration.scenarios.runner.migrate",
        interrupt,
    )
    result = invoke("run", scenario, "--virtual", "--json", "-")
    assert result.exit_code == 130
    assert result.stdout == ""
    assert "interrupted" in result.stderr


def test_predict_shows_what_set_changes(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    result = invoke("predict", "host", "--set", "gpu*.depth=3", "--json", str(file))
    assert "with --set, against the scenario as it stands" in " ".join(result.stdout.split())
    stands = json.loads(file.read_text(encoding="utf-8"))["as_it_stands"]
    assert stands["switchover_s"] == pytest.approx(load_scenario("host").plan().bounds.mechanism_s)
    # GPUs beside VFs: 30 of 40 + 30, 80 of 100 + 80, 105 of 150 + 105 and 35 of 40 + 35 ms pass at the same time.
    assert stands["difference_s"]["switchover_s"] == pytest.approx(-0.250)
    assert "as it stands" not in invoke("predict", "host").stdout


def test_all_that_the_switchover_waits_for_can_be_shown() -> None:
    options = ("run", "host", "--virtual", "--runs", "1", "--mode", "serial")
    short, full = (invoke(*options, *more).stdout for more in ((), ("--all",)))
    assert "all the rest" in short
    assert "--all shows what all the rest is" in short
    assert "all the rest" not in full
