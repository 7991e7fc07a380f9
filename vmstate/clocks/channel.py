"""
A channel for bytes between two threads: a real socket, and waits that go through the clock.

What was sent and not yet received is counted, and kept below a window that is smaller than what the
kernel buffers. So neither side ever blocks in the kernel, and each send and each receive wakes the other
side through the clock.
"""

import select
import socket
import threading

from vmstate.clocks.clock import Clock
from vmstate.errors import VmStateError

WINDOW = 64 * 1024  # well below what every kernel buffers for a local socket
_IN_FLIGHT_S = 0.1  # bytes that were counted are already on their way through the kernel


class ChannelClosedError(VmStateError, ConnectionError):
    """The other side has closed the channel, or this side has."""


class _Direction:
    """Bytes on their way from one end to the other. `lock` guards all fields and is held for moments only."""

    def __init__(self, clock: Clock, name: str) -> None:
        self.lock = threading.Lock()
        self.in_flight = 0
        self.writer_closed = False
        self.reader_closed = False
        self.readable = clock.event(f"data on {name}")
        self.writable = clock.event(f"room on {name}")


class Channel:
    """
    One end: `send` and `receive` wait through the clock; each is for one thread at a time.

    Guarantees:
    - Bytes arrive complete and in order, or the end of them is seen.
    - Closing either end wakes the other, whatever it waits for.
    """

    def __init__(self, sock: socket.socket, outgoing: _Direction, incoming: _Direction) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._outgoing = outgoing
        self._incoming = incoming

    def send(self, data: bytes) -> None:
        """
        Send all bytes, waiting for room.

        Raises:
            ChannelClosedError: either end is closed.
            OSError: the socket fails.

        """
        way = self._outgoing
        rest = memoryview(data)
        while rest:
            with way.lock:
                if way.writer_closed:
                    raise ChannelClosedError("this side has closed the channel")
                if way.reader_closed:
                    raise ChannelClosedError("the other side has closed the channel")
                room = WINDOW - way.in_flight
                if room <= 0:
                    way.writable.clear()
            if room > 0:
                room = self._send_some(rest[:room])
                rest = rest[room:]
            if room <= 0:
                way.writable.wait()

    def receive(self, size: int, timeout: float | None = None) -> bytes:
        """
        Receive between 1 and `size` bytes, waiting for them; b"" if the other end is closed.

        Raises:
            TimeoutError: nothing came for `timeout` seconds (None: no limit).
            ChannelClosedError: this end is closed.
            OSError: the socket fails.

        """
        way = self._incoming
        while True:
            with way.lock:
                if way.reader_closed:
                    raise ChannelClosedError("this side has closed the channel")
                ready = way.in_flight
                if not ready:
                    if way.writer_closed:
                        return b""
                    way.readable.clear()
            if ready:
                data = self._receive_some(min(size, ready))
                with way.lock:
                    way.in_flight -= len(data)
                way.writable.set()
                return data
            if not way.readable.wait(timeout):
                raise TimeoutError(f"nothing was received for {timeout:g} s")

    def end(self) -> None:
        """Send nothing more: the other side reads what is on its way, then sees the end."""
        with self._outgoing.lock:
            self._outgoing.writer_closed = True
        self._outgoing.readable.set()

    def abort(self) -> None:
        """
        Send and receive nothing more at this end, and wake whoever waits here; safe from any thread.

        The other end still reads what is on its way, and then sees the end.
        """
        self.end()
        self._outgoing.writable.set()
        with self._incoming.lock:
            self._incoming.reader_closed = True
        self._incoming.readable.set()
        self._incoming.writable.set()

    def close(self) -> None:
        """Abort and close the socket; a second time does nothing."""
        self.abort()
        self._socket.close()

    def _send_some(self, data: memoryview) -> int:
        """Hand over as much as the kernel takes; 0 if it has no room, with `writable` lowered to wait for it."""
        way = self._outgoing
        try:
            sent = self._socket.send(data)
        except BlockingIOError:  # the kernel counts more than bytes
            with way.lock:
                if way.in_flight:
                    way.writable.clear()
                    return 0
            select.select([], [self._socket], [], _IN_FLIGHT_S)
            return self._send_some(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError("the other side has closed the channel") from error
        with way.lock:
            way.in_flight += sent
        way.readable.set()
        return sent

    def _receive_some(self, size: int) -> bytes:
        while True:
            try:
                return self._socket.recv(size)
            except BlockingIOError:  # counted, but still on its way through the kernel
                select.select([self._socket], [], [], _IN_FLIGHT_S)
            except ConnectionResetError:  # what was on its way is lost with the connection
                return b""


def channel_pair(
    clock: Clock, name: str, sockets: tuple[socket.socket, socket.socket] | None = None
) -> tuple[Channel, Channel]:
    """Connect two ends, over a connected pair of stream sockets: `socket.socketpair()` unless given."""
    first, second = sockets if sockets is not None else socket.socketpair()
    there = _Direction(clock, name)
    back = _Direction(clock, f"{name}, the way back")
    return Channel(first, there, back), Channel(second, back, there)
