"""The order in which QEMU lists children: that of a hash table of glib's, backwards."""

from collections.abc import Mapping, Sequence
from functools import cache

_UNUSED, _TOMBSTONE = 0, 1
_SMALLEST = 3  # the shift of the smallest table
_PRIMES = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071, 262139, 524287)
_MASK = 0xFFFFFFFF
_SIGN, _BYTE = 128, 256


class HashOrder:
    """
    Keeps names where glib's `GHashTable` with `g_str_hash` keeps them.

    The order follows from the names and from the order in which they came and went, so that it is the same with every
    QEMU that was told the same (`object_property_iter_next`; `qom-list` gives it from its end).
    """

    def __init__(self) -> None:
        self._shift = _SMALLEST
        self._slots: list[tuple[int, str]] = [(_UNUSED, "")] * 8
        self._names = 0
        self._occupied = 0

    def add(self, name: str) -> None:
        """Add a name that is not there."""
        code = _hash(name)
        at, step, free = self._start(code), 0, None
        while self._slots[at][0] != _UNUSED:
            if self._slots[at][0] == _TOMBSTONE and free is None:
                free = at
            step += 1
            at = (at + step) % len(self._slots)
        self._occupied += free is None
        self._slots[at if free is None else free] = (code, name)
        self._names += 1
        self._resize()

    def remove(self, name: str) -> None:
        """Take a name away."""
        for at, (code, each) in enumerate(self._slots):
            if code > _TOMBSTONE and each == name:
                self._slots[at] = (_TOMBSTONE, "")
                self._names -= 1
                self._resize()
                return

    def listing(self) -> list[str]:
        """Give all names as `qom-list` has them."""
        return [name for code, name in reversed(self._slots) if code > _TOMBSTONE]

    def _start(self, code: int) -> int:
        return (code * 11 & _MASK) % _PRIMES[self._shift]

    def _resize(self) -> None:
        size = len(self._slots)
        if not ((size > self._names * 4 and size > 1 << _SMALLEST) or size <= self._occupied + self._occupied // 16):
            return
        self._shift = max(int(self._names * 1.333).bit_length(), _SMALLEST)
        new: list[tuple[int, str]] = [(_UNUSED, "")] * (1 << self._shift)
        old = [each if each[0] > _TOMBSTONE else (_UNUSED, "") for each in self._slots]
        for at in range(size):  # in place, as glib does it: who is in the way moves on at once
            entry, old[at] = old[at], (_UNUSED, "")
            while entry[0] > _TOMBSTONE:
                to, step = self._start(entry[0]), 0
                while new[to][0] != _UNUSED:
                    step += 1
                    to = (to + step) % len(new)
                new[to] = entry
                entry = (_UNUSED, "")
                if to < size:
                    entry, old[to] = old[to], (_UNUSED, "")
        self._slots, self._occupied = new, self._names


def rehashed(names: Sequence[str], new: Mapping[str, str]) -> list[str]:
    """
    Give the order of a listing in which some names are others now.

    Only the end of a listing, which holds what is an object's own and not its class's, has the order of its names.
    """
    renamed = [new.get(name, name) for name in names]
    first = next((at for at, name in enumerate(names) if name in new), len(names))
    start = _own_from(tuple(names), first)
    return renamed if start is None else [*renamed[:start], *_sorted(renamed[start:])]


@cache
def _own_from(names: tuple[str, ...], last: int) -> int | None:
    """Give where the part of a listing begins that has the order of its names, at `last` at the latest."""
    return next((start for start in range(last + 1) if _sorted(names[start:]) == list(names[start:])), None)


def _sorted(names: Sequence[str]) -> list[str]:
    order = HashOrder()
    for name in names[::-1]:
        order.add(name)
    return order.listing()


def _hash(name: str) -> int:
    code = 5381
    for byte in name.encode():
        code = (code * 33 + (byte if byte < _SIGN else byte - _BYTE)) & _MASK
    return max(code, _TOMBSTONE + 1)
