"""
What each connection begins with where two processes are connected: which migration it is of, and what it is for.

    hello     8 bytes "VSWCONN1"; 0 for the stream, else the number of a multifd channel from 1 on, 2 bytes; how many
              channels there are, 2 bytes; 16 bytes that all connections of one migration have in common; CRC-32 of all
              that, 4 bytes

It is no part of the stream, which is the same in one process and in two.
"""

import secrets
import struct
import zlib
from dataclasses import dataclass

from vfio_migration.errors import NoHelloError

_HELLO = struct.Struct(">8sHH16s")
_CHECKSUM = struct.Struct(">I")
_MAGIC = b"VSWCONN1"
SIZE = _HELLO.size + _CHECKSUM.size  # bytes
_SHOWN = 24


@dataclass(frozen=True)
class Hello:
    """What a connection is for: `number` 0 is the stream, beside which there are so many `channels`."""

    number: int
    migration: bytes
    channels: int = 0

    def packed(self) -> bytes:
        """Give the bytes."""
        data = _HELLO.pack(_MAGIC, self.number, self.channels, self.migration)
        return data + _CHECKSUM.pack(zlib.crc32(data))


def new_migration() -> bytes:
    """Give what tells one migration from all others."""
    return secrets.token_bytes(16)


def read_hello(data: bytes) -> Hello:
    """
    Read what came first.

    Raises:
        NoHelloError: it is no beginning of ours; the text says what it was.

    """
    if len(data) == SIZE and data.startswith(_MAGIC):
        (checksum,) = _CHECKSUM.unpack_from(data, _HELLO.size)
        if checksum == zlib.crc32(data[: _HELLO.size]):
            _, number, channels, migration = _HELLO.unpack_from(data)
            return Hello(number, migration, channels)
    came = "nothing" if not data else repr(data[:_SHOWN]) + ("..." if len(data) > _SHOWN else "")
    raise NoHelloError(
        f"no migration stream of vfio-switchover: it should begin {_MAGIC!r}, and what came is {came}", data
    )
