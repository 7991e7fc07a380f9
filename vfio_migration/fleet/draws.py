"""
Draws of latencies as arrays: the very numbers that runs get.

A run takes one number of `random.Random(seed)` for each latency that varies; numpy's Mersenne Twister, given the state
of that generator, gives the same numbers, a whole block at once. Sample K of a seed is run K of that seed.
"""

from collections.abc import Collection, Iterator
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from vfio_migration.device import DeviceState
from vfio_migration.scenarios import MOST_S, Distribution, LogNormal, Samples, Scenario, Uniform

Array = npt.NDArray[np.float64]
Arc = tuple[DeviceState, DeviceState]
Key = tuple[str, DeviceState, DeviceState]  # a device's id, and one of its arcs
_BLOCK = 2_000_000  # numbers at a time: 16 MB, whatever the number of samples
_CACHED = 4096
_LOWEST = 2.0**-54


class Draws:
    """The latencies of a scenario that vary, in the order in which a run draws them."""

    def __init__(self, scenario: Scenario) -> None:
        self._varying: list[tuple[Key, Distribution]] = [
            ((spec.id, *arc), each) for spec in scenario.devices for arc, each in spec.varying.items()
        ]

    @property
    def keys(self) -> list[Key]:
        """What varies."""
        return [key for key, _ in self._varying]

    def blocks(self, samples: int, seed: int, wanted: Collection[Key]) -> Iterator[tuple[int, dict[Key, Array]]]:
        """Give block after block: how many samples it has, and of what is wanted an array each, in seconds."""
        generator, columns = _generator(seed), len(self._varying)
        rows = max(1, _BLOCK // max(1, columns))
        used = [(n, key, each) for n, (key, each) in enumerate(self._varying) if key in wanted]
        normal = [n for n, _, each in used if isinstance(each, LogNormal)]
        for first in range(0, samples, rows):
            count = min(rows, samples - first)
            places = np.ascontiguousarray(generator.random((count, columns)).T)
            if normal:
                places[normal] = normal_at(places[normal].ravel()).reshape(len(normal), count)
            yield count, {key: _times(each, places[n]) for n, key, each in used}


def _times(distribution: Distribution, places: Array) -> Array:
    """Give the times at these places; of a log-normal, at these quantiles of the standard normal distribution."""
    if isinstance(distribution, LogNormal):
        return np.minimum(distribution.median * np.exp(distribution.sigma * places), MOST_S)
    if isinstance(distribution, Uniform):
        return distribution.low + (distribution.high - distribution.low) * places
    if isinstance(distribution, Samples):
        return np.array(distribution.values)[(places * len(distribution.values)).astype(np.intp)]
    return np.array([distribution.at(place) for place in places])


def _generator(seed: int) -> np.random.Generator:
    """Give numpy's generator in the state of Python's."""
    _, state, _ = Random(seed).getstate()  # noqa: S311 - nothing is kept secret with it
    bits = np.random.MT19937()
    own: dict[str, Any] = {"key": np.array(state[:-1], dtype=np.uint32), "pos": state[-1]}
    bits.state = {"bit_generator": "MT19937", "state": own}  # type: ignore[typeddict-item]
    return np.random.Generator(bits)


# The quantile function of the normal distribution by M. J. Wichura's algorithm AS 241 (Applied Statistics 37, 1988), as
# `statistics.NormalDist` has it: rational functions of the place, near the middle and in two parts of the tails. Numpy
# has none, and that of scipy would differ from what a run draws.
_MIDDLE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_TAIL = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


_TAIL_FROM, _FAR_FROM = 1.6, 5.0


def normal_at(places: Array) -> Array:
    """Give the quantiles of the standard normal distribution at these places, from 0 to below 1."""
    found = np.empty_like(places)
    for first in range(0, len(places), _CACHED):  # what fits the processor's cache takes a third of the time
        found[first : first + _CACHED] = _normal_at(places[first : first + _CACHED])
    return found


def _normal_at(places: Array) -> Array:
    places = np.maximum(places, _LOWEST)
    middle = places - 0.5
    square = 0.180625 - middle * middle
    found = middle * _ratio(_MIDDLE, square)
    outside = np.flatnonzero(square < 0)  # a seventh of them
    if len(outside):
        below = middle[outside] < 0
        tail = np.where(below, places[outside], 1.0 - places[outside])
        root = np.sqrt(-np.log(tail))
        value = np.where(root <= _FAR_FROM, _ratio(_TAIL, root - _TAIL_FROM), _ratio(_FAR, root - _FAR_FROM))
        found[outside] = np.where(below, -value, value)
    return found


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], value: Array) -> Array:
    above, below = (_polynomial(each, value) for each in coefficients)
    return above / below


def _polynomial(coefficients: tuple[float, ...], value: Array) -> Array:
    found = np.full_like(value, coefficients[0])
    for each in coefficients[1:]:
        found *= value
        found += each
    return found
