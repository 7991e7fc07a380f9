"""How a source connects to another process: over Unix and TCP sockets, and descriptors."""

import errno
import os
import select
import socket
import time
from contextlib import suppress
from typing import Any

from vfio_migration.live.addresses import Address, FdAddress, TcpAddress, UnixAddress, VsockAddress
from vfio_migration.live.connection import Connection
from vfio_migration.live.hello import Hello, new_migration
from vfio_migration.live.sockets import (
    Abortable,
    connection_of,
    given_socket,
    refuse_channels,
    resolved,
    tune,
    wait_a_moment,
)

_LOOK_AGAIN_S = 0.001


class SocketConnector(Abortable):
    """
    Connects to an address, `channels` times more for multifd, each within `connect_timeout_s` (None: as long as the
    system tries). What is connected counts as lost after `timeout_s` in which nothing could be sent.

    Raises:
        AddressError: a descriptor is one connection, and can have no channels beside it.

    """

    def __init__(
        self,
        address: Address,
        *,
        channels: int = 0,
        latency_s: float = 0.0,
        timeout_s: float | None = None,
        closely: bool = False,
        connect_timeout_s: float | None = None,
    ) -> None:
        super().__init__()
        refuse_channels(address, channels)
        self._address = address
        self._channels = channels
        self._latency_s = latency_s
        self._timeout_s = timeout_s
        self._closely = closely  # see `connection_of`
        self._connect_timeout_s = connect_timeout_s

    def connect(self) -> Connection:
        """Connect; raises OSError with QEMU's words."""
        migration = new_migration()
        sockets: list[socket.socket] = []
        try:
            for number in range(1 + self._channels):
                sockets.append(self._connect())
                self._greet(sockets[-1], Hello(number, migration, self._channels))
            return self._connected(
                connection_of(
                    sockets,
                    f"to {self._address}",
                    latency_s=self._latency_s,
                    timeout_s=self._timeout_s,
                    closely=self._closely,
                )
            )
        except BaseException:
            _close(sockets)
            raise

    def _connect(self) -> socket.socket:
        address = self._address
        if isinstance(address, FdAddress):
            return given_socket(address)
        if isinstance(address, UnixAddress):
            return self._connect_to(socket.AF_UNIX, address.path)
        if isinstance(address, VsockAddress):
            return self._connect_to(socket.AF_VSOCK, (int(address.cid), int(address.port)))
        assert isinstance(address, TcpAddress)  # noqa: S101 - what goes one way only has a connector of its own
        failed: OSError | None = None
        for family, target in resolved(address, passive=False):
            try:
                return self._connect_to(family, target)
            except ConnectionAbortedError:
                raise
            except OSError as error:
                failed = error
        raise failed or OSError(errno.EADDRNOTAVAIL, f"address resolution failed for {address}")

    def _connect_to(self, family: int, target: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            until = None if self._connect_timeout_s is None else time.monotonic() + self._connect_timeout_s
            code = sock.connect_ex(target)
            while code == errno.EAGAIN and (until is None or time.monotonic() < until):
                self._check()  # of a Unix socket: as many as may wait there do, and nothing says when there is room
                time.sleep(_LOOK_AGAIN_S)
                code = sock.connect_ex(target)
            if code == errno.EINPROGRESS:
                code = self._await(sock, until)
            self._refuse(code)
            sock.setblocking(True)
            tune(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def _await(self, sock: socket.socket, until: float | None) -> int:
        while not wait_a_moment(sock, select.POLLOUT):
            self._check()
            if until is not None and time.monotonic() >= until:
                return errno.ETIMEDOUT
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def _greet(self, sock: socket.socket, hello: Hello) -> None:
        """Say hello; to a descriptor whose other side takes nothing, too."""
        rest = hello.packed()
        until = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        sock.setblocking(False)
        while rest:
            self._check()
            with suppress(BlockingIOError):
                rest = rest[sock.send(rest) :]
                continue
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(errno.ETIMEDOUT, f"the other side has taken nothing for {self._timeout_s:g} s")
            wait_a_moment(sock, select.POLLOUT)

    def _refuse(self, code: int) -> None:
        if code:
            raise OSError(code, f"Failed to connect to '{self._address}': {os.strerror(code)}")


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()
