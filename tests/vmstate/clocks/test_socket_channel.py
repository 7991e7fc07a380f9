"""A channel to another process: whole bytes in order, an end that is seen, and nobody left waiting."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vmstate import ChannelClosedError, SocketChannel

LIMIT_S = 20.0
MANY = 8 * 1024 * 1024


@contextmanager
def channels(**options: object) -> Iterator[tuple[SocketChannel, SocketChannel]]:
    one, other = socket.socketpair()
    ends = (SocketChannel(one, "one", **options), SocketChannel(other, "other", **options))  # type: ignore[arg-type]
    try:
        yield ends
    finally:
        for each in ends:
            each.close()


def receive_all(channel: SocketChannel, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = channel.receive(size - len(data), LIMIT_S)
        if not more:
            break
        data += more
    return data


def run(target: object) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_bytes_arrive_whole_and_in_order_and_then_the_end() -> None:
    sent = bytes(range(256)) * 4096
    with channels() as (one, other):
        one.send(sent)
        one.end()
        assert receive_all(other, len(sent)) == sent
        assert other.receive(1, LIMIT_S) == b""
        assert other.ready


def test_two_ends_that_both_send_more_than_the_system_takes_do_not_wait_for_each_other() -> None:
    with channels() as (one, other):
        thread = run(lambda: one.send(bytes(MANY)))
        other.send(bytes(MANY))
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        assert len(receive_all(one, MANY)) == len(receive_all(other, MANY)) == MANY


def test_what_nobody_asks_for_is_kept_up_to_a_limit() -> None:
    with (
        channels(most_ahead=1000, timeout_s=0.1) as (one, _),
        pytest.raises(ChannelClosedError, match="has taken nothing"),
    ):
        one.send(bytes(MANY))


def test_it_is_ready_when_something_or_the_end_is_there() -> None:
    with channels() as (one, other):
        assert not other.ready
        one.send(b"x")
        assert other.receive(1, LIMIT_S) == b"x"
        assert not other.ready
        one.end()
        assert other.receive(1, LIMIT_S) == b""
        assert other.ready


def test_what_comes_counts_as_arrived_only_after_the_latency() -> None:
    with channels(latency_s=3600.0) as (one, other):
        one.send(b"x")
        with pytest.raises(TimeoutError):
            other.receive(1, 0.01)
        assert not other.ready


def test_nothing_in_time_is_a_timeout() -> None:
    with channels() as (_, other), pytest.raises(TimeoutError, match="nothing was received"):
        other.receive(1, 0.01)


@pytest.mark.parametrize("shut", [SocketChannel.abort, SocketChannel.close], ids=["abort", "close"])
@pytest.mark.parametrize("end", [0, 1], ids=["this end", "the other end"])
def test_shutting_either_end_wakes_a_receiver(shut: object, end: int) -> None:
    with channels() as ends:
        met: list[object] = []

        def receive() -> None:
            try:
                met.append(ends[0].receive(1))
            except ChannelClosedError as error:
                met.append(str(error))

        thread = run(receive)
        shut(ends[end])  # type: ignore[operator]
        thread.join(LIMIT_S)
        assert met == [["this side has closed the channel"], [b""]][end]


@pytest.mark.parametrize("end", [0, 1], ids=["this end", "the other end"])
def test_shutting_either_end_wakes_a_sender(end: int) -> None:
    with channels(most_ahead=1000) as ends:
        met: list[str] = []

        def send() -> None:
            try:
                ends[0].send(bytes(MANY))
            except ChannelClosedError as error:
                met.append(str(error))

        thread = run(send)
        ends[end].abort()
        thread.join(LIMIT_S)
        assert met == [f"{('this', 'the other')[end]} side has closed the channel"]


def test_closing_twice_does_nothing_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with channels() as (one, _):
        one.close()
        one.close()
        with pytest.raises(ChannelClosedError):
            one.send(b"x")
        with pytest.raises(ChannelClosedError):
            one.receive(1)
    assert threading.active_count() == before
