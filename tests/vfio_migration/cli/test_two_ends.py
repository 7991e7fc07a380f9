"""`vfio-switchover send` and `receive`: two processes, each of which prints its part."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vfio_migration.cli.main import app

SCENARIO = """
[tree]
devices = [{ bus = "main-system-bus", ids = "vf{0..1}" }]
[[vfio]]
devices = "vf*"
state_size = "10 kB"
write_rate = "10 MB/s"
latency = { default = "2 ms" }
"""
LIMIT_S = 30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SCENARIO, encoding="utf-8")
    return tmp_path


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from vfio_migration.cli.main import app; app()", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def receiver(uri: str, *words: str) -> tuple[subprocess.Popen[str], str]:
    """Start one, and give where it waits."""
    process = start("receive", "small.toml", uri, *words)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said.startswith("waiting at "), said
    return process, said.removeprefix("waiting at ").strip()


def load(file: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    return value


@pytest.mark.parametrize(
    ("uri", "takeover", "channels"), [("unix:m.sock", "confirmed", "2"), ("tcp:127.0.0.1:0", "qemu", "0")]
)
@pytest.mark.usefixtures("folder")
def test_a_scenario_migrates_between_two_processes(uri: str, takeover: str, channels: str) -> None:
    words = ("--takeover", takeover, "--set", f"parameters.multifd_channels={channels}")
    receiving, address = receiver(uri, *words, "--json", "received.json")
    assert address.startswith(uri[:4])
    sending = start("send", "small.toml", address, *words, "--json", "sent.json")
    sent_text, sent_error = sending.communicate(timeout=LIMIT_S)
    received_text, _ = receiving.communicate(timeout=LIMIT_S)
    assert (sending.returncode, receiving.returncode) == (0, 0), sent_error
    assert "small: completed" in sent_text
    assert "source stops" in sent_text
    assert "states transferred" in sent_text
    assert "source is now" in sent_text
    assert "small: completed" in received_text
    assert "destination starts, from when all has come" in received_text
    sent, received = load("sent.json"), load("received.json")
    assert (sent["side"], received["side"]) == ("source", "destination")
    assert (sent["source_state"], received["destination_state"]) == ("postmigrate", "running")
    assert sent["state_hashes"] == received["state_hashes"] != {}
    assert (sent["answered_s"] is None) == (takeover == "qemu")
    assert received["start_s"] >= 0
    assert not Path("m.sock").exists()


@pytest.mark.usefixtures("folder")
def test_a_device_that_fails_is_said_on_both_sides() -> None:
    scenario = SCENARIO + '[[faults]]\ndevice = "vf1"\nat = "RESUMING -> STOP"\nside = "destination"\n'
    Path("small.toml").write_text(scenario, encoding="utf-8")
    receiving, _ = receiver("unix:m.sock")
    sending = start("send", "small.toml", "unix:m.sock")
    sent, _ = sending.communicate(timeout=LIMIT_S)
    received, _ = receiving.communicate(timeout=LIMIT_S)
    assert (sending.returncode, receiving.returncode) == (1, 1)
    assert "small: failed: the destination failed: " in sent
    assert "'vf1'" in sent
    assert "running" in sent
    assert "small: failed: " in received
    assert "'vf1'" in received


@pytest.mark.usefixtures("folder", "ctrl_c")
def test_ctrl_c_ends_a_wait_and_takes_the_socket_away() -> None:
    receiving, _ = receiver("unix:m.sock", "--json", "received.json")
    assert Path("m.sock").exists()
    receiving.send_signal(signal.SIGINT)
    _, error = receiving.communicate(timeout=LIMIT_S)
    assert receiving.returncode == 130
    assert "interrupted: the migration is failed" in error
    assert not Path("m.sock").exists()
    assert load("received.json")["interrupted"]


@pytest.mark.usefixtures("folder")
def test_a_destination_that_does_not_answer_in_time_leaves_the_source_not_knowing() -> None:
    receiving, _ = receiver("unix:m.sock", "--set", "vf0.latency.RESUMING->STOP=1000")
    sending = start("send", "small.toml", "unix:m.sock", "--answer-timeout", "0.1")
    text, _ = sending.communicate(timeout=LIMIT_S)
    receiving.kill()
    receiving.communicate(timeout=LIMIT_S)
    assert sending.returncode == 1
    assert "only the destination knows whether it runs" in text
    assert "postmigrate" in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("send", "small.toml", "pigeon:1"), "error: unknown migration protocol: pigeon:1"),
        (("receive", "small.toml", "pigeon:1"), "error: unknown migration protocol: pigeon:1"),
        (("receive", "small.toml", "unix:no/such/m.sock"), "Failed to bind socket to no/such/m.sock: No such file"),
        (("send", "nowhere.toml", "unix:m.sock"), "nowhere.toml"),
        (("send", "small.toml", "unix:m.sock", "--set", "vf0.rote=1"), "rote"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cannot_be_used_is_one_line_and_exit_status_2(words: tuple[str, ...], text: str) -> None:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("folder")
def test_nobody_there_is_a_migration_that_failed() -> None:
    result = CliRunner().invoke(app, ["send", "small.toml", "unix:m.sock"])
    assert result.exit_code == 1
    assert "small: failed: Failed to connect to 'm.sock': No such file or directory" in result.stdout
    assert "running" in result.stdout
