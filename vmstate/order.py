"""Keeping entries in order while they come and go."""

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Generic, Protocol, Self, TypeVar


class Ordered(Protocol):
    """What can be kept in order: its key never changes, and is nobody else's."""

    @property
    def key(self) -> int:
        """Where it belongs."""
        ...

    @property
    def removed(self) -> bool:
        """Whether it is to be left out."""
        ...


EntryT = TypeVar("EntryT", bound=Ordered)


class _Block(Generic[EntryT]):
    """Some entries that follow one another; their keys are there once they have been searched."""

    __slots__ = ("edition", "entries", "keys")

    def __init__(self, entries: list[EntryT], keys: list[int], edition: int) -> None:
        self.entries = entries
        self.keys = keys
        self.edition = edition

    def successor(self, edition: int) -> Self:
        """Give a copy to be changed; the keys go with it, as nobody searches this block any more."""
        return type(self)(self.entries.copy(), self.keys, edition)


class Snapshot(Generic[EntryT]):
    """What an order was at some time."""

    __slots__ = ("_blocks",)

    def __init__(self, blocks: list[_Block[EntryT]]) -> None:
        self._blocks = blocks

    def __iter__(self) -> Iterator[EntryT]:
        return chain.from_iterable(block.entries for block in self._blocks)

    def __reversed__(self) -> Iterator[EntryT]:
        return chain.from_iterable(reversed(block.entries) for block in reversed(self._blocks))


class Order(Generic[EntryT]):
    """
    Entries in ascending order of their keys, in blocks: what comes or goes touches the entries of one block only.

    A block that a snapshot holds is copied before it is changed. Not for several threads at once: whoever has an
    order guards it; snapshots are for everybody.
    """

    def __init__(self) -> None:
        self._length = 0
        self._blocks: list[_Block[EntryT]] = []
        self._firsts: list[int] = []  # the key of each block's first entry
        self._edition = 0  # blocks of an earlier one may be in snapshots

    def __len__(self) -> int:
        return self._length

    def snapshot(self) -> Snapshot[EntryT]:
        """Give the entries as they are now, whatever comes and goes later."""
        self._edition += 1
        return Snapshot(self._blocks.copy())

    def edit(self, changed: list[EntryT]) -> None:
        """Put entries in, or leave them out if they are `removed`: a search for each, unless they are many."""
        if len(changed) * _FEW >= self._length:
            entries = [entry for entry in chain(self.snapshot(), changed) if not entry.removed]
            entries.sort(key=_key)
            self._fill(entries)
            return
        for entry in sorted(changed, key=_key):  # neighbours in turn: their block is at hand
            if entry.removed:
                self._take_out(entry)
            else:
                self._put_in(entry)
        if len(self._blocks) * _BLOCK > _SPARSE * self._length:
            self._fill(list(self.snapshot()))

    def _fill(self, entries: list[EntryT]) -> None:
        self._length = len(entries)
        parts = [entries[start : start + _BLOCK] for start in range(0, len(entries), _BLOCK)]
        self._blocks = [_Block(part, [], self._edition) for part in parts]
        self._firsts = [part[0].key for part in parts]

    def _find(self, key: int) -> tuple[int, _Block[EntryT], int]:
        """Give the block where a key belongs, with its number, to be changed, and the key's place in it."""
        number = max(0, bisect_right(self._firsts, key) - 1)
        block = self._blocks[number]
        if block.edition != self._edition:
            self._blocks[number] = block = block.successor(self._edition)
        if not block.keys:
            block.keys = [*map(_key, block.entries)]
        return number, block, bisect_left(block.keys, key)

    def _put_in(self, entry: EntryT) -> None:
        number, block, place = self._find(entry.key)
        block.entries.insert(place, entry)
        block.keys.insert(place, entry.key)
        self._length += 1
        if place == 0:
            self._firsts[number] = entry.key
        if len(block.keys) > 2 * _BLOCK:
            second = _Block(block.entries[_BLOCK:], block.keys[_BLOCK:], self._edition)
            del block.entries[_BLOCK:], block.keys[_BLOCK:]
            self._blocks.insert(number + 1, second)
            self._firsts.insert(number + 1, second.keys[0])

    def _take_out(self, entry: EntryT) -> None:
        number, block, place = self._find(entry.key)
        if place == len(block.keys) or block.entries[place] is not entry:
            return  # it came and went before it was ever put in
        del block.entries[place], block.keys[place]
        self._length -= 1
        if not block.keys:
            del self._blocks[number], self._firsts[number]
        elif place == 0:
            self._firsts[number] = block.keys[0]


_BLOCK = 512  # entries; a search in one of them, and moving the half of them, take about as long
_FEW = 4  # one change among so many entries is one worth searching for
_SPARSE = 4  # so many times the blocks that are needed are too many
_key: Callable[[Ordered], int] = operator.attrgetter("key")
