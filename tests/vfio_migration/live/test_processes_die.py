"""P1, G3, G6: either process of a migration is killed, and what the other says and can do then."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from suite.two_processes import LATENCY_S, End

# Long enough for every moment of such a migration, on a busy machine too.
LONGEST_S = 60 * LATENCY_S


@pytest.fixture
def ends(tmp_path: Path) -> Iterator["Ends"]:
    with ExitStack() as stack:
        yield Ends(tmp_path, stack)


class Ends:
    """Processes that end with their test, and addresses for them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._count = 0
        self.options: dict[str, Any] = {}  # of all of them

    def uri(self) -> str:
        self._count += 1
        return f"unix:{self._folder / f'{self._count}.sock'}"

    def start(self, side: str, uri: str) -> End:
        end = End(side, uri, **self.options)
        self._stack.callback(end.close)
        if side == "receive":
            end.until("waiting")
        return end

    def pair(self, **options: Any) -> tuple[End, End]:
        self.options = options
        self.last = self.uri()
        destination = self.start("receive", self.last)
        return self.start("send", self.last), destination


def migrates_again(ends: Ends, survivor: End, state: str) -> None:
    """Have a survivor migrate: one that runs, or can be started, to another; one that waits, from another."""
    uri = ends.uri()
    if state == "inmigrate":
        survivor.begin("receive", uri)
        source = ends.start("send", uri)
        assert source.report()["status"] == "completed"
        assert survivor.answer()["running"]
        return
    if state == "postmigrate":
        assert survivor.tell("start") == "running"
    ends.start("receive", uri)
    assert survivor.tell("send", uri)["status"] == "completed"


def check_source(ends: Ends, source: End, takeover: str) -> str:
    """What a source says whose destination is gone; gives how it ended."""
    report = source.report()
    if report["status"] == "completed":
        assert report["state"] == "postmigrate"  # the destination had said that it runs, or nobody asks it
        assert report["error"] is None
    elif report["unknown"]:
        assert takeover == "confirmed"
        assert report["state"] == "postmigrate"
        assert "only the destination knows whether it runs" in report["error"]
    else:
        assert report["status"] == "failed"
        assert report["error"]
        assert report["running"]
    migrates_again(ends, source, report["state"])
    return "unknown" if report["unknown"] else str(report["status"])


def check_destination(ends: Ends, destination: End) -> str:
    """What a destination says whose source is gone; gives how it ended."""
    report = destination.report()
    if report["status"] == "completed":
        assert report["running"]
    else:
        assert report["status"] == "failed"
        assert report["error"]
        assert report["state"] == "inmigrate"
    migrates_again(ends, destination, report["state"])
    return str(report["status"])


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("channels", [0, 2], ids=["one channel", "multifd"])
@pytest.mark.parametrize("takeover", ["confirmed", "qemu"])
@pytest.mark.parametrize("status", ["setup", "active", "device", "completed"])
def test_the_destination_is_killed_at_each_status(ends: Ends, status: str, takeover: str, channels: int) -> None:
    source, destination = ends.pair(takeover=takeover, channels=channels)
    source.until(status)
    destination.kill()
    check_source(ends, source, takeover)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("channels", [0, 2], ids=["one channel", "multifd"])
@pytest.mark.parametrize("takeover", ["confirmed", "qemu"])
@pytest.mark.parametrize("status", ["active", "device", "completed"])
def test_the_source_is_killed_at_each_status(ends: Ends, status: str, takeover: str, channels: int) -> None:
    source, destination = ends.pair(takeover=takeover, channels=channels)
    source.until(status)
    source.kill()
    check_destination(ends, destination)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("takeover", ["confirmed", "qemu"])
def test_a_source_that_is_killed_before_or_after_it_has_connected(ends: Ends, takeover: str) -> None:
    """A destination that nobody has come to waits on; one that somebody has come to says that he is gone."""
    for _ in range(5):
        source, destination = ends.pair(takeover=takeover)
        source.until("setup")
        source.kill()
        another = ends.start("send", ends.last)
        if another.report()["status"] == "completed":
            assert destination.report()["running"]
        else:
            assert check_destination(ends, destination) == "failed"


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("takeover", ["confirmed", "qemu"])
def test_either_is_killed_at_random_moments(ends: Ends, side: str, takeover: str) -> None:
    """
    Twenty-five moments for each kind and side, more of them early: what a survivor says, and that it can migrate again.

    Which of them are early enough for a migration to fail is up to the machine, so nothing is asked about that.
    """
    moments = random.Random(f"{side} {takeover}")
    for number in range(25):
        source, destination = ends.pair(takeover=takeover, channels=2 * (number % 2))
        source.until("active")
        time.sleep(LONGEST_S * moments.random() ** 3)
        if side == "source":
            source.kill()
            check_destination(ends, destination)
        else:
            destination.kill()
            check_source(ends, source, takeover)
