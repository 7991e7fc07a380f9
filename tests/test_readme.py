"""Every example of the README and the guide is run, and what they show is what comes out."""

import re
import shlex
from pathlib import Path

import pytest
from suite import ROOT
from typer.testing import CliRunner

from vfio_migration import migrate
from vfio_migration.cli.main import app
from vfio_migration.scenarios.file import parse_scenario
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


COMMANDS = [
    line for block in blocks(README, "sh") for line in block.splitlines() if line.startswith("vfio-switchover ")
]


def invoke(command: str) -> str:
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_examples_in_python_run() -> None:
    *examples, _ = blocks(README, "python")
    assert len(examples) == 3
    namespace: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "README.md", "exec"), namespace)


def test_the_example_for_pytest_passes(pytester: pytest.Pytester) -> None:
    example = blocks(README, "python")[-1]
    pytester.makepyfile(example)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(command)


def test_the_picture_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    match = re.search(r"<!-- output of: (.*?) -->\n```text\n(.*?)```", README, re.DOTALL)
    assert match is not None
    monkeypatch.setenv("COLUMNS", "100")
    printed = [line.rstrip() for line in invoke(match[1]).splitlines()]
    assert printed == match[2].splitlines()


def test_ci_runs_the_two_commands_of_the_readme_word_for_word() -> None:
    commands = [block.strip() for block in blocks(README, "sh") if block.startswith("python3 -m venv")]
    assert len(commands) == 2
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line in commands] == commands


def test_the_benchmarks_that_are_named_exist() -> None:
    named = set(re.findall(r"benchmarks/\w+\.py", README + (ROOT / ".ci" / "run").read_text(encoding="utf-8")))
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_the_scenarios_of_the_guide_can_be_used() -> None:
    texts = blocks((ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8"), "toml")
    usual, failing = (parse_scenario(text, Path("guide.toml")) for text in texts)
    assert run_once(usual, VirtualClock()).completed
    clock = VirtualClock()
    source, destination = failing.build("source", clock=clock), failing.build("there", clock=clock, destination=True)
    source.machine.start()
    report = migrate(source.machine, destination.machine)
    assert report.status == "failed"
    assert report.destination_lost_devices == ("gpu1",)
    destination.mocks["gpu1"].release()  # so that its thread ends
    clock.sleep(0.0)


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
