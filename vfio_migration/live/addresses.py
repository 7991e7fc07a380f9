"""Where a migration goes to or comes from: QEMU's uris."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from vfio_migration.errors import AddressError

_TCP = re.compile(r"\[(?P<six>[^\]]*)\]:(?P<port6>[^:]*)|(?P<host>[^:]*):(?P<port>[^:]*)")
_LONGEST_PATH = 107  # bytes, of a Unix socket


@dataclass(frozen=True)
class UnixAddress:
    """`unix:PATH`."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class TcpAddress:
    """`tcp:HOST:PORT`; an empty host listens everywhere, port 0 is one that the system chooses."""

    host: str
    port: str

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class FdAddress:
    """`fd:NUMBER`: a connected socket that this process was given, or was made to have."""

    number: int

    def __str__(self) -> str:
        return f"fd:{self.number}"


@dataclass(frozen=True)
class FileAddress:
    """`file:PATH[,offset=BYTES]`: a file, written by a source that asks nobody and read by a destination later on."""

    path: str
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.path},offset={self.offset}" if self.offset else self.path


@dataclass(frozen=True)
class ExecAddress:
    """`exec:COMMAND`: what a shell's command reads, or writes."""

    command: str

    def __str__(self) -> str:
        return self.command


@dataclass(frozen=True)
class VsockAddress:
    """`vsock:CID:PORT`: a socket between a virtual machine and its host."""

    cid: str
    port: str

    def __str__(self) -> str:
        return f"{self.cid}:{self.port}"


OneWayAddress = FileAddress | ExecAddress
Address = UnixAddress | TcpAddress | VsockAddress | FdAddress | OneWayAddress


def parse_uri(uri: str) -> Address:
    """
    Read a uri: `unix:PATH`, `tcp:HOST:PORT` (`tcp:[::1]:4444`), `vsock:CID:PORT`, `fd:NUMBER`, `file:PATH`,
    `exec:COMMAND`.

    Raises:
        AddressError: it is none of these; the text is QEMU's, where QEMU has one.

    """
    kind, colon, rest = uri.partition(":")
    if not colon or kind not in _READERS:
        raise AddressError(f"unknown migration protocol: {uri}")
    return _READERS[kind](rest)


def uri_of(address: Address) -> str:
    """Write an address as a uri."""
    return str(address) if isinstance(address, FdAddress) else f"{_KINDS[type(address)]}:{address}"


def _unix(rest: str) -> UnixAddress:
    if not rest or "\0" in rest:
        raise AddressError("invalid Unix socket address")
    try:
        size = len(os.fsencode(rest))
    except UnicodeEncodeError as error:
        raise AddressError(f"invalid Unix socket address: {error}") from error
    if size > _LONGEST_PATH:
        raise AddressError(f"UNIX socket path '{rest}' is too long: it has to be within {_LONGEST_PATH} bytes")
    return UnixAddress(rest)


def _fd(rest: str) -> FdAddress:
    if not rest.isdecimal() or len(rest) > _DIGITS:
        raise AddressError(f"File descriptor named '{rest}' has not been found")
    return FdAddress(int(rest))


def _tcp(rest: str) -> TcpAddress:
    match = _TCP.fullmatch(rest)
    if match is None:
        raise AddressError(f"error parsing address '{rest}'")
    host, port = (match["six"], match["port6"]) if match["six"] is not None else (match["host"], match["port"])
    if not port or (port.isdecimal() and int(port) > _HIGHEST_PORT):  # which the system would take for others
        raise AddressError(f"error parsing port in address '{rest}'")
    return TcpAddress(host, port)


def _vsock(rest: str) -> VsockAddress:
    cid, colon, port = rest.partition(":")
    if not (colon and cid.isdecimal() and port.isdecimal() and len(cid) <= _DIGITS and len(port) <= _DIGITS):
        raise AddressError(f"error parsing address '{rest}'")
    return VsockAddress(cid, port)


def _file(rest: str) -> FileAddress:
    path, found, offset = rest.rpartition(",offset=")
    if not found:
        return FileAddress(rest)
    try:
        return FileAddress(path, int(offset, 0))
    except ValueError as error:
        raise AddressError(f"file URI has bad offset {offset}") from error


_READERS: dict[str, Callable[[str], Address]] = {
    "unix": _unix,
    "tcp": _tcp,
    "vsock": _vsock,
    "fd": _fd,
    "file": _file,
    "exec": ExecAddress,
}
_KINDS = {
    UnixAddress: "unix",
    TcpAddress: "tcp",
    VsockAddress: "vsock",
    FileAddress: "file",
    ExecAddress: "exec",
}
_DIGITS = 9
_HIGHEST_PORT = 65535
