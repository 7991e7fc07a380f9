"""Migrating by way of a file, a pipe or a command: nobody is asked, and nobody answers (QEMU's `file`, `exec`)."""

import os
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from vfio_migration.errors import AddressError
from vfio_migration.live.addresses import Address, ExecAddress, FdAddress, FileAddress
from vfio_migration.live.byte_file import ByteFile
from vfio_migration.live.connection import Connection
from vfio_migration.live.hello import SIZE, Hello, new_migration, read_hello
from vfio_migration.live.sockets import Abortable
from vmstate import ChannelClosedError

_SHELL = "/bin/sh"
_ENDS_AT_ONCE_S = 0.1


def goes_one_way(address: Address, *, confirmed: bool) -> bool:
    """Whether nothing can come back from there; a descriptor is to be a socket where an answer is needed."""
    if isinstance(address, FdAddress) and not confirmed:
        try:
            return not stat.S_ISSOCK(os.fstat(address.number).st_mode)
        except OSError:
            return False  # connecting says what is wrong
    return isinstance(address, FileAddress | ExecAddress)


def refuse_questions(address: Address, *, confirmed: bool, channels: int) -> None:
    """Raise AddressError if a migration that goes one way is to be answered, or to go several ways."""
    if confirmed:
        raise AddressError(
            f"{address} goes one way only, and a takeover that is confirmed needs an answer: take 'qemu'"
        )
    if channels:
        raise AddressError("Migration requires multi-channel URIs (e.g. tcp)")


class OneWayConnector(Abortable):
    """Writes to a file, to the input of a command or to a descriptor that is no socket (`Connector`)."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address

    def connect(self) -> Connection:
        """Open it, and say hello as over a socket; raises OSError with QEMU's words."""
        file = _written(self._address)
        connection = self._connected(Connection(file))
        with suppress(ChannelClosedError):  # the set-up says so, as where a connection breaks a moment later
            file.send(Hello(0, new_migration(), 0).packed())
        return connection


class OneWayAcceptor:
    """Reads from a file, from the output of a command or from a descriptor that is no socket (`Acceptor`)."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._file: ByteFile | None = None

    @property
    def address(self) -> Address:
        """Where it reads."""
        return self._address

    def open(self) -> None:
        """Open it; raises OSError with QEMU's words."""
        self._file = _read(self._address)

    def accept(self) -> Connection:
        """See that a migration begins there."""
        file = self._file
        assert file is not None  # noqa: S101 - opened before
        data = b""
        while len(data) < SIZE and (more := file.receive(SIZE - len(data))):
            data += more
        try:
            read_hello(data)
        except BaseException:
            file.close()
            raise
        return Connection(file)

    def abort(self) -> None:
        """Give up."""
        if self._file is not None:
            self._file.abort()

    def close(self) -> None:
        """Let go of it."""
        if self._file is not None:
            self._file.close()


def _written(address: Address) -> ByteFile:
    if isinstance(address, FdAddress):
        return ByteFile(address.number)
    if isinstance(address, ExecAddress):
        # The command is what the user of the monitor says, as with QEMU.
        process = subprocess.Popen([_SHELL, "-c", address.command], stdin=subprocess.PIPE, bufsize=0)  # noqa: S603
        assert process.stdin is not None  # noqa: S101 - a pipe
        with suppress(subprocess.TimeoutExpired):  # one that ends at once fails the set-up, and no later step
            process.wait(_ENDS_AT_ONCE_S)
        return ByteFile(os.dup(process.stdin.fileno()), _without_pipe(process))
    assert isinstance(address, FileAddress)  # noqa: S101 - nothing else goes one way
    flags = os.O_WRONLY | os.O_CREAT | (0 if address.offset else os.O_TRUNC)
    return ByteFile(_opened(address, flags, "create"))


def _read(address: Address) -> ByteFile:
    if isinstance(address, FdAddress):
        return ByteFile(address.number)
    if isinstance(address, ExecAddress):
        process = subprocess.Popen([_SHELL, "-c", address.command], stdout=subprocess.PIPE, bufsize=0)  # noqa: S603
        assert process.stdout is not None  # noqa: S101 - a pipe
        return ByteFile(os.dup(process.stdout.fileno()), _without_pipe(process))
    assert isinstance(address, FileAddress)  # noqa: S101 - nothing else comes one way
    return ByteFile(_opened(address, os.O_RDONLY, "open"))


def _without_pipe(process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    """Close our first descriptor of a pipe: the second, which is non-blocking, is all that keeps it open."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    return process


def _opened(address: FileAddress, flags: int, what: str) -> int:
    try:
        descriptor = os.open(Path(address.path) if address.path else "", flags | os.O_CLOEXEC, 0o660)
        if address.offset:
            os.lseek(descriptor, address.offset, os.SEEK_SET)
    except OSError as error:
        raise OSError(error.errno, f"Could not {what} '{address.path}': {error.strerror}") from error
    return descriptor
