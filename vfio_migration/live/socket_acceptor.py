"""How a destination listens for another process: at Unix and TCP sockets, and descriptors."""

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vfio_migration.errors import StreamError
from vfio_migration.live.addresses import Address, FdAddress, TcpAddress, UnixAddress, VsockAddress
from vfio_migration.live.channel_greetings import ChannelGreetings
from vfio_migration.live.connection import Connection
from vfio_migration.live.hello import SIZE, Hello, read_hello
from vfio_migration.live.parameters import MOST_CHANNELS
from vfio_migration.live.sockets import (
    Abortable,
    connection_of,
    given_socket,
    refuse_channels,
    resolved,
    tune,
    wait_a_moment,
)
from vfio_migration.live.unix_paths import make_way

_BACKLOG = 16


class SocketAcceptor(Abortable):
    """
    Listens at an address for one migration, with as many more connections for multifd as its source has.

    `channels` is how many are expected.

    Whoever comes first has to be a source, and to say so within `hello_s`. Listening is over when all that belongs to
    the migration has come; whoever else comes before that is closed, and a Unix socket's file goes with the listening.

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
        hello_s: float = 10.0,
    ) -> None:
        super().__init__()
        refuse_channels(address, channels)
        self._address = address
        self._channels = channels
        self._latency_s = latency_s
        self._timeout_s = timeout_s
        self._closely = closely  # see `connection_of`
        self._hello_s = hello_s
        self._bound_to = address  # asked for while it listens no more, too
        self._listening: socket.socket | None = None
        self._given: socket.socket | None = None  # a descriptor that is connected already

    @property
    def address(self) -> Address:
        """Where it listens, with the port that the system chose."""
        return self._bound_to

    def open(self) -> None:
        """Listen; raises OSError with QEMU's words."""
        address = self._address
        if isinstance(address, FdAddress):
            sock = given_socket(address)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                self._listening = sock
            else:
                self._given = sock
            return
        if isinstance(address, UnixAddress):
            make_way(address.path)
            self._listening = self._listen(socket.AF_UNIX, address.path)
            return
        if isinstance(address, VsockAddress):
            self._listening = self._listen(socket.AF_VSOCK, (int(address.cid), int(address.port)))
            return
        assert isinstance(address, TcpAddress)  # noqa: S101 - what comes one way only has an acceptor of its own
        family, target = resolved(address, passive=True)[0]
        self._listening = self._listen(family, target)

    def accept(self) -> Connection:
        """Wait for the migration."""
        sockets: dict[int, socket.socket] = {}
        try:
            sockets[0], hello = self._first()
            # As many as the source has; whether that is right is said by the stream's header, which has come then too.
            if hello.channels:
                assert self._listening is not None  # noqa: S101 - looked at before
                greetings = ChannelGreetings(self._listening, hello.channels, hello.migration)
                sockets |= greetings.gather(time.monotonic() + self._hello_s, self._check)
            ordered = [sockets[number] for number in range(1 + hello.channels)]
            name = f"from {self._address}"
            return self._connected(
                connection_of(
                    ordered, name, latency_s=self._latency_s, timeout_s=self._timeout_s, closely=self._closely
                )
            )
        except BaseException:
            for each in sockets.values():
                each.close()
            raise
        finally:
            self._stop_listening()

    def close(self) -> None:
        """Listen no more, where `accept` was never called."""
        self._stop_listening()
        if self._given is not None:
            self._given.close()

    def _first(self) -> tuple[socket.socket, Hello]:
        if self._given is not None:
            sock, self._given = self._given, None
        else:
            sock = self._accept()
        try:
            hello = read_hello(_read_some(sock, SIZE, self._hello_s, self._check))
            self._refuse(hello)
        except BaseException:
            sock.close()
            raise
        return sock, hello

    def _refuse(self, hello: Hello) -> None:
        if hello.number:
            raise StreamError("a multifd channel came before the stream that it belongs to")
        if hello.channels > MOST_CHANNELS or (hello.channels and self._listening is None):
            raise StreamError(f"a stream with {hello.channels} multifd channels, which cannot be had here")

    def _accept(self) -> socket.socket:
        listening = self._listening
        assert listening is not None  # noqa: S101 - opened before
        while True:
            while not wait_a_moment(listening, select.POLLIN):
                self._check()
            with suppress(BlockingIOError, ConnectionAbortedError):  # whoever came is gone again
                sock, _ = listening.accept()
                sock.setblocking(True)
                tune(sock)
                return sock

    def _listen(self, family: int, target: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(target)
            sock.listen(max(_BACKLOG, 1 + self._channels))
            sock.setblocking(False)
            if isinstance(self._address, TcpAddress):
                host, port = sock.getsockname()[:2]
                self._bound_to = TcpAddress(host, str(port))
        except OSError as error:
            sock.close()
            raise OSError(error.errno, f"Failed to bind socket to {self._address}: {error.strerror}") from error
        return sock

    def _stop_listening(self) -> None:
        sock, self._listening = self._listening, None
        if sock is None:
            return
        sock.close()
        if isinstance(self._address, UnixAddress):
            with suppress(OSError):
                Path(self._address.path).unlink()


def _read_some(sock: socket.socket, size: int, seconds: float, check: Callable[[], None]) -> bytes:
    """Read so many bytes, or what came before the end; fewer too if the rest takes longer."""
    data = b""
    until = time.monotonic() + seconds
    while len(data) < size and time.monotonic() < until:
        check()
        if not wait_a_moment(sock, select.POLLIN):
            continue
        try:
            more = sock.recv(size - len(data))
        except OSError:
            break
        if not more:
            break
        data += more
    return data
