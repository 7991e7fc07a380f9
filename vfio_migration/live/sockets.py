"""What connecting and listening have in common: sockets that are waited for in moments, and may be given up."""

import errno
import os
import select
import socket
import stat
import threading
from typing import Any

from vfio_migration.errors import AddressError
from vfio_migration.live.addresses import Address, FdAddress, TcpAddress
from vfio_migration.live.connection import Connection
from vmstate import MOST_AHEAD, SocketChannel

_CLOSE = 32 * 1024  # bytes, as many as QEMU reads ahead (`IO_BUF_SIZE`)
_LOOK_UP_S = 0.1  # how long anybody waits here before he sees that he is to give up


class Abortable:
    """Something that may be told to give up; `_lock` guards both fields."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._aborted = False
        self._connection: Connection | None = None

    def abort(self) -> None:
        """Give up, and cut what is connected."""
        with self._lock:
            self._aborted = True
            connection = self._connection
        if connection is not None:
            connection.abort()

    def close(self) -> None:
        """Let go of what is connected, where nobody came to take it."""
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.close()

    def _connected(self, connection: Connection) -> Connection:
        with self._lock:
            self._connection = connection
            aborted = self._aborted
        if aborted:
            connection.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "given up before it was connected")
        return connection

    def _check(self) -> None:
        with self._lock:
            if self._aborted:
                raise ConnectionAbortedError(errno.ECONNABORTED, "given up before it was connected")


def connection_of(
    sockets: list[socket.socket], name: str, *, latency_s: float, timeout_s: float | None, closely: bool = False
) -> Connection:
    """
    Make channels of connected sockets, the stream's first.

    `closely`: next to nothing is on its way that was not loaded yet, so that a source notices a destination that fails
    though it does not listen to it, as QEMU's mostly does.
    """
    channels: list[SocketChannel] = []
    most_ahead = _CLOSE if closely and not latency_s else MOST_AHEAD
    try:
        for each in sockets:
            if closely:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CLOSE)
            channels.append(
                SocketChannel(
                    each, f"migration {name}", latency_s=latency_s, timeout_s=timeout_s, most_ahead=most_ahead
                )
            )
    except BaseException:  # no thread to be had; closing a socket at which one waits would wake neither side
        for channel in channels:
            channel.close()
        raise
    return Connection(channels[0], channels[1:])


def refuse_channels(address: Address, channels: int) -> None:
    """Raise AddressError if so many multifd channels cannot be had at an address."""
    if channels and isinstance(address, FdAddress):
        raise AddressError(f"multifd_channels need more connections than {address} is: give a unix: or tcp: address")


def resolved(address: TcpAddress, *, passive: bool) -> list[tuple[int, Any]]:
    """Give families and addresses of a host and port; `passive`: to listen at. Raises OSError with QEMU's words."""
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE if passive else 0
        )
    except (OSError, UnicodeError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise OSError(errno.EADDRNOTAVAIL, f"address resolution failed for {address}: {what}") from error
    return [(family, target) for family, _, _, _, target in found]


def given_socket(address: FdAddress) -> socket.socket:
    """Take a descriptor over; it is closed with the migration, as QEMU does it."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(address.number).st_mode)
    except OSError as error:
        raise OSError(error.errno, f"File descriptor {address.number} cannot be used: {error.strerror}") from error
    if not is_socket:
        raise OSError(errno.ENOTSOCK, f"File descriptor {address.number} is no socket")
    sock = socket.socket(fileno=address.number)
    sock.setblocking(True)
    return sock


def tune(sock: socket.socket) -> None:
    """Have what is sent sent at once, and a peer that is gone without a word noticed some day."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def wait_a_moment(sock: socket.socket, what: int) -> bool:
    """Wait a moment for a socket to be ready; says whether it is."""
    poll = select.poll()
    poll.register(sock, what)
    return bool(poll.poll(_LOOK_UP_S * 1000))
