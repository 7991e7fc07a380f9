import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite.handlers import PATIENCE_S, SpyClock, Task

from vmstate import WINDOW, Channel, ChannelClosedError, LocalChannel, channel_pair

ROOM, DATA = "room on wire", "data on wire"


@contextmanager
def wire(
    clock: SpyClock | None = None, sockets: tuple[socket.socket, socket.socket] | None = None
) -> Iterator[tuple[LocalChannel, LocalChannel]]:
    one, other = channel_pair(clock or SpyClock(), "wire", sockets)
    try:
        yield one, other
    finally:
        one.close()
        other.close()


def pattern(size: int) -> bytes:
    """Bytes that show where they belong: no two windows of them are the same."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def receive_all(channel: Channel, sizes: list[int]) -> bytes:
    """Receive to the end, asking for these sizes in turn."""
    parts: list[bytes] = []
    while True:
        size = sizes[len(parts) % len(sizes)]
        part = channel.receive(size)
        assert len(part) <= size
        if not part:
            return b"".join(parts)
        parts.append(part)


def send_all(channel: Channel, data: bytes, sizes: list[int]) -> None:
    sent = number = 0
    while sent < len(data):
        size = sizes[number % len(sizes)]
        channel.send(data[sent : sent + size])
        sent += size
        number += 1
    channel.end()


sizes = st.lists(st.integers(1, 200) | st.integers(1, 3 * WINDOW), min_size=1, max_size=4)


@settings(max_examples=30)
@given(st.integers(0, 300) | st.integers(0, 4 * WINDOW), sizes, sizes, st.booleans())
def test_all_bytes_arrive_in_order_then_the_end_is_seen(
    total: int, send_sizes: list[int], receive_sizes: list[int], back: bool
) -> None:
    few = max(1, total // 500)  # keep the number of calls, and so the test, small
    data = pattern(total)
    with wire() as ends:
        sender, receiver = reversed(ends) if back else ends
        task = Task(lambda: send_all(sender, data, [max(size, few) for size in send_sizes]))
        assert receive_all(receiver, [max(size, few) for size in receive_sizes]) == data
        task.result()
        assert receiver.receive(1) == b""  # the end stays the end


def test_both_directions_work_at_the_same_time() -> None:
    there, back = pattern(5 * WINDOW), pattern(3 * WINDOW)[::-1]
    with wire() as (one, other):
        tasks = [Task(lambda: send_all(one, there, [WINDOW])), Task(lambda: send_all(other, back, [1000]))]
        receiving = Task(lambda: receive_all(one, [777]))
        assert receive_all(other, [5000]) == there
        assert receiving.result() == back
        for task in tasks:
            task.result()


def test_a_receive_gives_what_is_there_and_no_more_than_was_asked_for() -> None:
    with wire() as (one, other):
        one.send(b"abcdef")
        assert other.receive(4) == b"abcd"
        assert other.receive(100) == b"ef"
        one.send(b"")
        one.send(b"g")
        assert other.receive(1) == b"g"


def test_a_sender_waits_when_the_window_is_full_and_goes_on_when_the_other_side_receives() -> None:
    clock = SpyClock()
    data = pattern(WINDOW + 10)
    sockets = socket.socketpair()
    with wire(clock, sockets) as (one, other):
        task = Task(lambda: one.send(data))
        clock.until_somebody_waits_for(ROOM)
        in_kernel = sockets[1].recv(10 * WINDOW, socket.MSG_PEEK)
        assert 0 < len(in_kernel) <= WINDOW
        assert task.running
        received = other.receive(5)
        while len(received) < len(data):
            received += other.receive(10 * WINDOW)
        task.result()
        assert received == data


class TickingClock(SpyClock):
    """A clock by which a millisecond passes whenever it is looked at, and in no wait."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.slept: list[float] = []

    def now(self) -> int:
        self.looks += 1
        return self.looks * 1_000_000

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_what_arrives_while_a_receiver_is_about_to_wait_for_it_is_not_waited_for() -> None:
    clock = TickingClock()
    one, other = channel_pair(clock, "wire", latency_s=0.0015)
    one.send(b"late")
    assert other.receive(10) == b"late"
    assert clock.slept == [0.0]
    one.close()
    other.close()


