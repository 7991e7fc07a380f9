"""Cuts a stream of bytes into tokens as QEMU's monitor does; the rules are those of `qobject/json-lexer.c`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vfio_migration.emulator.wire.location import Locations

STRING, INTEGER, FLOAT, KEYWORD = "string", "integer", "float", "keyword"
STRAY = "stray"  # bytes that begin no token
OVERSIZE = "oversize"  # the beginning of a token that is longer than it may be; what follows is read as another

_START, _RECOVERY = "start", "recovery"
_OVERSIZED = "start within a token"
_DOUBLE, _DOUBLE_ESCAPE = "double quotes", "escape in double quotes"
_SINGLE, _SINGLE_ESCAPE = "single quotes", "escape in single quotes"
_MINUS, _ZERO, _DIGITS = "minus", "zero", "digits"
_POINT, _FRACTION = "point", "fraction"
_E, _E_SIGN, _EXPONENT = "e", "sign of the exponent", "exponent"
_WORD = "word"

_ALL = bytes(range(256))
_NUMERALS = b"0123456789"
_LETTERS = bytes(range(ord("a"), ord("z") + 1))
_IN_STRINGS = bytes(range(0x20, 0xFE))
_BLANKS = b" \t\r\n"
_SIGNS = b"{}[],:"
# Where reading goes on after a stray byte: a tab does not count, and neither do quotes.
_RECOVERED_BY = bytes(set(range(0x20)) - {ord("\t")}) + b"\xfe\xff" + _SIGNS


@dataclass(frozen=True)
class _Step:
    """What one byte does: go to a state, or end a token of a kind, with it (`end`) or before it (`ahead`)."""

    how: Literal["go", "end", "ahead", "again", "stray"]
    to: str = _START


def _row(*rules: tuple[bytes, _Step]) -> list[_Step]:
    """Give the steps of one state by byte; later rules win."""
    row = [_Step("stray", _RECOVERY)] * len(_ALL)
    for which, step in rules:
        for byte in which:
            row[byte] = step
    return row


def _go(which: bytes, to: str) -> tuple[bytes, _Step]:
    return which, _Step("go", to)


def _ends(kind: str) -> tuple[bytes, _Step]:
    return _ALL, _Step("ahead", kind)


_EXPONENT_FOLLOWS = _go(b"eE", _E)
_TABLE = {
    _START: _row(
        _go(b'"', _DOUBLE),
        _go(b"'", _SINGLE),
        _go(b"-", _MINUS),
        _go(_NUMERALS, _DIGITS),
        _go(b"0", _ZERO),
        _go(_LETTERS, _WORD),
        _go(_BLANKS, _START),
        *((bytes([sign]), _Step("end", chr(sign))) for sign in _SIGNS),
    ),
    _RECOVERY: _row(_go(_ALL, _RECOVERY), (_RECOVERED_BY, _Step("again"))),
    _DOUBLE: _row(_go(_IN_STRINGS, _DOUBLE), _go(b"\\", _DOUBLE_ESCAPE), (b'"', _Step("end", STRING))),
    _DOUBLE_ESCAPE: _row(_go(_IN_STRINGS, _DOUBLE)),
    _SINGLE: _row(_go(_IN_STRINGS, _SINGLE), _go(b"\\", _SINGLE_ESCAPE), (b"'", _Step("end", STRING))),
    _SINGLE_ESCAPE: _row(_go(_IN_STRINGS, _SINGLE)),
    _MINUS: _row(_go(_NUMERALS, _DIGITS), _go(b"0", _ZERO)),
    _ZERO: _row(_ends(INTEGER), (_NUMERALS, _Step("stray", _RECOVERY)), _go(b".", _POINT)),
    _DIGITS: _row(_ends(INTEGER), _go(_NUMERALS, _DIGITS), _EXPONENT_FOLLOWS, _go(b".", _POINT)),
    _POINT: _row(_go(_NUMERALS, _FRACTION)),
    _FRACTION: _row(_ends(FLOAT), _go(_NUMERALS, _FRACTION), _EXPONENT_FOLLOWS),
    _E: _row(_go(b"+-", _E_SIGN), _go(_NUMERALS, _EXPONENT)),
    _E_SIGN: _row(_go(_NUMERALS, _EXPONENT)),
    _EXPONENT: _row(_ends(FLOAT), _go(_NUMERALS, _EXPONENT)),
    _WORD: _row(_ends(KEYWORD), _go(_LETTERS, _WORD)),
}
# What follows as if it began a token has the place of the one that it belongs to.
_TABLE[_OVERSIZED] = _TABLE[_START]


def _run(state: str) -> re.Pattern[bytes]:
    """Give what matches the bytes that stay in this state."""
    stay = b"".join(re.escape(_ALL[i : i + 1]) for i, step in enumerate(_TABLE[state]) if step == _Step("go", state))
    return re.compile(b"[" + stay + b"]*+")


_RUNS = {state: _run(state) for state in (_START, _RECOVERY, _DOUBLE, _SINGLE, _DIGITS, _FRACTION, _EXPONENT, _WORD)}
_NO_RUN = re.compile(b"")

# Whole tokens at one go, where nothing about them is special; whatever this refuses goes through the table.
# Numbers and words need a byte that follows, as only that ends them.
_WHOLE = re.compile(
    rb"[ \t\r\n]*+(?:"
    rb'("[ !#-\[\]-\xfd]*+(?:\\[ -\xfd][ !#-\[\]-\xfd]*+)*+")'
    rb"|([{}\[\],:])"
    rb"|(-?(?:0|[1-9][0-9]*+)(?=[^0-9.eE]))"
    rb"|([a-z]++(?=[^a-z])))"
)
_WHOLE_KINDS = ("", STRING, "", INTEGER, KEYWORD)
_NAMES = {bytes([sign]): chr(sign) for sign in _SIGNS}
_SIGN_GROUP = 2


class JsonLexer:
    """
    Tokens of a stream that comes in pieces.

    Guarantees:
    - Where the stream is cut into pieces makes no difference to the tokens.
    - Each byte is looked at a bounded number of times, however long its token and however small the pieces.
    - No more than one token is kept, and of that no more than `longest` bytes and one.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._state = _START
        self._held = bytearray()  # of a token that has not ended
        self._locations = Locations()
        self._restarted = 0  # nothing is located before this offset of the piece

    @property
    def idle(self) -> bool:
        """Whether the next byte begins a token."""
        return self._state == _START

    def skip(self, data: bytes) -> None:
        """Pass over whole tokens that something else has read."""
        self._locations.enter(data)
        self._locations.leave()

    def location(self) -> str:
        """
        Give line and column of the token that came last, as QEMU counts them: `3:14`, from 1, in bytes.

        A token that directly follows a number, a word or skipped bytes is located one column too far: QEMU has counted
        the byte by then that showed it the end.
        """
        return self._locations.located()

    def tokens(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Give the tokens that end in this piece, as kind and text; to be iterated to the end."""
        self._locations.enter(data)
        self._restarted = 0
        place, end = 0, len(data)
        whole, longest = _WHOLE.match, self._longest
        while place < end:
            found = whole(data, place) if self._state == _START else None
            if found is None or found.end() - place > longest:
                place, token = self._slowly(data, place)
                if token is not None:
                    yield token
                continue
            group = found.lastindex or 0
            text = found[group]
            self._locations.mark(max(found.start(group), self._restarted))
            place = found.end()
            self._restarted = place + (group > _SIGN_GROUP)
            yield (_NAMES[text] if group == _SIGN_GROUP else _WHOLE_KINDS[group]), text
        self._locations.leave()

    def _slowly(self, data: bytes, place: int) -> tuple[int, tuple[str, bytes] | None]:
        """Take the bytes that stay in this state, or one that does not; give where to go on, and a token that ended."""
        run = _RUNS.get(self._state, _NO_RUN).match(data, place)
        if run is not None and run.end() > place:
            return self._keep(data, place, run.end())
        step = _TABLE[self._state][data[place]]
        if step.how == "go":
            if self._state == _START:
                self._locations.mark(max(place, self._restarted))
            self._state = step.to
            return self._keep(data, place, place + 1)
        if step.how in ("ahead", "again"):
            self._restarted = place + 1
            return place, self._finish(_START, step.to if step.how == "ahead" else None)
        if self._state == _START:
            self._locations.mark(max(place, self._restarted))
        self._held += data[place : place + 1]
        if step.how == "end":
            return place + 1, self._finish(_START, step.to)
        return place + 1, self._finish(_RECOVERY, STRAY)

    def _keep(self, data: bytes, place: int, stop: int) -> tuple[int, tuple[str, bytes] | None]:
        if self._state in (_START, _RECOVERY):
            return stop, None
        stop = min(stop, place + self._longest + 1 - len(self._held))
        self._held += data[place:stop]
        return stop, self._finish(_OVERSIZED, OVERSIZE) if len(self._held) > self._longest else None

    def _finish(self, state: str, kind: str | None) -> tuple[str, bytes] | None:
        self._state = state
        text = bytes(self._held)
        self._held = bytearray()
        return (kind, text) if kind else None
