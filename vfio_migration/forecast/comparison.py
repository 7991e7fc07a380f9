"""Two predictions held against each other: phase by phase, device by device."""

import math
from dataclasses import dataclass
from typing import Any

from vfio_migration.forecast.prediction import DeviceShare, Prediction

_SAME_S = 1e-9


@dataclass(frozen=True)
class Difference:
    """
    Something that takes another time in the second: seconds, None where one of them has no such thing.

    `what` is a bound, a part of the switchover, or what a device does in a pass.
    """

    what: str
    first_s: float | None
    second_s: float | None

    @property
    def longer_s(self) -> float:
        """By how much the second takes longer; what one has not takes no time."""
        return (self.second_s or 0.0) - (self.first_s or 0.0)


@dataclass(frozen=True)
class Comparison:
    """Two scenarios: all that differs, bounds and parts first, then devices; `same` if nothing does."""

    first: str
    second: str
    whole: tuple[Difference, ...]
    devices: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Whether no time differs."""
        return not self.devices and all(abs(each.longer_s) < _SAME_S for each in self.whole)

    def as_json(self) -> dict[str, Any]:
        """Give what `compare --json` writes; seconds, null for what is not there, or never is."""
        return {
            "first": self.first,
            "second": self.second,
            "same": self.same,
            "whole": [_json(each) for each in self.whole],
            "devices": [_json(each) for each in self.devices],
        }


def compare(first: Prediction, second: Prediction) -> Comparison:
    """Hold two predictions against each other."""
    whole = [
        *(
            Difference(name, getattr(first.bounds, name), getattr(second.bounds, name))
            for name in ("serial_s", "mechanism_s", "ideal_s")
        ),
        *(
            Difference(name, getattr(first, name), getattr(second, name))
            for name in ("source_stop_s", "transfer_s", "destination_start_s")
        ),
        *_blackout(first, second),
    ]
    ones, others = _steps(first), _steps(second)
    differing = [
        Difference(what, ones.get(what), others.get(what))
        for what in dict.fromkeys((*ones, *others))
        if _differ(ones.get(what), others.get(what))
    ]
    return Comparison(first.scenario, second.scenario, tuple(whole), tuple(differing))


def _blackout(first: Prediction, second: Prediction) -> list[Difference]:
    """Give the parts of both blackouts, those that differ."""
    ones, others = ({f"{part.part}: {part.what}": part.seconds for part in each.blackout} for each in (first, second))
    return [
        Difference(what, ones.get(what), others.get(what))
        for what in dict.fromkeys((*ones, *others))
        if _differ(ones.get(what), others.get(what))
    ]


def _steps(prediction: Prediction) -> dict[str, float]:
    """Give what each device does in each pass, and its transfer, in seconds."""
    return {what: seconds for device in prediction.devices for what, seconds in _of(device).items()}


def _of(device: DeviceShare) -> dict[str, float]:
    passes = {f"{device.id}, {each.side} {each.kind}": each.seconds for each in device.passes}
    return passes | {f"{device.id}, transfer": device.transfer_s}


def _differ(one: float | None, other: float | None) -> bool:
    if one is None or other is None or math.isinf(one) or math.isinf(other):
        return one != other
    return abs(one - other) >= _SAME_S


def _json(each: Difference) -> dict[str, Any]:
    def known(value: float | None) -> float | None:
        return None if value is None or math.isinf(value) else value

    longer = each.longer_s if math.isfinite(each.longer_s) else None
    return {"what": each.what, "first_s": known(each.first_s), "second_s": known(each.second_s), "longer_s": longer}
