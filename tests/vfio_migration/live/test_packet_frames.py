"""What comes over a multifd channel and is cut short, altered or none of ours says so, and where."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_migration import StreamError
from vfio_migration.changes import Packet, PacketKind
from vfio_migration.live.packet_frames import ChannelReader, ChannelWriter
from vmstate import ChannelClosedError

PACKETS = [(0, Packet(0, PacketKind.DATA, b"state", 5)), (3, Packet(1, PacketKind.DATA, b"", 7))]


class Bytes:
    """A channel that is nothing but what was sent over it; `cut` once that was received."""

    def __init__(self, data: bytes = b"", *, cut: bool = False) -> None:
        self.data = data
        self.ready = True
        self._cut = cut

    def send(self, data: bytes) -> None:
        self.data += data

    def receive(self, size: int, timeout: float | None = None) -> bytes:
        data, self.data = self.data[:size], self.data[size:]
        if not data and self._cut:
            raise ChannelClosedError("this side has closed the channel")
        return data

    def end(self) -> None:
        """Nothing follows anyway."""

    abort = close = end


def sent(number: int = 1) -> bytes:
    channel = Bytes()
    writer = ChannelWriter(channel, number)
    writer.begin()
    for index, packet in PACKETS:
        writer.packet(index, packet)
    writer.end()
    return channel.data


def sealed(*parts: bytes) -> bytes:
    """Parts with the checksums that they should have."""
    data = b""
    for part in parts:
        data += part
        data += struct.pack(">I", zlib.crc32(data))
    return data


BEGINNING = struct.pack(">8sH", b"VSWCHAN1", 1)


def head(kind: int = 1, length: int = 0, stands_for: int = 0) -> bytes:
    return struct.pack(">BIQBQI", 1, 0, 0, kind, stands_for, length)


def test_what_was_sent_arrives() -> None:
    channel = Bytes(sent())
    reader = ChannelReader(channel, 1)
    assert list(reader.packets()) == PACKETS
    assert reader.received == len(sent())
    reader.close()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (sent(2), "expected b'VSWCHAN1' and 1, got b'VSWCHAN1' and 2"),
        (b"GET / HTTP/1.1\r\n", "expected b'VSWCHAN1' and 1, got b'GET / HT' and"),
        (sealed(BEGINNING) + b"\7", r"expected a packet \(1\) or the end \(0\), got 7"),
        (sealed(BEGINNING, head(length=1 << 30)), "no packet that a source sends: kind 1, 1073741824 bytes"),
        (
            sealed(BEGINNING, head(stands_for=1 << 50)),
            "no packet that a source sends: kind 1, 0 bytes that stand for 1125899906842624",
        ),
        (sealed(BEGINNING, head(kind=9)), "no packet that a source sends: kind 9"),
        (sealed(BEGINNING, struct.pack(">BQ", 0, 3)), "0 packets arrived, 3 were sent"),
        (sent()[:-1], "the channel ends here, 1 more bytes were expected"),
    ],
)
def test_what_no_source_sends_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(StreamError, match=rf"multifd channel 1, offset \d+: {text}"):
        list(ChannelReader(Bytes(data), 1).packets())


def test_a_channel_that_was_cut_off_says_so() -> None:
    with pytest.raises(StreamError, match="multifd channel 1, offset 14: the channel was cut off"):
        list(ChannelReader(Bytes(sealed(BEGINNING), cut=True), 1).packets())


@given(st.integers(0, len(sent()) - 1), st.integers(1, 255))
def test_any_byte_that_is_altered_is_noticed(place: int, by: int) -> None:
    data = bytearray(sent())
    data[place] ^= by
    with pytest.raises(StreamError, match="multifd channel 1, offset"):
        list(ChannelReader(Bytes(bytes(data)), 1).packets())


@given(st.integers(0, len(sent()) - 1))
def test_any_part_is_less_than_all(size: int) -> None:
    with pytest.raises(StreamError, match="more bytes were expected"):
        list(ChannelReader(Bytes(sent()[:size]), 1).packets())
