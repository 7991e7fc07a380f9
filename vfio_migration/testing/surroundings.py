"""Faults of a machine's surroundings: handlers that raise, threads that are refused, connections that break."""

import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase

from vmstate import Clock, Event, Lock, RunState


def raising_handler(
    error: BaseException, *, running: bool | None = None, times: int = 1
) -> Callable[[bool, RunState], None]:
    """Make a handler that raises the first `times` times: when starting, when stopping, or (None) in either case."""
    left, lock = times, threading.Lock()  # both sides of a pair may walk at the same time

    def handler(now_running: bool, state: RunState) -> None:
        nonlocal left
        with lock:
            raises = left > 0 and running in (None, now_running)
            left -= raises
        if raises:
            raise error

    return handler


class ScarceThreads:
    """
    A clock around another that refuses to start some threads, as a system does that has no more of them.

    Give it to both machines. Refuses the next `times` threads whose name matches a shell pattern; None: all. `refuse`
    tells it anew.
    """

    def __init__(self, clock: Clock, *, pattern: str = "vfio_vmstate_change*", times: int | None = None) -> None:
        self._clock = clock
        self._pattern = pattern
        self._lock = threading.Lock()
        self._times = times  # guarded by _lock

    def refuse(self, times: int | None = None, *, pattern: str | None = None) -> None:
        """From now on refuse so many threads, or all; 0: none. A `pattern` takes the place of the former one."""
        with self._lock:
            self._times = times
            self._pattern = self._pattern if pattern is None else pattern

    def now(self) -> int:
        """As the clock."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """As the clock."""
        self._clock.sleep(seconds)

    def start_thread(self, target: Callable[[], object], name: str) -> threading.Thread:
        """As the clock, or raise RuntimeError."""
        with self._lock:
            refused = self._times != 0 and fnmatchcase(name, self._pattern)
            if refused and self._times is not None:
                self._times -= 1
        if refused:
            raise RuntimeError("can't start new thread (on purpose)")
        return self._clock.start_thread(target, name)

    def join(self, thread: threading.Thread, timeout: float | None = None) -> bool:
        """As the clock."""
        return self._clock.join(thread, timeout)

    def give_way(self) -> None:
        """As the clock."""
        self._clock.give_way()

    def lock(self, name: str, *, idle: bool = False) -> Lock:
        """As the clock."""
        return self._clock.lock(name, idle=idle)

    def event(self, name: str, *, outside: bool = False) -> Event:
        """As the clock."""
        return self._clock.event(name, outside=outside)

    def taking_part(self) -> AbstractContextManager[None]:
        """As the clock."""
        return self._clock.taking_part()


class _CutSocket(socket.socket):
    """A socket that fails once so many bytes have gone through it in one direction."""

    allowed_to_send: int | None = None
    allowed_to_receive: int | None = None

    def send(self, data: "bytes | memoryview", flags: int = 0, /) -> int:  # type: ignore[override]
        if self.allowed_to_receive == 0:
            raise BrokenPipeError("gone on purpose")
        if self.allowed_to_send is None:
            return super().send(data, flags)
        if self.allowed_to_send <= 0:
            raise BrokenPipeError("cut on purpose")
        sent = super().send(data[: self.allowed_to_send], flags)
        self.allowed_to_send -= sent
        return sent

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self.allowed_to_receive is None:
            return super().recv(size, flags)
        if self.allowed_to_receive <= 0:
            raise ConnectionResetError("gone on purpose")
        data = super().recv(min(size, self.allowed_to_receive), flags)
        self.allowed_to_receive -= len(data)
        return data


def stream_cut_at(size: int) -> tuple[socket.socket, socket.socket]:
    """Make `migrate(..., sockets=...)` of a connection that breaks once the source has sent `size` bytes."""
    source, destination = _cut_pair()
    source.allowed_to_send = size
    return source, destination


def destination_gone_at(size: int) -> tuple[socket.socket, socket.socket]:
    """Make `migrate(..., sockets=...)` of a destination that dies, answering nothing, when it has `size` bytes."""
    source, destination = _cut_pair()
    destination.allowed_to_receive = size
    return source, destination


def _cut_pair() -> tuple[_CutSocket, _CutSocket]:
    first, second = (_CutSocket(fileno=end.detach()) for end in socket.socketpair())
    return first, second
