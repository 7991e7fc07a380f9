import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vfio_migration.emulator.wire import JsonError, JsonLimits, JsonReader

NESTING = "JSON nesting depth limit exceeded"
COUNT = "JSON token count limit exceeded"
SIZE = "JSON token size limit exceeded"
# No surrogates, and no code points that never will be characters: QEMU refuses them.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cn")))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
CUTS = st.lists(st.integers(0, 200), max_size=10)
SIGNS = rb"""{ } [ ] : , "
' \ "a" 'b' "a": true nul 0 - 1. 1e5 12 99999999999999999999 %s @ NaN \u00e4 \ud83d \ude00 \u12"""
COMMANDS = [b'{"a": 1}', b'{"a": {"b": 2}, "a": 3}', b'{"a": "x:y", "a": 1}\n', b'{"a": [[0], {"b": ":"}]}\r\n']
OTHERS = [b" ", b"\n", b"\r\n", b"\t", b"\0", b"\xff", b"\xc3\xa4", b"\xc0\x80", b"\xed\xa0\x80", b"\xc3"]
PIECES = st.sampled_from([*SIGNS.split(), *COMMANDS, *OTHERS])
BYTES = st.lists(PIECES | st.binary(max_size=4), max_size=20).map(b"".join)


def read(*pieces: bytes, limits: JsonLimits | None = None) -> list[object]:
    reader = JsonReader(limits)
    return [item for piece in pieces for item in reader.feed(piece)]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({min(each, len(data)) for each in cuts} | {len(data)})
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def fitted(value: object) -> object:
    """Give the value with floats for integers that 64 bits do not hold."""
    if isinstance(value, dict):
        return {key: fitted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [fitted(each) for each in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(str(value))
    return value


@given(st.lists(VALUES, min_size=1, max_size=4), CUTS, st.booleans(), st.sampled_from([None, 1]))
def test_what_json_dumps_writes_comes_back(
    values: list[object], cuts: list[int], ascii_only: bool, indent: int
) -> None:
    text = "\n".join(json.dumps(value, ensure_ascii=ascii_only, indent=indent) for value in values)
    items = read(*cut(text.encode() + b"\n", cuts))
    assert repr(items) == repr([fitted(value) for value in values])


@settings(max_examples=400)
@given(BYTES, CUTS)
@example(b'{"a": 1}\r\n[1}', [9])
def test_where_the_stream_is_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    whole = repr(read(data))
    assert repr(read(*bytewise(data))) == whole
    assert repr(read(*cut(data, cuts))) == whole


@given(BYTES)
def test_after_ff_and_a_line_end_the_next_command_is_read_whatever_came_before(data: bytes) -> None:
    assert read(data + b'\xff\n{"execute": "quit"}')[-1] == {"execute": "quit"}


@given(BYTES, st.integers(1, 30), st.integers(1, 20), st.integers(1, 6))
def test_limits_cut_no_differently_either(data: bytes, size: int, count: int, nesting: int) -> None:
    limits = JsonLimits(size, count, nesting)
    assert repr(read(data, limits=limits)) == repr(read(*bytewise(data), limits=limits))


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": "x:y", "a": 2}',
        b'{"b": {"a": 1, "a": 2}}',
        b'{"b": [{"a": 1, "a": ":"}]}',
        b'{"a": ":", "b": ":", "a": 1}',
    ],
)
def test_a_key_that_comes_twice_is_an_error_on_the_quick_way_too(text: bytes) -> None:
    (error,) = read(text)
    assert isinstance(error, JsonError)
    assert error.text.endswith("JSON parse error, duplicate key")
    assert read(*bytewise(text)) == [error]


def test_a_number_or_a_word_waits_for_the_byte_after_it() -> None:
    reader = JsonReader()
    assert list(reader.feed(b"42")) == []
    assert list(reader.feed(b"\n")) == [42]
    assert list(reader.feed(b"null")) == []
    assert list(reader.feed(b"{")) == [None]
    assert list(reader.feed(b"}'x'")) == [{}, "x"]


