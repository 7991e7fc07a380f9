import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_migration.emulator.wire.utf8 import decode, decode_loosely, is_character


@given(st.text(st.characters(exclude_categories=("Cs", "Cn"))))
def test_text_is_read_as_python_reads_it(text: str) -> None:
    assert decode(text.encode()) == text
    assert decode_loosely(text.encode()) == text
    assert all(is_character(ord(each)) for each in text)


@given(st.binary(max_size=12))
def test_both_ways_to_read_agree(data: bytes) -> None:
    text = decode(data)
    assert decode_loosely(data) == text if text is not None else "\ufffd" in decode_loosely(data)


def test_nul_is_two_bytes() -> None:
    assert decode(b"a\xc0\x80b") == "a\0b"


def test_a_replacement_character_that_was_sent_is_text() -> None:
    assert decode("\ufffd".encode() + b"\xc0\x80") == "\ufffd\0"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\xff", "\ufffd"),
        (b"\x80a", "\ufffda"),
        (b"\xc3(", "\ufffd("),
        (b"\xe2\x82", "\ufffd"),
        (b"\xc1\xbf", "\ufffd"),
        (b"\xe0\x80\x80", "\ufffd"),
        (b"\xed\xa0\x80", "\ufffd"),
        (b"\xef\xbf\xbf", "\ufffd"),
        (b"\xef\xb7\x90", "\ufffd"),
        (b"\xf0\x9f\xbf\xbe", "\ufffd"),
        (b"\xf4\x90\x80\x80", "\ufffd"),
        (b"\xf8\x88\x80\x80\x80", "\ufffd"),
        (b"\xfc\x84\x80\x80\x80\x80", "\ufffd"),
    ],
)
def test_what_is_no_text(data: bytes, shown: str) -> None:
    assert decode(data) is None
    assert decode_loosely(data) == shown
