"""What a JSON string says; the rules are those of `parse_string` in QEMU's `qobject/json-parser.c`."""

import re

from vfio_migration.emulator.wire.json_fault import JsonFault
from vfio_migration.emulator.wire.utf8 import decode, decode_loosely, is_character

_PIECE = re.compile(
    rb"([^\\]++)"
    rb"|\\u(?:([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|([0-9a-fA-F]{4}))"
    rb"|\\([^u])"
)
_SIMPLE = {ord(key): value for key, value in zip("\"'\\/bfnrt", "\"'\\/\b\f\n\r\t", strict=True)}
_PLAIN, _HIGH, _LOW, _HEX = range(1, 5)
_UNICODE_ESCAPE = 6  # bytes: \u0000


def read_string(token: bytes) -> str:
    """
    Give the text of a string with its quotes, single or double.

    Raises:
        JsonFault: an escape or a UTF-8 sequence that is none.

    """
    inner = token[1:-1]
    if b"\\" not in inner:
        return _plain(inner)
    texts = []
    place = 1
    while place < len(token) - 1:
        piece = _PIECE.match(token, place, len(token) - 1)
        if piece is None:  # \u without four digits
            raise _no_character(token[place : place + _UNICODE_ESCAPE])
        texts.append(_piece(piece))
        place = piece.end()
    return "".join(texts)


def _piece(piece: re.Match[bytes]) -> str:
    match piece.lastindex:
        case 1:
            return _plain(piece[_PLAIN])
        case 3:
            return _character(
                0x10000 + ((int(piece[_HIGH], 16) & 0x3FF) << 10 | int(piece[_LOW], 16) & 0x3FF), piece[0]
            )
        case 4:
            return _character(int(piece[_HEX], 16), piece[0])
    simple = _SIMPLE.get(piece[0][1])
    if simple is None:
        raise JsonFault("invalid escape sequence in string")
    return simple


def _plain(data: bytes) -> str:
    text = decode(data)
    if text is None:
        raise JsonFault("invalid UTF-8 sequence in string")
    return text


def _character(code: int, escape: bytes) -> str:
    if not is_character(code):
        raise _no_character(escape)
    return chr(code)


def _no_character(escape: bytes) -> JsonFault:
    return JsonFault(f"{decode_loosely(escape)} is not a valid Unicode character")
