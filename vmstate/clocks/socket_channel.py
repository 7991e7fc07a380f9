"""
A channel whose other end is in another process: a connected socket, in real time.

A thread of its own receives whatever comes, up to a limit, whether anybody asks for it or not. So two ends that both
send never wait for each other, a source is not held up by a destination that is slow to load, and what has arrived can
be seen without waiting.
"""

import select
import socket
import threading
import time
from collections import deque

from vmstate.clocks.channel import ChannelClosedError
from vmstate.clocks.clock import NS_PER_SECOND, seconds_to_ns

MOST_AHEAD = 64 * 1024 * 1024  # bytes that are kept here and that nobody has asked for yet
_RECEIVE = 256 * 1024
_PIECE = 200  # bytes, of what it takes to keep some, however few
_LOOK_UP_MS = 100  # how long a sender waits before it sees that its channel was aborted


class SocketChannel:
    """
    One end (`Channel`); `latency_s` is how much later what comes counts as arrived.

    After `timeout_s` in which nothing could be sent the connection counts as lost (None: never). Closes the socket.

    `_changed` guards all fields; nobody holds it while the system is asked for anything that may take time.

    Rejected: to receive when asked. A sender that fills the buffers of a peer that is sending itself would wait for it
    for ever, as it for us; and a slow destination would hold up its source, which no plan reckons with.
    """

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        *,
        latency_s: float = 0.0,
        timeout_s: float | None = None,
        most_ahead: int = MOST_AHEAD,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._timeout_s = timeout_s
        self._latency_ns = seconds_to_ns(latency_s)
        self._most_ahead = most_ahead
        self._changed = threading.Condition()
        self._arrived: deque[tuple[bytes, int]] = deque()  # what came, and from when on it is there
        self._ahead = 0
        self._over = False  # nothing more comes
        self._aborted = False
        self._ended = False
        self._reader = threading.Thread(target=self._receive_all, name=f"{name}, receiving", daemon=True)
        self._reader.start()

    def send(self, data: bytes) -> None:
        """Send all bytes, waiting for room."""
        rest = memoryview(data)
        waited_ms = 0
        while rest:
            self._insist_on_open()
            try:
                sent = self._socket.send(rest)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._insist_on_open()  # again: closed here in between, it fails just as if it were closed there
                if isinstance(error, BrokenPipeError | ConnectionResetError):
                    raise ChannelClosedError("the other side has closed the channel") from error
                raise
            rest = rest[sent:]
            if sent:
                waited_ms = 0
                continue
            self._wait(select.POLLOUT, _LOOK_UP_MS)
            waited_ms += _LOOK_UP_MS
            if self._timeout_s is not None and waited_ms >= self._timeout_s * 1000:
                raise ChannelClosedError(f"the other side has taken nothing for {self._timeout_s:g} s")

    def receive(self, size: int, timeout: float | None = None) -> bytes:
        """Receive between 1 and `size` bytes, waiting for them; b"" if the other end is closed."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                if self._aborted:
                    raise ChannelClosedError("this side has closed the channel")
                due_in_s = self._due_in_s()
                if due_in_s is not None and due_in_s <= 0:
                    return self._take(size)
                if due_in_s is None and self._over:
                    return b""
                left_s = None if until is None else until - time.monotonic()
                if left_s is not None and left_s <= 0:
                    raise TimeoutError(f"nothing was received for {timeout:g} s")
                self._changed.wait(min((each for each in (due_in_s, left_s) if each is not None), default=None))

    @property
    def ready(self) -> bool:
        """Whether something, or the end, is there to be received without waiting."""
        with self._changed:
            due_in_s = self._due_in_s()
            return self._over if due_in_s is None else due_in_s <= 0

    def end(self) -> None:
        """Send nothing more: the other side reads what is on its way, then sees the end."""
        with self._changed:
            self._ended = True
        self._shut(socket.SHUT_WR)

    def abort(self) -> None:
        """Send and receive nothing more at this end, and wake whoever waits here; safe from any thread."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()
        self._shut(socket.SHUT_RDWR)

    def close(self) -> None:
        """Abort and close the socket; a second time does nothing."""
        self.abort()
        if threading.current_thread() is not self._reader:
            self._reader.join()
        self._socket.close()

    def _insist_on_open(self) -> None:
        with self._changed:
            if self._aborted or self._ended:
                raise ChannelClosedError("this side has closed the channel")

    def _due_in_s(self) -> float | None:
        """Give in how many seconds the next bytes are there; None if there are none. With the lock held, as below."""
        if not self._arrived:
            return None
        return (self._arrived[0][1] - time.monotonic_ns()) / NS_PER_SECOND if self._latency_ns else 0.0

    def _take(self, size: int) -> bytes:
        data, due_ns = self._arrived.popleft()
        if len(data) > size:
            self._arrived.appendleft((data[size:], due_ns))
            data = data[:size]
        else:
            self._ahead -= _PIECE
        self._ahead -= len(data)
        self._changed.notify_all()
        return data

    def _receive_all(self) -> None:
        while self._wait_for_room():
            self._wait(select.POLLIN, None)
            try:
                data = self._socket.recv(min(_RECEIVE, self._most_ahead))
            except BlockingIOError:
                continue
            except OSError:  # what was on its way is lost with the connection
                data = b""
            with self._changed:
                if not data:
                    break
                self._arrived.append((data, time.monotonic_ns() + self._latency_ns))
                self._ahead += len(data) + _PIECE
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        with self._changed:
            while self._ahead >= self._most_ahead and not self._aborted:
                self._changed.wait()
            return not self._aborted

    def _wait(self, what: int, timeout_ms: int | None) -> None:
        """Wait until the system takes or has something, or the socket was shut."""
        poll = select.poll()  # of any number of descriptors, which `select` is not
        poll.register(self._socket, what)
        poll.poll(timeout_ms)

    def _shut(self, how: int) -> None:
        try:
            self._socket.shutdown(how)
        except OSError:  # the other side was first
            return
