from hypothesis import given
from hypothesis import strategies as st

from vfio_migration.emulator.wire.location import Locations


@given(st.lists(st.tuples(st.text("a\n").map(str.encode), st.lists(st.integers(0, 20)), st.booleans())))
def test_marks_are_located_over_all_pieces(pieces: list[tuple[bytes, list[int], bool]]) -> None:
    locations = Locations()
    before, marked = b"", 0
    for piece, marks, ask in pieces:
        locations.enter(piece)
        for mark in sorted(min(each, len(piece)) for each in marks):
            locations.mark(mark)
            marked = len(before) + mark
            if ask:
                assert locations.located() == expected(before + piece, marked)
        locations.leave()
        before += piece
        assert locations.located() == expected(before, marked)


def expected(stream: bytes, offset: int) -> str:
    *above, line = stream[:offset].split(b"\n")
    return f"{len(above) + 1}:{len(line) + 1}"
