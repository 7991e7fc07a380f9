"""Entries in order while they come and go: against a plain sorted list, with blocks that soon split and vanish."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmstate import order
from vmstate.order import Order


@dataclass(eq=False)
class Entry:
    key: int
    removed: bool = False


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "_BLOCK", 4)
        patch.setattr(order, "_FEW", 2)
        patch.setattr(order, "_SPARSE", 2)
        yield


steps = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans(), st.randoms()), max_size=40)


@settings(deadline=None, derandomize=True, database=None)
@given(st.integers(0, 100), steps)
def test_it_is_what_sorting_gives_and_a_snapshot_stays_as_it_was(
    size: int, edits: list[tuple[int, int, bool, random.Random]]
) -> None:
    free = list(range(1000))
    random.Random(size).shuffle(free)
    ordered: Order[Entry] = Order()
    present = [Entry(free.pop()) for _ in range(size)]
    ordered.edit(present)
    snapshots = []
    for come, go, keep, rng in edits:
        came = [Entry(free.pop()) for _ in range(min(come, len(free)))]
        gone = rng.sample(present + came, min(go, len(present) + len(came)))
        for entry in gone:
            entry.removed = True
        present = [entry for entry in present + came if not entry.removed]
        ordered.edit(came + gone)
        expected = sorted(present, key=lambda entry: entry.key)
        if keep:
            snapshots.append((ordered.snapshot(), expected))
        assert list(ordered.snapshot()) == expected
        assert list(reversed(ordered.snapshot())) == expected[::-1]
        assert len(ordered) == len(expected)
    for snapshot, expected in snapshots:
        assert list(snapshot) == expected
        assert list(reversed(snapshot)) == expected[::-1]


def test_blocks_stay_in_proportion_to_the_entries() -> None:
    ordered: Order[Entry] = Order()
    entries = [Entry(number) for number in range(1000)]
    ordered.edit(entries)
    for number in range(1000, 2000):  # all at the end: one block splits again and again
        entries.append(Entry(number))
        ordered.edit(entries[-1:])
    assert max(len(block.entries) for block in ordered._blocks) <= 2 * 4
    assert len(ordered._blocks) <= 2000 // 4
    for entry in entries[::-1]:
        if entry.key % 50:  # those that stay lie in blocks of their own
            entry.removed = True
            ordered.edit([entry])
    assert [entry.key for entry in ordered.snapshot()] == list(range(0, 2000, 50))
    assert len(ordered._blocks) <= order._SPARSE * len(ordered) // 4
