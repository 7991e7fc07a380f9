"""
The way back: what the destination has to say, and how the source makes sure of it.

Answers and requests are frames of a fixed size under a checksum, numbers big-endian:

    answer    4 bytes "VSWA"; number, from 1 on, 4 bytes; kind, 1 byte; the checksum that ends the stream (0: none was
              seen), 4 bytes; length of the text, 2 bytes; the text in UTF-8, filled up with zeros to 512 bytes in all,
              the last 4 of them a CRC-32
    request   4 bytes "VSWR"; kind, 1 byte; CRC-32, 4 bytes

Their size is fixed so that whatever is altered, the next frame begins where it should: a length that was altered would
swallow what follows. An answer that fails its check is asked for again; that the destination runs only counts with the
checksum of the very stream that was sent, so an answer from elsewhere, or one that comes early, is none. One of a
number that was heard before is ignored.
"""

import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from vfio_migration.errors import StreamError
from vmstate import Channel, ChannelClosedError

_ANSWER = struct.Struct(">4sIBIH")
_ANSWER_MAGIC = b"VSWA"
ANSWER_SIZE = 512  # bytes
_CHECKSUM = struct.Struct(">I")
_LONGEST_TEXT = ANSWER_SIZE - _ANSWER.size - _CHECKSUM.size
_REQUEST = struct.Struct(">4sB")
_REQUEST_MAGIC = b"VSWR"
_REQUEST_SIZE = _REQUEST.size + _CHECKSUM.size
_MOST_REPEATS = 16  # of an answer; a connection that alters more than so many is as good as none


class AnswerKind(IntEnum):
    """What the destination has to say."""

    READY = 1  # its devices can receive
    ACK = 5  # what a device sent before the stop has arrived (QEMU's `MIG_RP_MSG_SWITCHOVER_ACK`)
    LOADED = 4  # everything has arrived (QEMU's `MIG_RP_MSG_SHUT`, with takeover "qemu" and a return path)
    RUNNING = 2  # its machine has taken over
    FAILED = 3  # it has not, and never will


class _RequestKind(IntEnum):
    REPEAT = 1
    THANKS = 2  # the source has heard it


@dataclass(frozen=True)
class Answer:
    """An answer; the text says why the destination failed, `stream` is the checksum that ended the stream."""

    kind: AnswerKind
    stream: int = 0
    text: str = ""

    def packed(self, number: int = 1) -> bytes:
        """Give the frame of this number."""
        text = self.text.encode(errors="replace")
        if len(text) > _LONGEST_TEXT:
            text = text[: _LONGEST_TEXT - 3].decode(errors="ignore").encode() + b"..."
        head = _ANSWER.pack(_ANSWER_MAGIC, number, self.kind, self.stream, len(text))
        return _sealed((head + text).ljust(ANSWER_SIZE - _CHECKSUM.size, b"\0"))


_IN_BETWEEN = (AnswerKind.READY, AnswerKind.ACK)  # said while the source still sends


