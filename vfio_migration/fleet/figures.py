"""What samples come to: percentiles, mean, the chance to exceed a limit; and histograms, which can be added up."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vfio_migration.fleet.draws import Array

_PER_OCTAVE = 256  # bins between a time and its double: each is 0.27 % wide
_LOWEST_S, _OCTAVES = 1e-7, 54  # to 1e9 s; what is below, or never ends, has bins of its own
_BINS = _PER_OCTAVE * _OCTAVES


@dataclass(frozen=True)
class Figures:
    """
    Seconds; `exceeds` is the share of samples above the limit, None without one.

    Percentiles are linear between samples, as numpy's.
    """

    p50: float
    p90: float
    p99: float
    mean: float
    exceeds: float | None = None

    def as_json(self) -> dict[str, float | None]:
        """Give them by name; what is never is null."""
        values = {"p50": self.p50, "p90": self.p90, "p99": self.p99, "mean": self.mean}
        return {key: value if np.isfinite(value) else None for key, value in values.items()} | {"exceeds": self.exceeds}


def figures(samples: Array, limit: float | None) -> Figures:
    """Give the figures of samples, at least one."""
    exceeds = None if limit is None else float(np.mean(samples > limit))
    if not np.isfinite(samples).all():
        finite = float(np.median(samples))
        return Figures(finite, np.inf, np.inf, np.inf, exceeds)
    p50, p90, p99 = (float(each) for each in np.quantile(samples, (0.5, 0.9, 0.99)))
    return Figures(p50, p90, p99, float(np.mean(samples)), exceeds)


@dataclass
class Histogram:
    """
    How many samples lie where, on a scale of logarithms; two can be added.

    All samples of a fleet would not fit into memory; counts do, and adding them up gives the same in any order.
    """

    counts: dict[int, int] = field(default_factory=dict)
    above: int = 0
    total: int = 0
    sum_ns: int = 0

    def add(self, samples: Array, limit: float | None) -> None:
        """Count samples."""
        places, counts = np.unique(_bins(samples), return_counts=True)
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            self.counts[place] = self.counts.get(place, 0) + count
        self.total += len(samples)
        self.above += 0 if limit is None else int(np.count_nonzero(samples > limit))
        self.sum_ns += int(np.rint(np.minimum(samples, 1e9).sum() * 1e9))

    def join(self, other: "Histogram") -> None:
        """Add another's counts."""
        for place, count in other.counts.items():
            self.counts[place] = self.counts.get(place, 0) + count
        self.total, self.above = self.total + other.total, self.above + other.above
        self.sum_ns += other.sum_ns

    def figures(self, limit: float | None) -> Figures:
        """Give the figures, percentiles to 0.3 %."""
        mean = self.sum_ns / 1e9 / self.total
        p50, p90, p99 = (self.quantile(each) for each in (0.5, 0.9, 0.99))
        return Figures(p50, p90, p99, mean, None if limit is None else self.above / self.total)

    def quantile(self, share: float) -> float:
        """Give the middle of the bin that holds this quantile, in seconds."""
        left = share * self.total
        for place in sorted(self.counts):
            left -= self.counts[place]
            if left <= 0:
                return middle_of(place)
        return 0.0


def middle_of(place: int) -> float:
    """Give the middle of a bin, in seconds."""
    if place < 0:
        return 0.0
    return float("inf") if place >= _BINS else float(_LOWEST_S * 2 ** ((place + 0.5) / _PER_OCTAVE))


def _bins(samples: Array) -> npt.NDArray[np.int64]:
    """Give the bin of each: -1 below all, `_BINS` above."""
    scaled = np.floor(np.log2(np.maximum(samples, _LOWEST_S / 2) / _LOWEST_S) * _PER_OCTAVE)
    places: npt.NDArray[np.int64] = np.clip(scaled, -1, _BINS).astype(np.int64)
    return places


def figures_json(by_name: Mapping[str, Figures]) -> dict[str, dict[str, float | None]]:
    """Give all figures by name."""
    return {name: each.as_json() for name, each in by_name.items()}
