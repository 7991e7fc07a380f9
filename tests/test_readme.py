"""Every command and every example of the documents is run, and what they show is what comes out."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from suite import ROOT
from suite.fake_kernel import kernel_with
from suite.qemu_logs import HOST_QTREE
from typer.testing import CliRunner

from vfio_migration import migrate
from vfio_migration.cli import measure_command
from vfio_migration.cli.main import app
from vfio_migration.forecast.prediction import predict
from vfio_migration.scenarios.file import parse_scenario
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock

DOCUMENTS = {
    path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
README, REFERENCE = DOCUMENTS["README.md"], DOCUMENTS["reference.md"]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


COMMANDS = {
    name: [line for block in blocks(text, "sh") for line in block.splitlines() if line.startswith("vfio-switchover ")]
    for name, text in DOCUMENTS.items()
}
SCRIPTS = {  # what is no test file: those are run by test_guide.py
    name: [code for code in blocks(text, "python") if "def test_" not in code] for name, text in DOCUMENTS.items()
}


_VARYING = next(place for place, text in enumerate(blocks(DOCUMENTS["scenarios.md"], "toml")) if "p99" in text)


def invoke(command: str) -> str:
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("ctrl_c")  # which an example presses
@pytest.mark.parametrize("document", [name for name, scripts in SCRIPTS.items() if scripts])
def test_the_examples_in_python_run_one_after_another(document: str) -> None:
    namespace: dict[str, object] = {}
    for example in SCRIPTS[document]:
        exec(compile(example, document, "exec"), namespace)


@pytest.fixture
def real_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with the files that somebody has who has traced a real QEMU."""
    monkeypatch.chdir(tmp_path)
    kernel = kernel_with(4)  # the devices that docs/measure.md names
    monkeypatch.setattr(measure_command, "system", lambda: kernel)
    invoke("vfio-switchover run host --virtual --mode serial --runs 1 --qemu-log traced")
    (tmp_path / "traced-src.log").rename("source.log")
    (tmp_path / "traced-dst.log").rename("destination.log")
    shutil.copy(HOST_QTREE, tmp_path / "qtree.txt")
    (tmp_path / "guest.toml").write_text(blocks(DOCUMENTS["blackout.md"], "toml")[0], encoding="utf-8")
    (tmp_path / "fleet").mkdir()  # of which docs/forecast.md makes forecasts
    for number, p99 in enumerate((0.1, 0.2, 0.4)):
        varying = blocks(DOCUMENTS["scenarios.md"], "toml")[_VARYING].replace('"0.2 s"', f"{p99}")
        (tmp_path / "fleet" / f"host{number}.toml").write_text(varying, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("document", [name for name, commands in COMMANDS.items() if commands])
def test_the_commands_run_one_after_another(document: str, real_logs: Path) -> None:
    for command in COMMANDS[document]:
        output = [real_logs / words[1] for words in [command.split(" --output ")] if words[1:]]
        assert invoke(command) or all(file.read_text(encoding="utf-8") for file in output)


def test_the_guest_that_writes_too_much_is_helped_by_what_the_page_sets() -> None:
    guest = parse_scenario(blocks(DOCUMENTS["blackout.md"], "toml")[0], Path("guest.toml"))
    assert predict(guest).never
    commands = [command for command in COMMANDS["blackout.md"] if "guest.toml" in command]
    assert commands
    for command in commands:
        settings = [word for word in shlex.split(command)[3:] if word != "--set"]
        assert not predict(override(guest, settings)).never


PICTURES = [
    (name, *match)
    for name, text in DOCUMENTS.items()
    for match in re.findall(r"<!-- (output|first lines) of: (.*?) -->\n```text\n(.*?)```", text, re.DOTALL)
]


@pytest.mark.parametrize(("document", "how_much", "command", "shown"), PICTURES, ids=[name for name, *_ in PICTURES])
def test_the_picture_is_what_the_command_prints(
    document: str, how_much: str, command: str, shown: str, real_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    printed = [line.rstrip() for line in invoke(command).splitlines()]
    lines = shown.splitlines()
    assert len(lines) > 10
    assert (printed if how_much == "output" else printed[: len(lines)]) == lines


def test_the_reference_and_the_blackout_have_pictures() -> None:
    assert {"reference.md", "blackout.md"} <= {name for name, *_ in PICTURES}


def test_ci_runs_the_two_commands_of_the_readme_word_for_word() -> None:
    commands = [block.strip() for block in blocks(README, "sh") if block.startswith("python3 -m venv")]
    assert len(commands) == 2
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line in commands] == commands


def test_the_benchmarks_that_are_named_exist() -> None:
    texts = [*DOCUMENTS.values(), (ROOT / ".ci" / "run").read_text(encoding="utf-8")]
    named = set(re.findall(r"benchmarks/\w+\.py", "".join(texts)))
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_the_scenarios_of_the_guide_can_be_used() -> None:
    texts = blocks(DOCUMENTS["scenarios.md"], "toml")
    *usual, failing = (parse_scenario(text, Path("guide.toml")) for text in texts)
    assert [run_once(each, VirtualClock()).completed for each in usual] == [True] * 4
    clock = VirtualClock()
    source, destination = failing.build("source", clock=clock), failing.build("there", clock=clock, destination=True)
    source.machine.start()
    report = migrate(source.machine, destination.machine)
    assert report.status == "failed"
    assert report.destination_lost_devices == ("gpu1",)
    destination.mocks["gpu1"].release()  # so that its thread ends
    clock.sleep(0.0)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 128
