"""Listening for the multifd channels of a migration, among whoever else comes."""

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from vfio_migration.errors import StreamError
from vfio_migration.live.hello import SIZE, read_hello
from vfio_migration.live.sockets import tune
from vmstate import get_logger

_LOOK_UP_MS = 100
_MOST = 256  # who are listened to at a time; others wait at the door
_SILENT_S = 2.0  # how long somebody may take to say who he is


@dataclass
class ChannelGreetings:
    """
    Accepts the channels 1 to `wanted` of one migration, and turns away who is none of them.

    All are listened to at the same time, each for a while: somebody who connects and says nothing keeps nobody else
    from being heard.
    """

    listening: socket.socket
    wanted: int
    migration: bytes
    found: dict[int, socket.socket] = field(default_factory=dict)
    _heard: dict[int, "_Caller"] = field(default_factory=dict)  # by descriptor, the oldest first
    _poll: select.poll = field(default_factory=select.poll)

    def gather(self, until_s: float, check: Callable[[], None]) -> dict[int, socket.socket]:
        """
        Wait for all of them, by this moment of the monotonic clock; `check` raises if somebody has given up.

        Raises:
            StreamError: not all have come; those that have are closed.

        """
        self._poll.register(self.listening, select.POLLIN)
        try:
            while len(self.found) < self.wanted:
                check()
                self._look_at_the_time(until_s)
                for descriptor, _ in self._poll.poll(_LOOK_UP_MS):
                    if descriptor == self.listening.fileno():
                        self._accept()
                    else:
                        self._hear(descriptor)
        except BaseException:
            for sock in self.found.values():
                sock.close()
            raise
        finally:
            for caller in self._heard.values():
                caller.sock.close()
        return self.found

    def _look_at_the_time(self, until_s: float) -> None:
        now_s = time.monotonic()
        if now_s >= until_s:
            raise StreamError(f"{self.wanted} multifd channels were expected, and not all have come")
        for descriptor, caller in list(self._heard.items()):
            if now_s - caller.since_s > _SILENT_S:
                self._turn_away(descriptor, "he has not said who he is")

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):  # whoever came is gone again
            sock, _ = self.listening.accept()
            sock.setblocking(False)
            self._heard[sock.fileno()] = _Caller(sock, time.monotonic())
            self._poll.register(sock, select.POLLIN)
            if len(self._heard) == _MOST:
                self._poll.unregister(self.listening)

    def _hear(self, descriptor: int) -> None:
        if descriptor not in self._heard:  # turned away since
            return
        sock, said = self._heard[descriptor].sock, self._heard[descriptor].said
        try:
            more = sock.recv(SIZE - len(said))
        except BlockingIOError:
            return
        except OSError:
            more = b""
        said += more
        if more and len(said) < SIZE:
            return
        try:
            hello = read_hello(bytes(said))
        except StreamError as error:
            self._turn_away(descriptor, str(error))
            return
        if hello.migration != self.migration or hello.number in self.found or not 0 < hello.number <= self.wanted:
            self._turn_away(descriptor, "he is of another migration, or a channel too many")
            return
        self._let_go(descriptor)
        sock.setblocking(True)
        tune(sock)
        self.found[hello.number] = sock

    def _turn_away(self, descriptor: int, why: str) -> None:
        self._let_go(descriptor).close()
        _log.warning("a stranger was turned away", reason=why)

    def _let_go(self, descriptor: int) -> socket.socket:
        if len(self._heard) == _MOST:
            self._poll.register(self.listening, select.POLLIN)
        self._poll.unregister(descriptor)
        return self._heard.pop(descriptor).sock


@dataclass
class _Caller:
    """Somebody who has connected, and when; and what he has said so far."""

    sock: socket.socket
    since_s: float
    said: bytearray = field(default_factory=bytearray)


_log = get_logger("vfio_migration.live.channel_greetings")
