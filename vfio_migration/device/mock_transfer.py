"""
What is read from a mock device and written to one: records of pieces of its state, and an end.

A record is a head (kind, place, length, key), and the bytes after it where those travel. An end says how long the
state is and what all of it comes to, so that a device notices what a real one's firmware would: state that is
incomplete or was altered.
"""

import struct
from collections import deque

from vfio_migration.device.backend import Counted
from vfio_migration.device.mock_state import MockState, Piece, content

_HEAD = struct.Struct(">BQQ8s")  # kind; place; length; key, or of the end what the whole state comes to
_BYTES, _COUNTED, _END = 1, 2, 3
_LONGEST = 1024 * 1024  # bytes of state in a record
_ALTERED = 1 << 63  # no key of a device


class Outbox:
    """
    What can be read now; `counted`: only sizes travel.

    Not for several threads at once: whoever has it guards it.
    """

    def __init__(self, *, counted: bool) -> None:
        self._counted = counted
        self._pieces: deque[Piece] = deque()
        self._begun = b""  # the rest of a record of which something was read
        self._carried = 0  # bytes of state in that
        self.pending = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to read."""
        return not self._pieces and not self._begun

    def add(self, state: MockState, start: int, end: int) -> None:
        """Have a part of a state read, after all else."""
        self._pieces.extend(state.pieces(start, end))
        self.pending += end - start

    def close(self, state: MockState) -> None:
        """Have the end read, after all else."""
        self._pieces.append(_end_of(state))

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self._begun, self._carried, self.pending = b"", 0, 0

    def read(self, size: int) -> tuple[bytes, int]:
        """Give the next bytes, no more than `size`, and how many bytes of state they carry or stand for."""
        if not self._begun:
            self._begin(size)
        if isinstance(self._begun, Counted) or len(self._begun) <= size:
            data, carried = self._begun, self._carried
            self._begun, self._carried = b"", 0
        else:
            # Where a record does not fit its head comes by itself, so that a chunk of state is of a round size.
            size = _HEAD.size if len(self._begun) == _HEAD.size + self._carried and _HEAD.size < size else size
            data, self._begun = self._begun[:size], self._begun[size:]
            carried = max(0, self._carried - len(self._begun))
            self._carried -= carried
        self.pending -= carried
        return data, carried

    def _begin(self, size: int) -> None:
        whole = self._pieces.popleft()
        if whole.end == whole.start:  # the end, see `_end_of`
            self._begun = _HEAD.pack(_END, whole.start, 0, whole.key.to_bytes(8))
            return
        piece = Piece(whole.start, min(whole.end, whole.start + min(size, _LONGEST)), whole.key)
        if piece.end < whole.end:
            self._pieces.appendleft(Piece(piece.end, whole.end, whole.key))
        head = _HEAD.pack(_COUNTED if self._counted else _BYTES, piece.start, piece.size, piece.key.to_bytes(8))
        self._carried = piece.size
        self._begun = Counted(head, piece.size) if self._counted else head + content(piece)


class Inbox:
    """
    A state that is being loaded.

    Not for several threads at once: whoever has it guards it.
    """

    def __init__(self) -> None:
        self.state = MockState()
        self.loaded = 0  # bytes of state, each as often as it came
        self._buffer = bytearray()
        self._complete = False
        self._altered = False

    @property
    def refusal(self) -> str | None:
        """Why what was loaded cannot be used; None if it can."""
        if self._altered:
            return "the state that was loaded was altered on its way"
        if not self._complete or self._buffer:
            return "the state that was loaded is incomplete"
        return None

    def write(self, data: bytes) -> None:
        """
        Take bytes.

        Raises:
            ValueError: they are no record that a device wrote, or leave a gap.

        """
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            kind, place, length, key = _HEAD.unpack_from(self._buffer)
            body = length if kind == _BYTES else 0
            if self._complete or kind not in (_BYTES, _COUNTED, _END) or length > _LONGEST:
                raise ValueError("the state holds a record that no device wrote")
            if len(self._buffer) < _HEAD.size + body:
                return
            self._load(kind, Piece(place, place + length, int.from_bytes(key)), body)
            del self._buffer[: _HEAD.size + body]

    def _load(self, kind: int, piece: Piece, body: int) -> None:
        if kind == _END:
            self._complete = True
            self._altered = piece != _end_of(self.state)
            return
        if kind == _BYTES and self._buffer[_HEAD.size : _HEAD.size + body] != content(piece):
            piece = piece._replace(key=_ALTERED)  # which counts only if it is not sent again
        self.state.write(piece)
        self.loaded += piece.size


def _end_of(state: MockState) -> Piece:
    """Give a piece of no bytes that stands for the end of a state, and for what all of it comes to."""
    return Piece(state.size, state.size, int(state.sha256[:16], 16))
