"""Where a migration goes to or comes from: QEMU's uris, as far as they are for two processes."""

import os
import re
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


Address = UnixAddress | TcpAddress | FdAddress


def parse_uri(uri: str) -> Address:
    """
    Read a uri: `unix:PATH`, `tcp:HOST:PORT` (`tcp:[::1]:4444`), `fd:NUMBER`.

    Raises:
        AddressError: it is none of these; the text is QEMU's, where QEMU has one.

    """
    kind, _, rest = uri.partition(":")
    if uri == kind or kind not in ("unix", "tcp", "fd"):
        raise AddressError(f"unknown migration protocol: {uri}")
    if kind == "unix":
        if not rest or "\0" in rest:
            raise AddressError("invalid Unix socket address")
        try:
            size = len(os.fsencode(rest))
        except UnicodeEncodeError as error:
            raise AddressError(f"invalid Unix socket address: {error}") from error
        if size > _LONGEST_PATH:
            raise AddressError(f"UNIX socket path '{rest}' is too long: it has to be within {_LONGEST_PATH} bytes")
        return UnixAddress(rest)
    if kind == "fd":
        if not rest.isdecimal() or len(rest) > _DIGITS:
            raise AddressError(f"File descriptor named '{rest}' has not been found")
        return FdAddress(int(rest))
    match = _TCP.fullmatch(rest)
    if match is None:
        raise AddressError(f"error parsing address '{rest}'")
    host, port = (match["six"], match["port6"]) if match["six"] is not None else (match["host"], match["port"])
    if not port or (port.isdecimal() and int(port) > _HIGHEST_PORT):  # which the system would take for others
        raise AddressError(f"error parsing port in address '{rest}'")
    return TcpAddress(host, port)


def uri_of(address: Address) -> str:
    """Write an address as a uri."""
    if isinstance(address, UnixAddress):
        return f"unix:{address}"
    return f"tcp:{address}" if isinstance(address, TcpAddress) else str(address)


_DIGITS = 9
_HIGHEST_PORT = 65535
