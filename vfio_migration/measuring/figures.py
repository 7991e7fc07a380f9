"""Median, p90 and spread of what was measured."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median


@dataclass(frozen=True)
class Figures:
    """
    Some times, or sizes, in figures; seconds or bytes.

    `p90` is the smallest that nine tenths do not exceed, `spread` the largest less the smallest, `count` how many.
    """

    median: float
    mean: float
    p90: float
    spread: float
    count: int


def figures(values: Iterable[float]) -> Figures | None:
    """Give the figures of these; None if there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    p90 = ordered[_rank(len(ordered))]
    return Figures(median(ordered), fmean(ordered), p90, ordered[-1] - ordered[0], len(ordered))


def medians(columns: Sequence[Iterable[float]]) -> list[float]:
    """Give the median of each; 0 of none."""
    return [each.median if (each := figures(column)) is not None else 0.0 for column in columns]


def _rank(count: int) -> int:
    """Give the place of the nearest rank of nine tenths."""
    return max(0, -(-count * 9 // 10) - 1)
