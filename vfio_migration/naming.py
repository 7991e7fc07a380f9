"""Names of devices for people: in their order, and not too many of them."""

import re
from collections.abc import Iterable, Sequence

_SHOWN = 4


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names as people do: gpu10 comes after gpu9."""
    return tuple(sorted(names, key=natural))


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Give what sorts numbers in names as numbers; the name itself tells 01 from 1."""
    pieces = [piece.lstrip("0") if place % 2 else piece for place, piece in enumerate(re.split("([0-9]+)", name))]
    return [(len(piece) if place % 2 else -1, piece) for place, piece in enumerate(pieces)], name


def listed(names: Sequence[str]) -> str:
    """Give the names as a list for people: no more than a few of them, and then how many."""
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: _SHOWN - 2])}, ..., {names[-1]} ({len(names):,} devices)"
