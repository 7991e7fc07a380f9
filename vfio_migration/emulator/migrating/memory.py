"""The memory of a machine without a guest: how much there is, and how little of it there is to send."""

from dataclasses import dataclass

PAGE = 4096
_ZERO_PAGE = 9  # bytes that a page full of zeros takes in QEMU's stream
_TOUCHED = 300  # pages that firmware has written to, as the captures of machines without a guest show


@dataclass(frozen=True)
class Memory:
    """
    `size` bytes that the guest has; `used`: of which so many take their size to send, the rest next to nothing.

    Where a scenario says how much memory there is to send, all of that is used.
    """

    size: int
    used: int

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return self.size // PAGE

    @property
    def stream_size(self) -> int:
        """How many bytes a first pass sends."""
        return self.used + (self.pages - self.used // PAGE) * _ZERO_PAGE


def without_guest(size: int) -> Memory:
    """Give the memory of a machine in which nothing but its firmware has run."""
    return Memory(size, min(size, _TOUCHED * PAGE))
