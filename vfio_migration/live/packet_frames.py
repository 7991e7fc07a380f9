"""
Packets of device state on a channel of their own, beside the main stream.

Numbers are big-endian:

    beginning  8 bytes "VSWCHAN1"; the channel's number, 2 bytes
    packet     byte 1; index of the device, 4 bytes; number of the packet, 8 bytes; kind (`PacketKind`), 1 byte; bytes
               of state that it stands for, 8 bytes; length, 4 bytes; the data
    end        byte 0; the number of packets, 8 bytes

Each of them is followed by 4 bytes of CRC-32 over all bytes of the channel before them. Which device has which index,
and that these devices come over channels at all, is said in the main stream.
"""

import struct
import zlib
from collections.abc import Iterator

from vfio_migration.changes import Packet, PacketKind
from vfio_migration.device import CHUNK
from vfio_migration.errors import StreamError
from vmstate import Channel, ChannelClosedError

_MAGIC = b"VSWCHAN1"
_BEGINNING = struct.Struct(">8sH")
_PACKET = struct.Struct(">BIQBQI")
_END = struct.Struct(">BQ")
_CHECKSUM = struct.Struct(">I")
_LONGEST = CHUNK + 64 * 1024  # bytes of a packet: a chunk of state, and a device's own framing of it
_MOST_STATE = 1 << 40
_RECEIVE = 256 * 1024


class ChannelWriter:
    """
    Writes one channel; for one thread at a time.

    Raises:
        ChannelClosedError: (all methods) the destination is gone.

    """

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._checksum = 0
        self._packets = 0
        self.number = number

    def begin(self) -> None:
        """Say which channel it is."""
        self._send(_BEGINNING.pack(_MAGIC, self.number))

    def packet(self, index: int, packet: Packet) -> int:
        """Send a packet of the device with this index; gives how many bytes that were."""
        size = len(packet.data)
        head = _PACKET.pack(1, index, packet.number, packet.kind, packet.stands_for, size)
        self._packets += 1
        return self._send(head + packet.data)

    def end(self) -> None:
        """Send the end."""
        self._send(_END.pack(0, self._packets))

    def _send(self, data: bytes) -> int:
        self._checksum = zlib.crc32(data, self._checksum)
        seal = _CHECKSUM.pack(self._checksum)
        self._checksum = zlib.crc32(seal, self._checksum)
        self._channel.send(data + seal)
        return len(data) + len(seal)


class ChannelReader:
    """
    Reads one channel; for one thread.

    Raises:
        StreamError: (all methods) what comes is cut short, altered or none of ours.

    """

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number
        self._ahead = bytearray()
        self._checksum = 0
        self._offset = 0
        self.received = 0  # bytes so far; read by others, where an old one does no harm

    def packets(self) -> Iterator[tuple[int, Packet]]:
        """Give each packet with the index of its device, up to the end of the channel."""
        magic, number = _BEGINNING.unpack(self._read(_BEGINNING.size))
        if magic != _MAGIC or number != self._number:
            raise self._error(f"expected {_MAGIC!r} and {self._number}, got {magic!r} and {number}")
        self._check_seal()
        count = 0
        while True:
            kind = self._read(1)
            if kind == b"\0":
                break
            if kind != b"\1":
                raise self._error(f"expected a packet (1) or the end (0), got {kind[0]}")
            yield self._packet(kind)
            count += 1
        _, expected = _END.unpack(kind + self._read(_END.size - 1))
        if expected != count:
            raise self._error(f"{count} packets arrived, {expected} were sent")
        self._check_seal()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _packet(self, first: bytes) -> tuple[int, Packet]:
        head = first + self._read(_PACKET.size - 1)
        _, index, number, kind, stands_for, length = _PACKET.unpack(head)
        if length > _LONGEST or stands_for > _MOST_STATE or kind not in list(PacketKind):
            raise self._error(f"no packet that a source sends: kind {kind}, {length} bytes that stand for {stands_for}")
        data = self._read(length)
        self._check_seal()
        return index, Packet(number, PacketKind(kind), data, stands_for)

    def _read(self, size: int) -> bytes:
        while len(self._ahead) < size:
            try:
                more = self._channel.receive(_RECEIVE)
            except ChannelClosedError as error:
                raise self._error("the channel was cut off") from error
            if not more:
                raise self._error(f"the channel ends here, {size - len(self._ahead)} more bytes were expected")
            self._ahead += more
            self.received += len(more)
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        self._checksum = zlib.crc32(data, self._checksum)
        self._offset += size
        return data

    def _check_seal(self) -> None:
        expected = self._checksum
        (found,) = _CHECKSUM.unpack(self._read(_CHECKSUM.size))
        if found != expected:
            raise self._error(f"checksum 0x{found:08x} does not fit what arrived (0x{expected:08x}): altered")

    def _error(self, what: str) -> StreamError:
        return StreamError(f"multifd channel {self._number}, offset {self._offset}: {what}")
