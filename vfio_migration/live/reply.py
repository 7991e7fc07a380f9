"""The return path: what the destination answers on the way back of the stream (QEMU's `MIG_RP_MSG_*`)."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from vfio_migration.errors import StreamError
from vmstate import Channel, ChannelClosedError

_HEADER = struct.Struct(">BI")
_MAX_TEXT = 64 * 1024


class ReplyKind(IntEnum):
    """What the destination has to say."""

    READY = 1  # its devices can receive
    RUNNING = 2  # its machine has taken over
    FAILED = 3  # it has not, and never will


@dataclass(frozen=True)
class Reply:
    """An answer; the text says why the destination failed."""

    kind: ReplyKind
    text: str = ""


def send_reply(channel: Channel, reply: Reply) -> None:
    """Send an answer; raises ChannelClosedError if the source is gone."""
    text = reply.text.encode(errors="replace")[:_MAX_TEXT]
    channel.send(_HEADER.pack(reply.kind, len(text)) + text)


def receive_reply(channel: Channel) -> Reply:
    """
    Wait for an answer.

    Raises:
        StreamError: the destination went away without one, or answered something else.

    """
    kind, length = _HEADER.unpack(_receive(channel, _HEADER.size))
    if kind not in list(ReplyKind) or length > _MAX_TEXT:
        raise StreamError(f"the destination answered something unknown (kind {kind}, {length} bytes)")
    return Reply(ReplyKind(kind), _receive(channel, length).decode(errors="replace"))


def _receive(channel: Channel, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            more = channel.receive(size - len(data))
        except ChannelClosedError as error:
            raise StreamError("the connection to the destination was cut off") from error
        if not more:
            raise StreamError("the destination went away without an answer")
        data += more
    return data