def test_a_receiver_waits_until_there_is_data() -> None:
    clock = SpyClock()
    with wire(clock) as (one, other):
        task = Task(lambda: other.receive(10))
        clock.until_somebody_waits_for(DATA)
        assert task.running
        one.send(b"x")
        assert task.result() == b"x"


def small_sockets() -> tuple[socket.socket, socket.socket]:
    sockets = socket.socketpair()
    for end in sockets:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    return sockets


def tcp_sockets() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), timeout=PATIENCE_S)
        return client, server.accept()[0]


@pytest.mark.parametrize("connect", [small_sockets, tcp_sockets])
def test_all_bytes_arrive_through_other_sockets_also_those_that_buffer_less_than_the_window(
    connect: Callable[[], tuple[socket.socket, socket.socket]],
) -> None:
    data = pattern(2 * WINDOW + 123)
    with wire(sockets=connect()) as (one, other):
        task = Task(lambda: send_all(one, data, [len(data)]))
        assert receive_all(other, [10_000]) == data
        task.result()


def test_after_the_end_one_direction_is_closed_and_the_other_is_not() -> None:
    with wire() as (one, other):
        one.send(b"last")
        one.end()
        with pytest.raises(ChannelClosedError):
            one.send(b"x")
        assert (other.receive(10), other.receive(10)) == (b"last", b"")
        other.send(b"answer")
        assert one.receive(10) == b"answer"


def test_the_end_wakes_a_receiver() -> None:
    clock = SpyClock()
    with wire(clock) as (one, other):
        task = Task(lambda: other.receive(10))
        clock.until_somebody_waits_for(DATA)
        one.end()
        assert task.result() == b""


shutting = pytest.mark.parametrize("shut", [LocalChannel.abort, LocalChannel.close], ids=["abort", "close"])


@shutting
def test_the_other_side_still_reads_what_is_on_its_way_then_sees_the_end(
    shut: Callable[[LocalChannel], None],
) -> None:
    with wire() as (one, other):
        other.send(b"never read")
        one.send(b"on its way")
        shut(one)
        assert (other.receive(100), other.receive(100)) == (b"on its way", b"")
        with pytest.raises(ChannelClosedError):
            other.send(b"x")


@shutting
def test_this_side_neither_sends_nor_receives_any_more_and_may_be_shut_again(
    shut: Callable[[LocalChannel], None],
) -> None:
    with wire() as (one, other):
        other.send(b"x")
        shut(one)
        shut(one)
        with pytest.raises(ChannelClosedError):
            one.send(b"x")
        with pytest.raises(ChannelClosedError):
            one.receive(1)


@shutting
@pytest.mark.parametrize("end", [0, 1], ids=["sender's end", "receiver's end"])
def test_shutting_either_end_from_another_thread_wakes_a_sender(shut: Callable[[LocalChannel], None], end: int) -> None:
    clock = SpyClock()
    with wire(clock) as ends:
        task = Task(lambda: ends[0].send(bytes(2 * WINDOW)))
        clock.until_somebody_waits_for(ROOM)
        shut(ends[end])
        with pytest.raises(ChannelClosedError):
            task.result()


@shutting
@pytest.mark.parametrize("end", [0, 1], ids=["sender's end", "receiver's end"])
def test_shutting_either_end_from_another_thread_wakes_a_receiver(
    shut: Callable[[LocalChannel], None], end: int
) -> None:
    clock = SpyClock()
    with wire(clock) as ends:
        task = Task(lambda: ends[1].receive(10))
        clock.until_somebody_waits_for(DATA)
        shut(ends[end])
        if end == 0:
            assert task.result() == b""
        else:
            with pytest.raises(ChannelClosedError):
                task.result()


def test_a_closed_channel_is_a_connection_error_to_those_who_know_nothing_of_channels() -> None:
    with wire() as (one, other):
        other.close()
        with pytest.raises(ConnectionError):
            one.send(b"x")


def test_no_wait_is_lost_when_every_byte_is_waited_for() -> None:
    """Answers go back and forth, so that each side waits for the other again and again."""
    rounds = 200
    with wire() as (one, other):
        begin = threading.Barrier(2)

        def answer() -> None:
            begin.wait(10)
            for _ in range(rounds):
                other.send(other.receive(1))

        task = Task(answer)
        begin.wait(10)
        for number in range(rounds):
            one.send(bytes([number]))
            assert one.receive(1) == bytes([number])
        task.result()
