"""Modified UTF-8 as QEMU reads and writes it; the rules are those of `util/unicode.c`."""

import re
from collections.abc import Iterator

_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
_NO_CHARACTERS = range(0xFDD0, 0xFDF0)
_PLANE_END = 0xFFFE  # the last two of each plane are no characters
_NO_CHARACTER = re.compile(
    "[\ufdd0-\ufdef" + "".join(f"{chr(p + 0xFFFE)}{chr(p + 0xFFFF)}" for p in range(0, _LAST, 1 << 16)) + "]"
)
_SMALLEST = {2: 0x80, 3: 0x800, 4: 0x10000, 5: 0x200000, 6: 0x4000000}
_ASCII = 0x80
_CONTINUATION = range(0x80, 0xC0)
_IMPOSSIBLE = 0xFE


def is_character(code: int) -> bool:
    """Whether this number is a Unicode character to QEMU: no surrogate, and none of those that never will be one."""
    return (
        0 <= code <= _LAST
        and code not in _SURROGATES
        and code not in _NO_CHARACTERS
        and code & _PLANE_END != _PLANE_END
    )


def decode(data: bytes) -> str | None:
    """Give the text, or `None` if these bytes are none; NUL is the two bytes C0 80."""
    try:
        text = data.decode()
    except UnicodeDecodeError:  # nothing, or NUL
        codes = list(_codes(data))
        return None if None in codes else "".join(chr(code) for code in codes if code is not None)
    return None if not text.isascii() and _NO_CHARACTER.search(text) else text


def decode_loosely(data: bytes) -> str:
    """Give the text, with U+FFFD for each sequence that is none: what a client reads where QEMU repeats such bytes."""
    return "".join("\ufffd" if code is None else chr(code) for code in _codes(data))


def _codes(data: bytes) -> Iterator[int | None]:
    place = 0
    while place < len(data):
        code, place = _sequence(data, place)
        yield code


def _sequence(data: bytes, place: int) -> tuple[int | None, int]:
    """Read one sequence: the number that it stands for, and where the next begins."""
    first = data[place]
    if first < _ASCII:
        return first, place + 1
    if first in _CONTINUATION or first >= _IMPOSSIBLE:
        return None, place + 1
    length = 8 - (~first & 0xFF).bit_length()
    code = first & (0x7F >> length)
    for offset in range(place + 1, place + length):
        if offset >= len(data) or data[offset] not in _CONTINUATION:
            return None, offset
        code = code << 6 | data[offset] & 0x3F
    short = code < _SMALLEST[length] and not (code == 0 and length == 2)  # noqa: PLR2004 - C0 80 is NUL
    return (code if is_character(code) and not short else None), place + length
