"""The command line of samples: which logs, which migrations, and what it refuses."""

import re
from pathlib import Path
from random import Random

import pytest
from suite import ROOT
from suite.qemu_logs import destination_log, source_log
from typer.testing import CliRunner, Result

from vfio_migration.cli.main import app
from vfio_migration.device import DeviceState
from vfio_migration.importing import import_samples
from vfio_migration.scenarios import Scenario, override
from vfio_migration.scenarios.distributions import Samples
from vfio_migration.scenarios.file import load_scenario, parse_scenario

MAIN = (DeviceState.PRE_COPY_P2P, DeviceState.STOP_COPY)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


@pytest.fixture
def pairs(tmp_path: Path) -> list[tuple[Path, Path]]:
    """Logs of three hosts; preparing took 10, 20 and 30 ms."""
    return [
        (
            source_log({"vf0": (10 * number, 80, 10)}).write(tmp_path / f"src{number}.log"),
            destination_log({"vf0": (100, 30)}).write(tmp_path / f"dst{number}.log"),
        )
        for number in (1, 2, 3)
    ]


def prepared(result: Result) -> list[float]:
    assert result.exit_code == 0, result.output
    (spec,) = parse_scenario(result.stdout, Path("x.toml")).devices
    ((arc, found),) = spec.varying.items()
    assert (arc[0].name, arc[1].name) == ("PRE_COPY", "PRE_COPY_P2P")
    assert isinstance(found, Samples)
    return list(found.values)


def test_more_logs_are_more_samples(pairs: list[tuple[Path, Path]]) -> None:
    first, second, third = pairs
    result = invoke(*first, "--also", f"{second[0]},{second[1]}", "--also", third[0])
    assert prepared(result) == [0.01, 0.02, 0.03]
    assert result.stdout == import_samples([first, second, (str(third[0]), None)]).text
    assert "note: 3 migrations of 3 logs of sources count" in result.stderr
    assert f"the median one by downtime is migration 1 of {str(first[0])!r} and {str(first[1])!r}:" in result.stderr


def test_all_migrations_of_one_log_are_samples_too(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    both = tmp_path / "both.log"
    texts = [pair[0].read_text(encoding="utf-8") for pair in pairs[:2]]
    both.write_text(texts[0] + texts[1].replace("T18:09", "T18:10"), encoding="utf-8")
    assert prepared(invoke(both, "--all-migrations")) == [0.01, 0.02]
    assert prepared(invoke(both, "--all-migrations", "--also", pairs[2][0])) == [0.01, 0.02, 0.03]
    assert "samples" not in invoke(both).stdout


def test_what_an_error_leaves_is_what_was_read(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    odd = tmp_path / "odd.log"
    odd.write_text("nothing\n" + pairs[1][0].read_text(encoding="utf-8"), encoding="utf-8")
    result = invoke(odd, "--also", tmp_path / "gone.log")
    assert result.exit_code == 2
    assert f"{odd}: 1 of 26 lines are not known" in result.stderr
    assert f"error: {tmp_path / 'gone.log'}: cannot be read" in result.stderr


def vf0(scenario: Scenario) -> float:
    return next(spec.latency[MAIN] for spec in scenario.devices if spec.id == "vf0")


def test_the_page_shows_what_its_runs_draw() -> None:
    page = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
    runs = re.findall(r"^vfio-switchover run (\S+) .* --seed (\d+) --set '(.*?)' --qemu-log", page, re.MULTILINE)
    assert len(runs) == 2
    seconds = [vf0(load_scenario("host"))]
    for name, seed, setting in runs:
        drawn = override(load_scenario(name), [setting]).drawn(Random(int(seed)))
        seconds.append(vf0(drawn))
    (shown,) = re.findall(r"^samples = \[([^]]*)\]", page, re.MULTILINE)
    assert [float(each) for each in shown.split(",") if each.strip()] == pytest.approx(sorted(seconds), abs=1.01e-6)


@pytest.mark.parametrize("logs", [",x", "a,", "a,b,c", "", ","])
def test_what_is_no_pair_is_refused(logs: str, pairs: list[tuple[Path, Path]]) -> None:
    result = invoke(*pairs[0], "--also", logs)
    assert result.exit_code == 2
    assert f"error: --also {logs!r}: expected SOURCE.log[,DESTINATION.log], names without commas" in result.stderr


@pytest.mark.parametrize("more", [["--all-migrations"], ["--also", "other.log"]])
def test_one_migration_and_many_are_refused_together(more: list[str], pairs: list[tuple[Path, Path]]) -> None:
    result = invoke(*pairs[0], "--migration", "1", *more)
    assert result.exit_code == 2
    assert "error: --migration: it takes one migration of one log" in result.stderr


def test_a_log_among_more_is_not_written_over(pairs: list[tuple[Path, Path]]) -> None:
    before = pairs[1][1].read_text(encoding="utf-8")
    result = invoke(*pairs[0], "--also", f"{pairs[1][0]},{pairs[1][1]}", "--output", pairs[1][1])
    assert result.exit_code == 2
    assert "is what this command reads" in result.stderr
    assert pairs[1][1].read_text(encoding="utf-8") == before
