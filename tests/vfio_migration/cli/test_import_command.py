from dataclasses import astuple
from pathlib import Path

import pytest
from suite.qemu_logs import CAPTURES, HOST_QTREE, destination_log, source_log
from typer.testing import CliRunner, Result

from vfio_migration.cli.main import app
from vfio_migration.scenarios.file import load_scenario, parse_scenario


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    return (
        source_log({"vf0": (30, 80, 10), "gpu0": (40, 100, 20)}).write(tmp_path / "src.log"),
        destination_log({"vf0": (105, 35), "gpu0": (150, 40)}).write(tmp_path / "dst.log"),
    )


def test_import_writes_the_scenario_to_standard_output_and_what_it_found_to_standard_error(
    logs: tuple[Path, Path],
) -> None:
    result = invoke("import", *logs, "--qtree", HOST_QTREE)
    assert result.exit_code == 0
    scenario = parse_scenario(result.stdout, Path("x.toml"))
    assert [(spec.id, spec.depth) for spec in scenario.devices] == [("vf0", 3), ("gpu0", 5)]
    assert "migration 1 (source): completed" in result.stderr
    assert "src-downtime-start to src-vm-stopped: 250.000 ms" in result.stderr
    assert "note: RESUMING -> STOP holds" in result.stderr


def test_import_writes_a_file(logs: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "out.toml"
    result = invoke("import", *logs, "--output", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"written: {file}" in result.stderr
    shown = invoke("run", file, "--virtual", "--runs", "1")
    assert shown.exit_code == 0, shown.output
    assert "611.0 ms  serial_s" in shown.stdout


def test_import_of_a_log_without_vfio_reports_what_there_is() -> None:
    result = invoke("import", CAPTURES / "flat-src.trace.log")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "downtime 2.786 ms" in result.stderr
    assert "error: " in result.stderr.splitlines()[-1]
    assert "no VFIO device changes its state" in result.stderr


def test_import_says_where_it_cannot_write(logs: tuple[Path, Path], tmp_path: Path) -> None:
    result = invoke("import", *logs, "--output", tmp_path)
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_run_s_logs_are_imported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("run", "vfs", "--virtual", "--runs", "1", "--qemu-log", "x")
    assert result.exit_code == 0
    names = {f"x-{mode}-{side}.log" for mode in ("serial", "parallel") for side in ("src", "dst")}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert all(f"written: {name}" in result.stderr for name in names)
    imported = invoke("import", "x-serial-src.log", "x-serial-dst.log")
    assert imported.exit_code == 0
    bounds = parse_scenario(imported.stdout, Path("x")).plan().bounds
    # A log's times are to the microsecond.
    assert astuple(bounds) == pytest.approx(astuple(load_scenario("vfs").plan().bounds), abs=1e-5)


def test_one_mode_s_logs_do_not_name_it(tmp_path: Path) -> None:
    assert invoke("run", "vfs", "--virtual", "--mode", "serial", "--qemu-log", tmp_path / "x").exit_code == 0
    assert {file.name for file in tmp_path.iterdir()} == {"x-src.log", "x-dst.log"}


def test_import_does_not_overwrite_what_it_reads(logs: tuple[Path, Path], tmp_path: Path) -> None:
    for log in logs:
        before = log.read_bytes()
        result = invoke("import", *logs, "--output", log)
        assert result.exit_code == 2
        assert "would be overwritten" in result.stderr
        assert log.read_bytes() == before
    result = invoke("import", tmp_path / "none.log", "--output", tmp_path / "new.toml")
    assert result.exit_code == 2
    assert not (tmp_path / "new.toml").exists()


def test_a_log_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    result = invoke("run", "vfs", "--virtual", "--qemu-log", tmp_path / "none" / "x")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "cannot be written" in result.stderr
