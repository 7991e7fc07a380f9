"""
Connecting two ends of one process by an address, through a clock that both share.

For virtual clocks, whose time cannot pass in two processes: a uri is then a name in this process, and no file, port or
descriptor is touched.
"""

import errno
import os
import socket
import threading

from vfio_migration.live.addresses import Address
from vfio_migration.live.connection import Connection
from vfio_migration.live.sockets import Abortable
from vmstate import WINDOW, Clock, channel_pair

_lock = threading.Lock()  # guards what is in the next
_listening: dict[tuple[str, int], "LocalAcceptor"] = {}  # by address, and by clock


def connection_pair(
    clock: Clock,
    name: str,
    channels: int,
    *,
    latency_s: float,
    eager: bool,
    sockets: tuple[socket.socket, socket.socket] | None = None,
) -> tuple[Connection, Connection]:
    """Connect two ends, over `sockets` if they are given; `eager`: the sender never waits for room."""
    window = None if eager else WINDOW
    pairs = [channel_pair(clock, name, sockets, latency_s=latency_s, window=window)]
    for number in range(channels):
        of_it = f"multifd channel {number} of {name}"
        pairs.append(channel_pair(clock, of_it, latency_s=latency_s, window=window))
    there, here = ([pair[side] for pair in pairs] for side in (0, 1))
    return Connection(there[0], there[1:]), Connection(here[0], here[1:])


class LocalAcceptor:
    """Waits at an address for a source with the same clock. `_lock` of this module guards the fields."""

    def __init__(self, clock: Clock, address: Address) -> None:
        self._clock = clock
        self._address = address
        self._come = clock.event(f"a migration to {address}", outside=True)
        self._connection: Connection | None = None
        self._aborted = False

    @property
    def address(self) -> Address:
        """Where it waits."""
        return self._address

    def open(self) -> None:
        """Be found; raises OSError if somebody waits there."""
        with _lock:
            if self._key in _listening:
                raise _error(errno.EADDRINUSE, f"Failed to bind socket to {self._address}")
            _listening[self._key] = self

    def accept(self) -> Connection:
        """Wait for a source."""
        self._come.wait()
        with _lock:
            if self._connection is None:
                raise ConnectionAbortedError(errno.ECONNABORTED, "given up before it was connected")
            return self._connection

    def connected(self, connection: Connection) -> None:
        """Be found by a source, and so by no other."""
        with _lock:
            self._connection = connection
            aborted = self._aborted
        if aborted:
            connection.abort()
        self._come.set()

    def abort(self) -> None:
        """Wait no more, and cut what is connected."""
        with _lock:
            if _listening.get(self._key) is self:
                del _listening[self._key]
            self._aborted = True
            connection = self._connection
        if connection is not None:
            connection.abort()
        self._come.set()

    def close(self) -> None:
        """Wait no more."""
        self.abort()

    @property
    def _key(self) -> tuple[str, int]:
        return str(self._address), id(self._clock)


class LocalConnector(Abortable):
    """Connects to what waits at an address with the same clock."""

    def __init__(
        self, clock: Clock, address: Address, name: str, channels: int, latency_s: float, *, eager: bool
    ) -> None:
        super().__init__()
        self._clock = clock
        self._address = address
        self._name = name
        self._channels = channels
        self._latency_s = latency_s
        self._eager = eager

    def connect(self) -> Connection:
        """Connect; raises OSError if nobody waits there."""
        with _lock:  # taken out with it: of two sources only one finds it
            acceptor = _listening.pop((str(self._address), id(self._clock)), None)
        if acceptor is None:
            raise _error(errno.ECONNREFUSED, f"Failed to connect to '{self._address}'")
        there, here = connection_pair(
            self._clock, self._name, self._channels, latency_s=self._latency_s, eager=self._eager
        )
        acceptor.connected(here)
        return self._connected(there)


def _error(code: int, what: str) -> OSError:
    return OSError(code, f"{what}: {os.strerror(code)}")
