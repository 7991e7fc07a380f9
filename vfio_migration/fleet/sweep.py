"""Sweeps: a scenario with each of many values, and what its switchover takes with each."""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from vfio_migration.engines import in_order_of
from vfio_migration.errors import ScenarioError
from vfio_migration.fleet.closed_form import MECHANISM
from vfio_migration.fleet.one_scenario import Asked, forecast_one
from vfio_migration.scenarios import DeviceSpec, Scenario, override

_RANGE = re.compile(r"(?P<first>[^:,{}]+):(?P<last>[^:,{}]+)(?::(?P<count>\d+))?")
_DEVICES = "devices."
_MOST_POINTS = 100_000
_MOST_DEVICES = 10_000
_PER_PIECE = 50


@dataclass(frozen=True)
class Vary:
    """A key, as `--set` has it or `devices.PREFIX`, and the values that it is to have."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """The scenario with one value of each key; seconds, math.inf is never. `p99_s`: None where no latency varies."""

    values: dict[str, str]
    serial_s: float
    mechanism_s: float
    ideal_s: float
    p99_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Give it with null for what never is."""
        times = {key: value for key, value in vars(self).items() if key != "values"}
        return {"values": self.values} | {
            key: None if value is None or math.isinf(value) else value for key, value in times.items()
        }


def parse_vary(text: str) -> Vary:
    """
    Read `KEY=FIRST:LAST:COUNT` (so many, evenly), `KEY=FIRST:LAST` (whole numbers) or `KEY=A,B,C`.

    Raises:
        ScenarioError: it is none of these.

    """
    key, equals, values = text.partition("=")
    if not (equals and key.strip() and values.strip()):
        raise ScenarioError(f"{text!r}: expected KEY=FIRST:LAST:COUNT, KEY=FIRST:LAST or KEY=A,B,C")
    match = _RANGE.fullmatch(values.strip())
    if match is None:
        some = [values] if "{" in values else values.split(",")  # a time that varies is one value
        return Vary(key.strip(), tuple(each.strip() for each in some))
    try:
        found = _between(match)
    except ValueError:
        # Not numbers: a strategy such as pool:4.
        return Vary(key.strip(), (values.strip(),))
    if not found:
        raise ScenarioError(f"{text!r}: expected a range of one value at least, the first no greater than the last")
    return Vary(key.strip(), tuple(found))


def _between(match: re.Match[str]) -> list[str]:
    if match["count"] is None:
        first, last = int(match["first"]), int(match["last"])
        return [str(number) for number in range(first, min(last, first + _MOST_POINTS) + 1)]
    first_s, last_s, count = float(match["first"]), float(match["last"]), int(match["count"])
    if count < 2 or last_s < first_s:  # noqa: PLR2004 - a range has two ends
        return [f"{first_s:.9g}"] if count == 1 else []
    return [f"{first_s + (last_s - first_s) * n / (count - 1):.9g}" for n in range(count)]


def sweep(
    scenario: Scenario,
    varied: Sequence[Vary],
    *,
    samples: int = 1000,
    seed: int = 0,
    executor: Callable[[], Executor] | None = None,
    on_done: Callable[[int], object] = lambda _: None,
) -> tuple[Point, ...]:
    """
    Predict the scenario with every combination of values, the last key's changing fastest.

    Raises:
        ScenarioError: a key or a value cannot be used, or there are too many combinations.
        EngineError: workers keep dying.

    """
    count = math.prod(len(each.values) for each in varied)
    if count > _MOST_POINTS:
        raise ScenarioError(f"{count:,} combinations: expected {_MOST_POINTS:,} at most")
    keys = [each.key for each in varied]
    points = [
        (dict(zip(keys, each, strict=True)), _with(scenario, keys, each))
        for each in itertools.product(*(one.values for one in varied))
    ]
    asked = Asked(samples, seed)
    pieces = [_Piece(asked, tuple(points[n : n + _PER_PIECE])) for n in range(0, len(points), _PER_PIECE)]
    found = in_order_of(_worked_out, pieces, executor, lambda place: on_done(len(pieces[place].points)))
    return tuple(each for piece in found for each in piece)


@dataclass(frozen=True)
class _Piece:
    asked: Asked
    points: tuple[tuple[dict[str, str], Scenario], ...]


def _worked_out(piece: _Piece) -> list[Point]:
    return [_point(values, scenario, piece.asked) for values, scenario in piece.points]


def _point(values: dict[str, str], scenario: Scenario, asked: Asked) -> Point:
    bounds = scenario.plan().bounds
    p99 = forecast_one(scenario, asked).figures[MECHANISM].p99 if scenario.varies else None
    return Point(values, bounds.serial_s, bounds.mechanism_s, bounds.ideal_s, p99)


def _with(scenario: Scenario, keys: Sequence[str], values: Sequence[str]) -> Scenario:
    changed = scenario
    for key, value in zip(keys, values, strict=True):
        if key.startswith(_DEVICES):
            changed = with_devices(changed, key.removeprefix(_DEVICES), value)
        else:
            changed = override(changed, [f"{key}={value}"])
    return changed


def with_devices(scenario: Scenario, prefix: str, count: str) -> Scenario:
    """
    Give the scenario with so many devices whose ids are the prefix and a number: fewer of them, or more like the last.

    It is for planning: the tree stays as it is.

    Raises:
        ScenarioError: there is none to take after, or that is no number.

    """
    numbered = [spec for spec in scenario.devices if re.fullmatch(re.escape(prefix) + r"\d+", spec.id)]
    if not numbered:
        raise ScenarioError(f"{_DEVICES}{prefix}: expected the beginning of ids such as 'vf' of vf0, got {prefix!r}")
    if not count.isdecimal() or not 1 <= int(count) <= _MOST_DEVICES:
        raise ScenarioError(
            f"{_DEVICES}{prefix}: expected a number of devices from 1 to {_MOST_DEVICES:,}, got {count!r}"
        )
    wanted = int(count)
    more = [_like(numbered[-1], prefix, number) for number in range(len(numbered), wanted)]
    gone = {spec.id for spec in numbered[wanted:]}
    kept = [spec for spec in scenario.devices if spec.id not in gone]
    return replace(scenario, devices=(*kept, *more))


def _like(spec: DeviceSpec, prefix: str, number: int) -> DeviceSpec:
    return replace(spec, id=f"{prefix}{number}")
