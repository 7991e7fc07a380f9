"""Builds values from tokens, one token at a time; the rules are those of QEMU's `qobject/json-parser.c`."""

from enum import Enum, auto
from typing import Final

from vfio_migration.emulator.wire.json_fault import JsonFault
from vfio_migration.emulator.wire.json_lexer import FLOAT, INTEGER, KEYWORD, STRAY, STRING
from vfio_migration.emulator.wire.json_string import read_string
from vfio_migration.emulator.wire.utf8 import decode_loosely

_KEYWORDS = {b"true": True, b"false": False, b"null": None}
_INT64_MIN, _UINT64_MAX = -(1 << 63), (1 << 64) - 1
_SURELY_INT = 18  # characters of an integer that is within any limit
_LONGEST_MESSAGE = 1023  # bytes: QEMU formats it into a buffer


class Unfinished(Enum):
    """What a token gives that does not end the value (`None` is a value)."""

    VALUE = auto()


UNFINISHED: Final = Unfinished.VALUE


class _Expect(Enum):
    """What may come next, as QEMU's parser tells it apart."""

    VALUE = auto()
    ELEMENT_OR_END = auto()
    KEY_OR_END = auto()
    KEY = auto()
    COLON = auto()
    COMMA_OR_END = auto()


_VALUE, _ELEMENT_OR_END, _KEY_OR_END = _Expect.VALUE, _Expect.ELEMENT_OR_END, _Expect.KEY_OR_END
_KEY, _COLON, _COMMA_OR_END = _Expect.KEY, _Expect.COLON, _Expect.COMMA_OR_END


class JsonParser:
    """The value that is being read, and what may come next; `reset` forgets it."""

    def __init__(self) -> None:
        self._open: list[dict[str, object] | list[object]] = []
        self._keys: list[str] = []  # of the members whose values are being read
        self._expect = _VALUE

    def reset(self) -> None:
        """Begin a new value."""
        self._open.clear()
        self._keys.clear()
        self._expect = _VALUE

    def take(self, kind: str, text: bytes) -> object | Unfinished:
        """
        Take the next token; give the value that it completes, or `UNFINISHED`.

        Raises:
            JsonFault: it cannot stand here, or says nothing. Only `reset` goes on from there.

        """
        if kind == STRAY:
            raise JsonFault(_repeat("stray", text))
        expect = self._expect
        if expect is _COMMA_OR_END:
            return self._after_value(kind)
        if expect is _COLON:
            if kind != ":":
                raise JsonFault("expecting ':'")
            self._expect = _VALUE
            return UNFINISHED
        if expect is _KEY or expect is _KEY_OR_END:
            return self._key(kind, text)
        if kind == "]" and expect is _ELEMENT_OR_END:
            return self._close()
        return self._value(kind, text)

    def _key(self, kind: str, text: bytes) -> object | Unfinished:
        if kind == "}" and self._expect is _KEY_OR_END:
            return self._close()
        if kind != STRING:
            raise JsonFault("expecting key")
        self._keys.append(read_string(text))
        self._expect = _COLON
        return UNFINISHED

    def _after_value(self, kind: str) -> object | Unfinished:
        in_list = isinstance(self._open[-1], list)
        end = "]" if in_list else "}"
        if kind == end:
            return self._close()
        if kind != ",":
            raise JsonFault(f"expected ',' or '{end}'")
        self._expect = _VALUE if in_list else _KEY
        return UNFINISHED

    def _value(self, kind: str, text: bytes) -> object | Unfinished:
        if kind == "{":
            self._open.append({})
            self._expect = _KEY_OR_END
            return UNFINISHED
        if kind == "[":
            self._open.append([])
            self._expect = _ELEMENT_OR_END
            return UNFINISHED
        return self._add(_scalar(kind, text))

    def _close(self) -> object | Unfinished:
        return self._add(self._open.pop())

    def _add(self, value: object) -> object | Unfinished:
        """Put a whole value where it belongs."""
        if not self._open:
            return value
        outer = self._open[-1]
        if isinstance(outer, list):
            outer.append(value)
        else:
            key = self._keys.pop()
            if key in outer:
                raise JsonFault("duplicate key")
            outer[key] = value
        self._expect = _COMMA_OR_END
        return UNFINISHED


def _scalar(kind: str, text: bytes) -> object:
    if kind == STRING:
        return read_string(text)
    if kind == INTEGER:
        return _integer(text)
    if kind == FLOAT:
        return float(text)
    if kind != KEYWORD:
        raise JsonFault("expecting value")
    if text not in _KEYWORDS:
        raise JsonFault(_repeat("invalid keyword", text))
    return _KEYWORDS[text]


def _integer(text: bytes) -> int | float:
    """Give an int where 64 bits, signed or not, hold it, else the nearest float."""
    if len(text) <= _SURELY_INT:
        return int(text)
    nearest = float(text)  # int() refuses thousands of digits
    if not _INT64_MIN <= nearest <= _UINT64_MAX + 1:
        return nearest
    exact = int(text)
    return exact if _INT64_MIN <= exact <= _UINT64_MAX else nearest


def _repeat(words: str, text: bytes) -> str:
    """Repeat what was sent as a C string is printed: up to a NUL, and no longer than QEMU's buffer."""
    shown = words.encode() + b" '" + text.partition(b"\0")[0] + b"'"
    return decode_loosely(shown[:_LONGEST_MESSAGE])
