"""Times, shares, names and arcs as people read and write them: the one place that words them, whatever shows them."""

import math
import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TypeVar

_SHOWN = 4
_LONGEST_NAME = 24
_ARROW = "->"
_State = TypeVar("_State", bound=Enum)


def ms(seconds: float | None, unit: str = " ms", digits: int = 1) -> str:
    """Write seconds as milliseconds, `-` for a time that was not reached and `never` for one that never will be."""
    if seconds == math.inf:
        return "never"
    return "-" if seconds is None else f"{seconds * 1000:,.{digits}f}{unit}"


def signed_ms(seconds: float) -> str:
    """Write a difference in milliseconds, with its sign; no unit, for tables. `-`: one of the two is never reached."""
    if not math.isfinite(seconds):
        return "-"
    text = f"{seconds * 1000:+,.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def percent(share: float) -> str:
    """Write a share from 0 to 1."""
    return f"{share * 100:.1f} %"


def arc_name(current: Enum, target: Enum) -> str:
    """Write an arc as people do: `PRE_COPY -> PRE_COPY_P2P`."""
    return f"{current.name} {_ARROW} {target.name}"


def arc_parts(text: str) -> tuple[str, str]:
    """Take `A -> B` apart, with blanks around the arrow or without; the second is empty if there is no arrow."""
    current, _, target = text.partition(_ARROW)
    return current.strip(), target.strip()


def parse_arc(text: str, states: type[_State]) -> tuple[_State, _State]:
    """
    Read an arc, written as `arc_name` does or without blanks.

    Raises:
        ValueError: it is not of this form, or no such state exists.

    """
    current, target = arc_parts(text)
    try:
        return states[current], states[target]
    except KeyError:
        raise ValueError(
            f"an arc is written 'PRE_COPY -> PRE_COPY_P2P', with names of {states.__name__}; got {text!r}"
        ) from None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names as people do: gpu10 comes after gpu9."""
    return tuple(sorted(names, key=natural))


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Give what sorts numbers in names as numbers; the name itself tells 01 from 1."""
    pieces = [piece.lstrip("0") if place % 2 else piece for place, piece in enumerate(re.split("([0-9]+)", name))]
    return [(len(piece) if place % 2 else -1, piece) for place, piece in enumerate(pieces)], name


def listed(names: Sequence[str], what: str = "devices", most: int = _SHOWN) -> str:
    """Give the names as a list for people: no more than a few of them, and then how many."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 2])}, ..., {names[-1]} ({len(names):,} {what})"


def printable(text: str) -> str:
    """Replace what no picture can show, such as control characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def shortened(text: str, most: int = _LONGEST_NAME) -> str:
    """Leave out the middle of a text that is too long."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