def test_lines_and_columns_go_on_after_commands_that_were_read_the_quick_way() -> None:
    items = read(b'{"execute": "x"}\r\n', b'{"execute": "x"}', b'{"execute": "x"}', b" ]")
    assert items[3:] == [JsonError("2:34: JSON parse error, expecting value")]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 2.0**64),
        (b"-9223372036854775808", -(2**63)),
        (b"-9223372036854775809", -(2.0**63)),
        (b"1" * 5000, math.inf),
        (b"1e400", math.inf),
        (b"-0", 0),
        (b"-0.0", -0.0),
        (b"1e3", 1000.0),
    ],
)
def test_numbers(text: bytes, value: float) -> None:
    assert repr(read(text + b" ")) == repr([value])
    assert repr(read(b'{"n": ' + text + b"}")) == repr([{"n": value}])


def test_1024_within_each_other_are_read_and_1025_are_not() -> None:
    (value,) = read(b"[" * 1024 + b"]" * 1024)
    depth = 0
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    assert depth == 1023
    assert read(b'{"a":' * 1025 + b"1" + b"}" * 1025 + b" 42 ") == [JsonError(NESTING), 42]


def test_a_value_has_two_million_tokens_at_most() -> None:
    # QEMU 11.1.3, with 2097152 for 6: the first token too many is told of, then all is skipped that is inside.
    limits = JsonLimits(count=6)
    assert read(b"[[],[]", limits=limits) == []
    assert read(b"[[],[],", limits=limits) == [JsonError(COUNT)]
    assert read(b"[[],[],[],]", b"]{}", limits=limits) == [
        JsonError(COUNT),
        JsonError("1:12: JSON parse error, expecting value"),
        {},
    ]


def test_a_value_is_smaller_than_the_limit() -> None:
    # QEMU 11.1.3, with 67108864 for 20: the error comes with the quote at which the tokens together are as long.
    limits = JsonLimits(size=20)
    assert read(b'["' + b"a" * 17, limits=limits) == []
    assert read(b'["' + b"a" * 17 + b'"', limits=limits) == [JsonError(SIZE)]
    assert read(b'["' + b"a" * 16 + b'"]', limits=limits) == [JsonError(SIZE)]
    assert read(b'["' + b"a" * 15 + b'"]', limits=limits) == [["a" * 15]]
    assert read(b'["' + b"a" * 17 + b'",1,]\n42\n', limits=limits) == [JsonError(SIZE), 42]
    assert read(b'{"' + b"a" * 17 + b'":1}\n42\n', limits=limits) == [JsonError(SIZE), 42]


def test_a_token_beyond_the_limit_is_cut_and_the_rest_read_as_others() -> None:
    # QEMU 11.1.3, with 67108864 for 20: the rest of the token has the place of its beginning.
    limits = JsonLimits(size=20)
    pieces = (b'"' + b"a" * 19, b"a", b"aaaa", b"\n", b'"\nhello\n42\n')
    expected = [
        JsonError(SIZE),
        JsonError("1:1: JSON parse error, invalid keyword 'aaaa'"),
        JsonError("2:1: JSON parse error, stray '\"\n'"),
        42,
    ]
    assert read(*pieces[:1], limits=limits) == []
    assert read(*pieces[:2], limits=limits) == expected[:1]
    assert read(*pieces, limits=limits) == expected
    assert read(b"".join(pieces), limits=limits) == expected


def test_an_object_that_is_deep_for_its_length() -> None:
    (value,) = read(b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}")
    assert isinstance(value, dict)


def test_blanks_count_for_no_limit() -> None:
    assert read(b"[" + b" \n" * 1000 + b"1]", limits=JsonLimits(size=10, count=3)) == [[1]]


def test_a_long_string_in_pieces() -> None:
    piece = b"a" * 4096
    items = read(b'{"id": "', *[piece] * 512, b'"}')
    assert items == [{"id": "a" * 4096 * 512}]


@pytest.mark.parametrize("piece", [b'"' + b"a" * 30, b"a" * 30, b"1" * 30, b"'\\a", b"@", b"[", b'{"a":', b"[1,"])
def test_what_is_kept_is_bounded(piece: bytes) -> None:
    reader = JsonReader(JsonLimits(size=100, count=50, nesting=10))
    for _ in range(100):
        list(reader.feed(piece))
        assert len(reader._lexer._held) <= 101
        assert len(reader._parser._open) <= 10
