"""Who is taken for a multifd channel of a migration, and who is turned away without being in anybody's way."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from vfio_migration import StreamError
from vfio_migration.live.channel_greetings import ChannelGreetings
from vfio_migration.live.hello import Hello, new_migration

OURS = new_migration()
# Its last byte is another one, whatever it was: the bytes of a migration are drawn at random.
ALTERED = bytearray(Hello(1, OURS).packed())
ALTERED[-1] ^= 1
LIMIT = 30.0


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "m.sock"))
        sock.listen(16)
        sock.setblocking(False)
        yield sock


def caller(listening: socket.socket, said: bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(LIMIT)
    sock.connect(listening.getsockname())
    sock.sendall(said)
    return sock


def gather(listening: socket.socket, wanted: int) -> dict[int, socket.socket]:
    return ChannelGreetings(listening, wanted, OURS).gather(time.monotonic() + LIMIT, lambda: None)


@pytest.mark.parametrize(
    "said",
    [
        b"x" * 32,
        Hello(1, new_migration()).packed(),
        Hello(3, OURS).packed(),
        Hello(0, OURS, 2).packed(),
        bytes(ALTERED),
    ],
    ids=["noise", "of another migration", "one too many", "a second stream", "altered"],
)
def test_a_stranger_is_turned_away_and_the_channels_are_found(listening: socket.socket, said: bytes) -> None:
    with ExitStack() as stack:
        stranger = stack.enter_context(caller(listening, said))
        for number in (2, 1):
            stack.enter_context(caller(listening, Hello(number, OURS).packed()))
        found = gather(listening, 2)
        assert sorted(found) == [1, 2]
        assert stranger.recv(1) == b""
        for sock in found.values():
            sock.close()


def test_the_same_channel_twice_is_had_once(listening: socket.socket) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(caller(listening, Hello(1, OURS).packed()))
        second = stack.enter_context(caller(listening, Hello(1, OURS).packed()))
        stack.enter_context(caller(listening, Hello(2, OURS).packed()))
        found = gather(listening, 2)
        found[1].sendall(b"!")
        assert (first.recv(1), second.recv(1)) == (b"!", b"")
        for sock in found.values():
            sock.close()


def test_who_says_half_and_goes_is_forgotten(listening: socket.socket) -> None:
    caller(listening, Hello(1, OURS).packed()[:5]).close()
    caller(listening, b"").close()
    with caller(listening, Hello(1, OURS).packed()):
        found = gather(listening, 1)
        found[1].close()


def test_a_hello_may_come_in_pieces(listening: socket.socket) -> None:
    said = Hello(1, OURS).packed()
    with caller(listening, said[:7]) as sock:
        sent: list[bool] = []

        def check() -> None:
            """Say the rest once what came first was heard."""
            if greetings._heard and not sent and any(each.said for each in greetings._heard.values()):
                sock.sendall(said[7:])
                sent.append(True)

        greetings = ChannelGreetings(listening, 1, OURS)
        found = greetings.gather(time.monotonic() + LIMIT, check)
        assert sent
        found[1].close()


def test_more_strangers_than_are_listened_to_wait_at_the_door(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfio_migration.live.channel_greetings._MOST", 2)
    silent = [caller(listening, b"") for _ in range(5)]
    most: list[int] = []

    def send_one_away() -> None:
        most.append(len(greetings._heard))
        if most[-1] == 2 and silent:
            silent.pop(0).close()

    greetings = ChannelGreetings(listening, 1, OURS)
    with caller(listening, Hello(1, OURS).packed()):
        found = greetings.gather(time.monotonic() + LIMIT, send_one_away)
        assert max(most) == 2
        assert len(silent) <= 1
        found[1].close()
    for stranger in silent:
        stranger.close()


def test_channels_that_have_come_in_vain_are_closed(listening: socket.socket) -> None:
    greetings = ChannelGreetings(listening, 2, OURS)

    def give_up_once_one_was_found() -> None:
        if greetings.found:
            raise ConnectionAbortedError("given up")

    with caller(listening, Hello(1, OURS).packed()) as first:
        with pytest.raises(ConnectionAbortedError, match="given up"):
            greetings.gather(time.monotonic() + LIMIT, give_up_once_one_was_found)
        assert first.recv(1) == b""


def test_who_waits_is_told_that_not_all_have_come(listening: socket.socket) -> None:
    with pytest.raises(StreamError, match="2 multifd channels were expected, and not all have come"):
        ChannelGreetings(listening, 2, OURS).gather(time.monotonic(), lambda: None)
