"""
The state of a mock device: bytes that follow from a key and their place, made as they are read.

So a state of 80 GB is a few numbers. Rejected: to keep the bytes. They cost memory on both sides, and hashes over all
of them to see whether they arrived; here the device that loads a piece makes the same bytes again and compares.
"""

import hashlib
import random
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

_PAGE = 64 * 1024
_PAGE_HEADER = struct.Struct(">QQ")  # key, number of the page: no two pages are alike
_PIECE = struct.Struct(">QQQ")
EMPTY = 0  # the key of a state that is all zeros, as after a reset


class Piece(NamedTuple):
    """Some bytes of a state, from `start` to before `end`, that follow from one key."""

    start: int
    end: int
    key: int

    @property
    def size(self) -> int:
        """How many bytes they are."""
        return self.end - self.start


class MockState:
    """
    What a device remembers: pieces that follow one another, neighbours with different keys.

    Not for several threads at once: whoever has it guards it.
    """

    def __init__(self, size: int = 0, key: int = EMPTY) -> None:
        self._pieces = [Piece(0, size, key)] if size else []

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._pieces[-1].end if self._pieces else 0

    def write(self, new: Piece) -> None:
        """
        Put bytes in the place of others, or at the end.

        Raises:
            ValueError: they would leave a gap.

        """
        if new.start > self.size:
            raise ValueError(f"the state leaves a gap before its byte {new.start}")
        if new.start == new.end:
            return
        before = [Piece(start, min(end, new.start), key) for start, end, key in self._pieces if start < new.start]
        after = [Piece(max(start, new.end), end, key) for start, end, key in self._pieces if end > new.end]
        pieces: list[Piece] = []
        for piece in (*before, new, *after):
            if pieces and pieces[-1].key == piece.key:
                pieces[-1] = Piece(pieces[-1].start, piece.end, piece.key)
            else:
                pieces.append(piece)
        self._pieces = pieces

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """Give what lies between two places."""
        for piece in self._pieces:
            first, last = max(piece.start, start), min(piece.end, end)
            if first < last:
                yield Piece(first, last, piece.key)

    @property
    def sha256(self) -> str:
        """SHA-256 of what determines every byte: equal for equal states, at no cost for big ones."""
        return hashlib.sha256(b"".join(_PIECE.pack(*piece) for piece in self._pieces)).hexdigest()

    def copy(self) -> "MockState":
        """Give another one like it."""
        other = MockState()
        other._pieces = self._pieces  # replaced, never edited
        return other


def content(piece: Piece) -> bytes:
    """Make the bytes of a piece."""
    if piece.key == EMPTY:
        return bytes(piece.size)
    first = piece.start // _PAGE
    filling = _filling(piece.key)
    pages = b"".join(
        part
        for number in range(first, (piece.end - 1) // _PAGE + 1)
        for part in (_PAGE_HEADER.pack(piece.key, number), filling)
    )
    begin = piece.start - first * _PAGE
    return pages[begin : begin + piece.size]


@lru_cache(maxsize=64)
def _filling(key: int) -> bytes:
    return random.Random(key).randbytes(_PAGE - _PAGE_HEADER.size)  # noqa: S311 - test data
