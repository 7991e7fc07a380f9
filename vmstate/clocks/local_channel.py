"""
A channel between two threads of this process: a real socket, and waits that go through the clock.

What was sent and not yet received is counted, and kept below a window that is smaller than what the
kernel buffers. So neither side ever blocks in the kernel, and each send and each receive wakes the other
side through the clock. A channel without a window keeps here what the kernel does not take: its sender never waits.
"""

import select
import socket
import threading
from collections import deque

from vmstate.clocks.channel import ChannelClosedError
from vmstate.clocks.clock import NS_PER_SECOND, Clock, seconds_to_ns

WINDOW = 64 * 1024  # well below what every kernel buffers for a local socket
_IN_FLIGHT_S = 0.1  # bytes that were counted are already on their way through the kernel


class _Direction:
    """Bytes on their way from one end to the other. `lock` guards all fields and is held for moments only."""

    def __init__(self, clock: Clock, name: str, latency_ns: int, window: int | None) -> None:
        self.window = window
        self.kept: deque[bytes] = deque()  # what the kernel did not take, where there is no window
        self.clock = clock
        self.latency_ns = latency_ns
        self.due: deque[tuple[int, int]] = deque()  # how many bytes arrive when, if they do not at once
        self.lock = threading.Lock()
        self.in_flight = 0
        self.writer_closed = False
        self.reader_closed = False
        self.readable = clock.event(f"data on {name}")
        self.writable = clock.event(f"room on {name}")

    def arrived(self) -> tuple[int, int | None]:
        """Give how many bytes are there, or when the next are due if there are none; with the lock held."""
        if not self.latency_ns or not self.in_flight:
            return self.in_flight, None
        now = self.clock.now()
        there = 0
        for size, due_ns in self.due:
            if due_ns > now:
                return there, None if there else due_ns
            there += size
        return there, None

    def taken(self, size: int) -> None:
        """Note that so many bytes were received; with the lock held."""
        self.in_flight -= size
        while size and self.due:
            first, due_ns = self.due.popleft()
            if first > size:
                self.due.appendleft((first - size, due_ns))
            size -= min(first, size)


class LocalChannel:
    """One end of two in this process (`Channel`)."""

    def __init__(self, sock: socket.socket, outgoing: _Direction, incoming: _Direction) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._outgoing = outgoing
        self._incoming = incoming
        self._peer: LocalChannel | None = None  # in this process

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
                room = len(rest) if way.window is None else way.window - way.in_flight
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
                ready, due_ns = way.arrived()
                if not ready and due_ns is None:
                    if way.writer_closed:
                        return b""
                    way.readable.clear()
            if due_ns is not None:
                # By a real clock it may be there by now.
                way.clock.sleep(max(0, due_ns - way.clock.now()) / NS_PER_SECOND)
                continue
            if ready:
                data = self._receive_some(min(size, ready))
                with way.lock:
                    way.taken(len(data))
                way.writable.set()
                return data
            if not way.readable.wait(timeout):
                raise TimeoutError(f"nothing was received for {timeout:g} s")

    @property
    def ready(self) -> bool:
        """Whether something, or the end, is there to be received without waiting."""
        with self._incoming.lock:
            there, due_ns = self._incoming.arrived()
            return there > 0 or (due_ns is None and self._incoming.writer_closed)

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
            # Asked with the lock held: while the other end hands on some of what is kept, it looks empty for a moment,
            # and what is sent now would overtake it. Only this end adds to it, so that it stays empty if it is.
            with way.lock:
                behind = bool(way.kept)
            sent = self._keep(data) if behind else self._socket.send(data)
        except BlockingIOError:  # the kernel counts more than bytes
            if way.window is not None:
                with way.lock:
                    if way.in_flight:
                        way.writable.clear()
                        return 0
                select.select([], [self._socket], [], _IN_FLIGHT_S)
                return self._send_some(data)
            sent = self._keep(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError("the other side has closed the channel") from error
        with way.lock:
            way.in_flight += sent
            if way.latency_ns:
                way.due.append((sent, way.clock.now() + way.latency_ns))
        way.readable.set()
        return sent

    def _keep(self, data: memoryview) -> int:
        with self._outgoing.lock:
            self._outgoing.kept.append(bytes(data))
        return len(data)

    def _send_kept(self) -> None:
        """Hand over what was kept here, as far as the kernel takes it; called by who receives at the other end."""
        way = self._outgoing
        with way.lock:
            while way.kept:
                try:
                    sent = self._socket.send(way.kept[0])
                except OSError:  # the kernel is full, or the other side sees the end in its own time
                    return
                rest = way.kept.popleft()[sent:]
                if rest:
                    way.kept.appendleft(rest)

    def _receive_some(self, size: int) -> bytes:
        while True:
            if self._incoming.kept and self._peer is not None:
                self._peer._send_kept()  # noqa: SLF001 - one mechanism, two ends
            try:
                return self._socket.recv(size) or self._take_kept(size)
            except BlockingIOError:  # counted, but still on its way through the kernel
                select.select([self._socket], [], [], _IN_FLIGHT_S)
            except ConnectionResetError:  # what was on its way is lost with the connection
                return b""

    def _take_kept(self, size: int) -> bytes:
        """Take of what the other end kept and could not hand over before it closed; what the kernel had came first."""
        way = self._incoming
        with way.lock:
            if not way.kept:
                return b""
            data = way.kept.popleft()
            if len(data) > size:
                way.kept.appendleft(data[size:])
        return data[:size]


def channel_pair(
    clock: Clock,
    name: str,
    sockets: tuple[socket.socket, socket.socket] | None = None,
    *,
    latency_s: float = 0.0,
    window: int | None = WINDOW,
) -> tuple[LocalChannel, LocalChannel]:
    """
    Connect two ends, over a connected pair of stream sockets: `socket.socketpair()` unless given.

    What is sent arrives `latency_s` later, in either direction; the end of a connection is seen at once. `window` is
    how many bytes may be on their way before a sender waits; None: any number.
    """
    first, second = sockets if sockets is not None else socket.socketpair()
    latency_ns = seconds_to_ns(latency_s)
    there = _Direction(clock, name, latency_ns, window)
    back = _Direction(clock, f"{name}, the way back", latency_ns, window)
    ends = LocalChannel(first, there, back), LocalChannel(second, back, there)
    ends[0]._peer, ends[1]._peer = ends[1], ends[0]  # noqa: SLF001 - one mechanism, two ends
    return ends
