"""Lines and columns of a stream that comes in pieces."""


class Locations:
    """
    Where a marked byte of the stream is: line and column, from 1, columns in bytes.

    Guarantees: each byte is looked at once, whatever is asked and how often; marks only move forward.
    """

    def __init__(self) -> None:
        self._data = b""
        self._marked = 0  # offset in the piece
        self._counted = 0  # offset in the piece, up to which the two below have been counted
        self._line = 1
        self._column = 1
        self._kept = (1, 1)  # of a mark that was made in an earlier piece
        self._earlier = False

    def enter(self, data: bytes) -> None:
        """Begin with the next piece; a mark stays what it was until the next is made."""
        self._data = data
        self._counted = 0

    def mark(self, offset: int) -> None:
        """Remember a byte of this piece."""
        self._marked = offset
        self._earlier = False

    def located(self) -> str:
        """Give line and column of the mark."""
        line, column = self._kept_mark()
        return f"{line}:{column}"

    def leave(self) -> None:
        """End this piece."""
        self._kept_mark()
        self._count(len(self._data))
        self._data = b""

    def _kept_mark(self) -> tuple[int, int]:
        if not self._earlier:
            self._count(self._marked)
            self._kept = (self._line, self._column)
            self._earlier = True
        return self._kept

    def _count(self, offset: int) -> None:
        lines = self._data.count(b"\n", self._counted, offset)
        if lines:
            self._line += lines
            self._column = offset - self._data.rfind(b"\n", self._counted, offset)
        else:
            self._column += offset - self._counted
        self._counted = offset