class AnswerSender:
    """The destination's way to say things, each under a number of its own; for one thread."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._number = 0

    def ready(self) -> None:
        """Say that the devices can receive, once; raises ChannelClosedError if the source is gone."""
        self.tell(Answer(AnswerKind.READY))

    def arrived(self, device: str) -> None:
        """Say that what this device sent before the stop has arrived; raises as `ready`."""
        self.tell(Answer(AnswerKind.ACK, text=device))

    def tell(self, answer: Answer) -> None:
        """Say something once, whether it is heard or not; raises as `ready`."""
        self._channel.send(self._next(answer))

    def give(self, answer: Answer, *, timeout_s: float | None = None) -> None:
        """
        Give an answer, and repeat it, under its number, until the source has heard it or is gone.

        Raises:
            ChannelClosedError: the source is gone.
            TimeoutError: it does not say for so many seconds whether it has heard it.

        """
        frame = self._next(answer)
        for _ in range(_MOST_REPEATS):
            self._channel.send(frame)
            request = _receive(self._channel, _REQUEST_SIZE, timeout_s)
            if request is None or request == _request(_RequestKind.THANKS):
                return  # gone: it has heard it, or will say that it does not know
            # Whatever else it is, altered or not, it can only ask for one thing.

    def _next(self, answer: Answer) -> bytes:
        self._number += 1
        return answer.packed(self._number)


class AnswerReader:
    """What the source hears: each answer once, whatever was repeated on its way; for one thread."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._heard = 0  # the highest number

    def next(self, timeout_s: float | None = None) -> Answer | None:
        """
        Wait for the next answer; None if it was altered, or says something unknown.

        Raises:
            StreamError: the connection ended.
            TimeoutError: nothing came for so many seconds.
            ChannelClosedError: this end was closed.

        """
        while True:
            frame = _receive(self.channel, ANSWER_SIZE, timeout_s)
            if frame is None:
                raise StreamError("the connection ended without an answer of the destination")
            answer = read_answer(frame)
            if answer is None:
                return None
            _, number, *_ = _ANSWER.unpack_from(frame)
            if number <= self._heard:
                continue  # it was heard before
            self._heard = number
            return answer


def read_answer(frame: bytes) -> Answer | None:
    """Read a frame; None if it is none, was altered, or says something unknown."""
    if len(frame) != ANSWER_SIZE or not _intact(frame):
        return None
    magic, _, kind, stream, length = _ANSWER.unpack_from(frame)
    if magic != _ANSWER_MAGIC or kind not in list(AnswerKind) or length > _LONGEST_TEXT:
        return None
    text = frame[_ANSWER.size : _ANSWER.size + length]
    return Answer(AnswerKind(kind), stream, text.decode(errors="replace"))


def await_answer(answers: AnswerReader, stream: int, *, timeout_s: float | None = None) -> Answer:
    """
    Wait for an answer to the stream that ended with this checksum.

    Raises:
        StreamError: the connection ended, or altered every answer.
        TimeoutError: there was none after so many seconds.

    """
    repeats = 0
    while repeats < _MOST_REPEATS:
        answer = answers.next(timeout_s)
        if answer is not None and answer.kind in _IN_BETWEEN:
            continue  # nobody had to wait for it
        if answer is not None and (answer.kind is AnswerKind.FAILED or answer.stream == stream):
            _say(answers.channel, _RequestKind.THANKS)
            return answer
        _say(answers.channel, _RequestKind.REPEAT)
        repeats += 1
    raise StreamError(f"each of {_MOST_REPEATS} answers of the destination was altered on its way")


def last_words(answers: AnswerReader, *, timeout_s: float) -> str | None:
    """Give what the destination says of its failure, where the connection was cut; None if it says nothing."""
    try:
        answer = answers.next(timeout_s)
        while answer is not None and answer.kind in _IN_BETWEEN:  # not read yet; what counts comes behind it
            answer = answers.next(timeout_s)
    except (StreamError, TimeoutError, OSError):
        return None
    return answer.text if answer is not None and answer.kind is AnswerKind.FAILED else None


def _say(channel: Channel, kind: _RequestKind) -> None:
    with suppress(OSError):  # the next receive says so if anybody needs to know
        channel.send(_request(kind))


def _request(kind: _RequestKind) -> bytes:
    return _sealed(_REQUEST.pack(_REQUEST_MAGIC, kind))


def _sealed(data: bytes) -> bytes:
    return data + _CHECKSUM.pack(zlib.crc32(data))


def _intact(frame: bytes) -> bool:
    return _sealed(frame[: -_CHECKSUM.size]) == frame


def _receive(channel: Channel, size: int, timeout_s: float | None = None) -> bytes | None:
    """Receive a whole frame; None if the connection ends before that."""
    frame = b""
    while len(frame) < size:
        try:
            more = channel.receive(size - len(frame), timeout_s)
        except ChannelClosedError:
            return None
        if not more:
            return None
        frame += more
    return frame
