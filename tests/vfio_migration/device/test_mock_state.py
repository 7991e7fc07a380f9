import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_migration.device import Counted, MockDevice
from vfio_migration.device.mock_state import EMPTY, MockState, Piece, content
from vfio_migration.device.mock_transfer import Inbox, Outbox

SIZE = 300_000
pieces = st.builds(
    lambda start, size, key: Piece(start, start + size, key),
    st.integers(0, SIZE),
    st.integers(0, 100_000),
    st.sampled_from([EMPTY, 1, 2]),
)


def whole(state: MockState) -> bytes:
    return b"".join(content(piece) for piece in state.pieces(0, state.size))


@given(st.lists(pieces, max_size=6))
def test_writing_is_as_writing_into_bytes(written: list[Piece]) -> None:
    state, plain = MockState(SIZE, 7), bytearray(content(Piece(0, SIZE, 7)))
    for piece in written:
        state.write(piece)
        plain[piece.start : piece.end] = content(piece)
    assert state.size == len(plain)
    assert whole(state) == plain
    found = list(state.pieces(0, state.size))
    assert all(a.end == b.start and a.key != b.key for a, b in itertools.pairwise(found))


@given(st.lists(pieces, max_size=4), st.lists(pieces, max_size=4))
def test_states_with_other_bytes_have_another_hash(a: list[Piece], b: list[Piece]) -> None:
    one, other = MockState(SIZE), MockState(SIZE)
    for state, written in ((one, a), (other, b)):
        for piece in written:
            state.write(piece)
    assert whole(one) == whole(other) or one.sha256 != other.sha256


@given(st.lists(pieces, max_size=4), st.integers(500, 50_000))
def test_the_hash_does_not_depend_on_how_a_state_came_about(written: list[Piece], step: int) -> None:
    one, other = MockState(SIZE), MockState(SIZE)
    for piece in written:
        one.write(piece)
        for start in range(piece.start, piece.end, step):
            other.write(piece._replace(start=start, end=min(piece.end, start + step)))
    assert one.sha256 == other.sha256


@given(st.integers(0, SIZE), st.integers(1, SIZE), st.integers(0, 200_000))
def test_what_bytes_are_does_not_depend_on_how_they_are_cut(start: int, size: int, cut: int) -> None:
    piece = Piece(start, start + size, 5)
    middle = min(piece.end, piece.start + cut)
    assert content(piece) == content(Piece(start, middle, 5)) + content(Piece(middle, piece.end, 5))


def test_a_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="gap before its byte 11"):
        MockState(10).write(Piece(11, 12, 1))


@given(st.booleans(), st.lists(pieces, max_size=4), st.lists(st.integers(1, 120_000), min_size=1))
def test_what_is_read_in_whatever_portions_is_what_is_loaded(
    counted: bool, written: list[Piece], portions: list[int]
) -> None:
    state, outbox, inbox = MockState(SIZE, 3), Outbox(counted=counted), Inbox()
    for piece in written:
        state.write(piece)
    outbox.add(state, 0, state.size)
    outbox.close(state)
    assert outbox.pending == state.size
    carried, turn = 0, 0
    while not outbox.empty:
        assert inbox.refusal == "the state that was loaded is incomplete"
        portion = portions[turn % len(portions)] if turn < 50 else 1_000_000
        data, of_state = outbox.read(portion)
        assert isinstance(data, Counted) or 0 < len(data) <= portion
        inbox.write(data)
        carried, turn = carried + of_state, turn + 1
        assert outbox.pending == state.size - carried
    assert carried == state.size
    assert inbox.refusal is None
    assert inbox.state.sha256 == state.sha256


def test_a_chunk_of_state_is_of_the_size_that_was_asked_for() -> None:
    state, outbox = MockState(5_000_000, 3), Outbox(counted=False)
    outbox.add(state, 0, state.size)
    sizes = []
    while not outbox.empty:
        data, carried = outbox.read(1_000_000)
        sizes.append((len(data), carried))
    assert sizes[:4] == [(25, 0), (1_000_000, 1_000_000), (25, 0), (1_000_000, 1_000_000)]


@pytest.mark.parametrize("contents", ["sizes", "bytes"])
def test_a_device_of_80_gb_is_a_few_numbers(contents: str) -> None:
    tracemalloc.start()
    try:
        device = MockDevice(state_size=80 * 2**30, contents=contents)  # type: ignore[arg-type]
        device.reset()
        assert len(device.state_hash) == 64
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_contents_are_bytes_or_sizes() -> None:
    with pytest.raises(ValueError, match="contents"):
        MockDevice(contents="nothing")  # type: ignore[arg-type]
