"""Files that are none and standard streams as shells leave them: an error of ours, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from suite.machines import SMALL

COMMAND = Path(sys.executable).with_name("vfio-switchover")
PREDICT = f"{COMMAND} predict host"


def shell(line: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=50, check=False)


KINDS = ("fifo", "loop", "device", "folder")
slow = pytest.mark.slow  # a process for each; the first command and one of each kind are quick enough


@pytest.mark.parametrize(
    "command",
    [PREDICT, pytest.param(f"{COMMAND} scenarios", marks=slow), pytest.param(f"{COMMAND} --version", marks=slow)],
)
@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [
        (">&-", 2, "error: standard output is closed"),
        ("2>&-", 0, ""),
        (">&- 2>&-", 2, ""),
        (">/dev/full", 2, "No space left on device"),
        (">/dev/full 2>/dev/full", 2, ""),
    ],
)
def test_streams_that_cannot_be_written_are_an_error_of_ours(
    command: str, redirection: str, status: int, said: str
) -> None:
    done = shell(f"{command} {redirection}")
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


FILES = [
    pytest.param(command, kind, marks=() if number % len(KINDS) == place else slow)
    for number, command in enumerate(["predict {}", "run {}", "import {}", "predict host --json {0}/{0}"])
    for place, kind in enumerate(KINDS)
]


@pytest.mark.parametrize(("command", "kind"), FILES)
def test_files_that_are_none_are_an_error_of_ours(command: str, kind: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    file = "/dev/zero" if kind == "device" else str(tmp_path / kind)
    done = shell(f"{COMMAND} {command.format(file)}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr) < 500


def test_a_pipe_of_the_shell_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SMALL, encoding="utf-8")
    done = shell(f"cat {tmp_path / 'a.toml'} | {COMMAND} predict /dev/stdin")
    assert done.returncode == 0, done.stderr
