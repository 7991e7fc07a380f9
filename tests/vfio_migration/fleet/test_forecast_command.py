"""F1: the command: which scenarios are meant, what is printed and written, what is refused."""

import csv
import json
import os
import signal
import subprocess
import sys
import sysconfig
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vfio_migration.cli.main import app

RUNNER = CliRunner()
FILE = """
[tree]
devices = [{ bus = "main-system-bus", ids = "vf{0..1}", type = "vfio-pci" }]
[[vfio]]
devices = "vf*"
latency = { STOP_COPY = { min = 0.1, max = 0.3 } }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("rack1/a.toml", "rack1/b.toml", "rack2/a.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def forecast_json(*arguments: str) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    result = RUNNER.invoke(app, ["forecast", *arguments, "--samples", "400", "--json", "-"])
    assert result.exit_code == 0, result.output
    data: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads(result.stdout)
    return data


def test_scenarios_are_files_folders_globs_and_bundled_ones(folder: Path) -> None:
    assert set(forecast_json("rack1")["scenarios"]) == {"a", "b"}
    assert set(forecast_json("rack*/a.toml", "host")["scenarios"]) == {"rack1/a.toml", "rack2/a.toml", "host"}
    assert set(forecast_json("rack1/a.toml", "rack1")["scenarios"]) == {"a", "b"}


def test_the_keys_are_those_of_the_design(folder: Path) -> None:
    found = forecast_json("rack1/b.toml", "--limit", "0.25")
    figures = found["scenarios"]["b"]
    for bound in ("serial", "mechanism", "ideal"):
        assert set(figures[bound]) == {"p50", "p90", "p99", "mean", "exceeds"}
        assert figures["blackout"][bound] == figures[bound]  # type: ignore[comparison-overlap]
    assert figures["serial"]["mean"] == pytest.approx(0.4, rel=0.05)
    assert figures["mechanism"]["p50"] == pytest.approx(0.1 + 0.2 * 0.5**0.5, rel=0.05)  # the longer one of two
    assert figures["mechanism"]["exceeds"] == pytest.approx(1 - 0.75**2, abs=0.08)
    assert figures["serial"]["exceeds"] > 0.9
    assert forecast_json("rack1/b.toml")["scenarios"]["b"]["mechanism"]["exceeds"] is None


def test_it_says_who_would_miss_the_limit_and_what_would_help(folder: Path) -> None:
    result = RUNNER.invoke(app, ["forecast", "rack1", "--samples", "400", "--limit", "0.35"])
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    assert "would miss 350.0 ms at p99, serial: 2 of 2: a, b" in said
    assert "would miss 350.0 ms at p99, as configured: 0 of 2" in said
    assert "in half the time" in said


def test_csv_has_a_row_for_each_scenario_and_bound(folder: Path) -> None:
    result = RUNNER.invoke(app, ["forecast", "rack1", "--samples", "50", "--csv", "figures.csv"])
    assert result.exit_code == 0
    rows = list(csv.DictReader((folder / "figures.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["scenario"], row["bound"]) for row in rows] == [
        (name, bound) for name in ("a", "b") for bound in ("serial", "mechanism", "ideal")
    ]
    assert float(rows[0]["p50"]) > 0.2


def test_the_seed_and_overrides_count(folder: Path) -> None:
    first, same, other = (forecast_json("rack1", "--seed", seed) for seed in ("1", "1", "2"))
    assert first == same != other
    set_so = forecast_json("rack1", "--set", "vf*.latency.STOP_COPY=0.1")
    assert set_so["scenarios"]["a"]["serial"]["p99"] == pytest.approx(0.2, rel=0.01)


def test_many_scenarios_are_shown_the_worst_first_and_the_rest_counted(folder: Path) -> None:
    for number in range(40):
        (folder / f"many{number:02}.toml").write_text(FILE.replace("max = 0.3", f"max = 0.{300 + number}"))
    result = RUNNER.invoke(app, ["forecast", "many*.toml", "--samples", "50"])
    lines = result.stdout.splitlines()
    assert any(line.startswith("many39") for line in lines)
    assert not any(line.startswith("many00 ") for line in lines)
    assert "and 10 more" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.toml"], "nowhere.toml"),
        (["empty"], "no scenarios in empty"),
        (["rack1", "--engine", "cloud"], "expected 'processes'"),
        (["rack1", "--samples", "0"], "samples"),
        (["rack1", "--set", "gpu.parallel=false"], "gpu"),
        (["rack1", "--json", "no/such/folder"], "no/such/folder"),
    ],
)
def test_what_cannot_be_forecast_is_refused(folder: Path, arguments: list[str], said: str) -> None:
    (folder / "empty").mkdir()
    result = RUNNER.invoke(app, ["forecast", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_ctrl_c_ends_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vfio_migration.fleet.forecast", interrupted)
    result = RUNNER.invoke(app, ["forecast", "rack1"])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_without_numpy_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("vfio_migration.fleet")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)
    result = RUNNER.invoke(app, ["forecast", "rack1"])
    assert result.exit_code == 2
    assert "vfio-switchover[fleet]" in result.stderr


class _Page(HTMLParser):
    """Collects the rows of a page, and whatever it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.entered: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [value for name in ("src", "href") if (value := given.get(name)) and value != "data:,"]
        if tag == "tr":
            self.rows.append([])
            self.entered += [value for value in [given.get("tabindex")] if value is not None]
        elif tag in ("th", "td") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_the_page_has_a_row_for_each_the_worst_first_and_loads_nothing(folder: Path) -> None:
    (folder / "rack1" / "<b>{{rows}}.toml").write_text(FILE.replace("max = 0.3", "max = 0.9"), encoding="utf-8")
    result = RUNNER.invoke(app, ["forecast", "rack1", "--samples", "100", "--limit", "0.4", "--html", "fleet.html"])
    assert result.exit_code == 0, result.output
    text = (folder / "fleet.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.loads == []
    assert [row[0] for row in page.rows] == ["scenario", "<b>{{rows}}", "a", "b"]
    assert page.entered == ["0", "-1", "-1"]  # Tab enters at the first
    assert page.rows[1][-1] != "0.0 %"
    assert "prefers-color-scheme: dark" in text
    assert text.count('class="limit"') == 4  # of three rows and the legend


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c")
def test_a_ctrl_c_to_all_processes_ends_all_of_them_without_a_word_of_theirs(folder: Path) -> None:
    for number in range(30):
        (folder / f"many{number}.toml").write_text(FILE, encoding="utf-8")
    command: list[str | Path] = [
        Path(sysconfig.get_path("scripts"), "vfio-switchover"),
        "forecast",
        "many*.toml",
        "--samples",
        "2000000",
    ]
    process = subprocess.Popen(
        [*command, "--engine", "processes"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=folder,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 2:  # the workers are there, and the resource tracker
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=50)
    assert process.returncode == 130
    heard = (
        "\nCtrl-C: what cannot be cut ends first; once more leaves at once\n"  # where it came into a start of a worker
    )
    assert said.removeprefix(heard) == "interrupted: nothing was written\n"
