"""Reads what a client sends to a monitor: a stream of JSON values; the rules are QEMU's `qobject/json-streamer.c`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from vfio_migration.emulator.wire.json_fault import JsonFault
from vfio_migration.emulator.wire.json_lexer import OVERSIZE, STRAY, JsonLexer
from vfio_migration.emulator.wire.json_parser import UNFINISHED, JsonParser, Unfinished

_BRACES_AND_BRACKETS = {"{": (1, 0), "}": (-1, 0), "[": (0, 1), "]": (0, -1)}
# Floats, and integers that may not fit.
_DOUBTFUL_NUMBER = re.compile(rb"[0-9](?:[.eE]|[0-9]{15})")
_SHORT = 1024  # bytes
_SHALLOW = 32  # objects and lists


@dataclass(frozen=True)
class JsonError:
    """What QEMU says about input that is no JSON: `text` is the `desc` of its answer."""

    text: str


@dataclass(frozen=True)
class JsonLimits:
    """How large one value may be: bytes of its tokens (fewer), number of tokens, objects and lists in each other."""

    size: int = 64 << 20
    count: int = 2 << 20
    nesting: int = 1024


class JsonReader:
    """
    A connection's input: values, and errors where QEMU 11.1.3 finds some, in its words.

    Values are dict, list, str, int, float, bool and None; an integer that 64 bits do not hold is a float. A value is
    given with the byte that completes it; for a number or a word outside of all brackets that is the byte after it.
    After an error QEMU says nothing until braces and brackets balance again, or until a byte comes that begins no token
    (0xFF is meant for that).

    Guarantees:
    - Any bytes may come. Nothing is raised, and every error is an item like the values, in its place among them.
    - Where the stream is cut into pieces makes no difference to the items.
    - Time is linear in the bytes, however small the pieces and however long a string.
    - What is kept between two pieces is bounded by the limits.
    """

    def __init__(self, limits: JsonLimits | None = None) -> None:
        self._limits = limits or JsonLimits()
        self._lexer = JsonLexer(self._limits.size)
        self._parser = JsonParser()
        self._short = min(_SHORT, self._limits.size, self._limits.count, self._limits.nesting)
        self._braces = 0
        self._brackets = 0
        self._size = 0
        self._count = 0
        self._failed = False

    def feed(self, data: bytes) -> Iterator[object | JsonError]:
        """Take the next piece of the stream; give what it completes. To be iterated to the end before the next."""
        for line in data.splitlines(keepends=True):  # whoever sends many commands at once sends a line for each
            quick = self._quickly(line)
            if quick is not None:
                yield quick
                continue
            for kind, text in self._lexer.tokens(line):
                item = self._take(kind, text)
                if item is not UNFINISHED:
                    yield item

    def _quickly(self, data: bytes) -> dict[str, object] | None:
        """
        Read a piece that is one plain object, or give `None`.

        msgspec and QEMU agree on ASCII without escapes and without large numbers, but for keys that come twice. Outside
        of strings a piece has a colon for each member: as many different keys show that none comes twice. A piece so
        short cannot go beyond a limit.
        """
        if len(data) >= self._short or data[:1] != b"{" or not data.isascii() or b"\\" in data:
            return None
        outside = b"".join(data.split(b'"')[::2])
        if self._count or not self._lexer.idle or _DOUBTFUL_NUMBER.search(outside):
            return None
        if outside.count(b"{") + outside.count(b"[") > _SHALLOW:  # what recurses must not go deep
            return None
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError:
            return None
        if not isinstance(value, dict) or _members(value) != outside.count(b":"):
            return None
        self._lexer.skip(data)
        return value

    def _take(self, kind: str, text: bytes) -> object | Unfinished:
        self._size += len(text)
        self._count += 1
        self._balance(kind)
        item: object | Unfinished = UNFINISHED
        if not self._failed:
            item = self._read(kind, text)
            self._failed = isinstance(item, JsonError)
        if not self._braces and not self._brackets:
            self._size = self._count = 0
            self._failed = False
            self._parser.reset()
        return item

    def _balance(self, kind: str) -> None:
        """Count what is open; what closes more than is open ends the value, however much else is."""
        if kind == STRAY:
            self._braces = self._brackets = 0
        elif kind in _BRACES_AND_BRACKETS:
            braces, brackets = _BRACES_AND_BRACKETS[kind]
            self._braces += braces
            self._brackets += brackets
            if self._braces < 0 or self._brackets < 0:
                self._braces = self._brackets = 0

    def _read(self, kind: str, text: bytes) -> object | Unfinished | JsonError:
        if self._size >= self._limits.size or kind == OVERSIZE:
            return JsonError("JSON token size limit exceeded")
        if self._count > self._limits.count:
            return JsonError("JSON token count limit exceeded")
        if self._braces + self._brackets > self._limits.nesting:
            return JsonError("JSON nesting depth limit exceeded")
        try:
            return self._parser.take(kind, text)
        except JsonFault as fault:
            return JsonError(f"{self._lexer.location()}: JSON parse error, {fault}")


def _members(value: dict[str, object] | list[object]) -> int:
    """Count the members of all objects."""
    inner = value.values() if isinstance(value, dict) else value
    own = len(value) if isinstance(value, dict) else 0
    return own + sum(_members(each) for each in inner if isinstance(each, dict | list))
