"""
Times that vary: what a scenario says of them, their mean, and what a draw gives.

A draw is one number of at least 0 and less than 1, whatever the kind: the place in the distribution. So one generator
(`random.Random`) is behind all of them, each takes it the same number of times, and a forecast that draws whole arrays
from a copy of that generator gets the very numbers that runs get, one after another.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Any, Protocol

MOST_S = 1e9  # what is longer counts as this, as with plain numbers
_LOWEST = 2.0**-54  # below all places but 0, for which a log-normal would have none
_STANDARD = NormalDist()
P99 = _STANDARD.inv_cdf(0.99)
_KINDS = ({"median", "p99"}, {"min", "max"}, {"samples"})
EXPECTED = "{ median, p99 }, { min, max } or { samples = [..] }, in seconds"


class Distribution(Protocol):
    """A time that varies, in seconds."""

    @property
    def mean(self) -> float:
        """What it is on average."""
        ...

    def at(self, place: float) -> float:
        """Give the time at a place: 0.99 is what 99 of 100 draws do not exceed."""
        ...


@dataclass(frozen=True)
class LogNormal:
    """Most are near the median, and a few much longer."""

    median: float
    p99: float

    @property
    def sigma(self) -> float:
        """The deviation of its logarithm; 0 if it does not vary."""
        return math.log(self.p99 / self.median) / P99 if self.median else 0.0

    @property
    def mean(self) -> float:
        """What it is on average."""
        return min(self.median * math.exp(self.sigma**2 / 2), MOST_S)

    def at(self, place: float) -> float:
        """Give the time at a place."""
        return min(self.median * math.exp(self.sigma * _STANDARD.inv_cdf(max(place, _LOWEST))), MOST_S)


@dataclass(frozen=True)
class Uniform:
    """All from `low` to `high` are alike."""

    low: float
    high: float

    @property
    def mean(self) -> float:
        """What it is on average."""
        return (self.low + self.high) / 2

    def at(self, place: float) -> float:
        """Give the time at a place."""
        return self.low + (self.high - self.low) * place


@dataclass(frozen=True)
class Samples:
    """One of these, each as likely as the others; in ascending order."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """What it is on average."""
        return fmean(self.values)

    def at(self, place: float) -> float:
        """Give the time at a place."""
        return self.values[int(place * len(self.values))]


def distribution(table: Mapping[str, Any]) -> Distribution:
    """
    Read what a scenario says.

    Raises:
        ValueError: it is none of the three, or makes no sense; the message says what was expected.

    """
    if set(table) not in _KINDS:
        raise ValueError(f"expected {EXPECTED}, got {dict(table)!r}")
    if "samples" in table:
        values = table["samples"]
        if not isinstance(values, list | tuple) or not values or not all(map(_is_time, values)):
            raise ValueError(f"expected samples, one or more, each 0 or more seconds, got {values!r}")
        return Samples(tuple(sorted(map(float, values))))
    first, second = (table[key] for key in (("min", "max") if "min" in table else ("median", "p99")))
    if not (_is_time(first) and _is_time(second) and first <= second):
        raise ValueError(f"expected seconds, 0 or more, the first no longer than the second, got {dict(table)!r}")
    if "min" in table:
        return Uniform(float(first), float(second))
    if first == 0 < second:
        raise ValueError(f"expected a median above 0, or a p99 of 0 too, got {dict(table)!r}")
    return LogNormal(float(first), float(second))


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_S
