"""
What if: how much shorter the switchover is with one thing changed, for everything that is worth changing.

Devices that are alike (same depth, same times, both parallel or both not) are looked at together: speeding up one of
four equal devices gains nothing where they change in parallel, speeding up all four does.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from vfio_migration.device import DeviceState
from vfio_migration.plan import PLAIN, PlannedDevice, PlannedHandler, plan_switchover
from vfio_migration.wording import arc_name, in_order, listed, ms, percent

_Arc = tuple[DeviceState, DeviceState]
_NS = 9  # digits: the clocks count nanoseconds, what is below is rounding
_PASSES = 4
_INSTANT = "made instant"
_FACTORS = {"halved": 0.5, _INSTANT: 0.0}


class ChangeKind(StrEnum):
    """What is changed."""

    PARALLEL = "parallel"
    ARC = "arc"
    DEPTH = "depth"
    RATE = "rate"
    HANDLER = "handler"


@dataclass(frozen=True)
class Change:
    """
    Something to change, and what it gains.

    `names` are VFIO devices, or for ChangeKind.HANDLER the name of ordinary handlers; with `one_of` any one of them is
    changed, else all. `gain_s` is by how many seconds the switchover is shorter, less than 0 if it is longer; `share`
    is that of the switchover as it is.
    """

    kind: ChangeKind
    names: tuple[str, ...]
    one_of: bool
    what: str
    gain_s: float
    share: float

    @property
    def whom(self) -> str:
        """Whom it concerns, in words."""
        return f"{'one of ' if self.one_of else ''}{listed(self.names)}"

    def __str__(self) -> str:
        if self.gain_s == 0:
            return f"{self.whom}: {self.what}: changes nothing"
        words = "less" if self.gain_s > 0 else "more"
        gain = f"{ms(abs(self.gain_s))} {words} ({percent(abs(self.share))})"
        return f"{self.whom}: {self.what}: {gain}"


@dataclass(frozen=True)
class Part:
    """What a device or a handler puts into each of the four passes at its depth, and into the transfer, in seconds."""

    depth: int
    thread: bool
    seconds: tuple[float, ...]
    transfer_s: float


@dataclass(frozen=True)
class Group:
    """Devices that are alike, `sample` being one; or ordinary handlers of one name and depth, `sample` in sum."""

    names: tuple[str, ...]
    part: Part
    sample: PlannedDevice | PlannedHandler
    arcs: tuple[tuple[_Arc, float], ...] = ()


def device_groups(devices: Sequence[PlannedDevice]) -> list[Group]:
    """Put devices together that are alike, in the order of the first of each."""
    alike: dict[tuple[object, ...], list[PlannedDevice]] = {}
    for device in devices:
        key = (device.depth, device.parallel, device.flags, device.transfer_s, _arcs(device))
        alike.setdefault(key, []).append(device)
    return [
        Group(in_order(each.id for each in same), part_of(same[0]), same[0], _arcs(same[0])) for same in alike.values()
    ]


def handler_groups(handlers: Sequence[PlannedHandler]) -> list[Group]:
    """Put ordinary handlers together that have a name and a depth in common."""
    named: dict[tuple[str, int], list[PlannedHandler]] = {}
    for handler in handlers:
        named.setdefault((handler.name, handler.depth), []).append(handler)
    wholes = [_in_turn(same) for same in named.values()]
    return [Group((whole.name,), part_of(whole), whole) for whole in wholes]


def part_of(which: PlannedDevice | PlannedHandler) -> Part:
    """Give what a device or handler puts into a plan, from a plan of it alone."""
    if isinstance(which, PlannedDevice):
        plan, thread = plan_switchover([which]), which.parallel
    else:
        plan, thread = plan_switchover([], [which]), False
    return Part(which.depth, thread, tuple(each.serial_s for each in plan.passes), plan.transfer_s)


def toggled(device: PlannedDevice) -> PlannedDevice:
    """Give the device with parallel changes switched the other way."""
    return replace(device, parallel=not device.parallel)


class Ledger:
    """
    The seconds of every pass and depth, group by group.

    Says what the switchover gains if others take the place of some, from the depths that this touches alone: planning
    all of it again for each change would take too long for a machine of a thousand devices.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self._in_turn: dict[tuple[int, int], float] = {}
        self._threads: dict[tuple[int, int], list[tuple[float, int]]] = {}
        for index, group in enumerate(groups):
            for number, seconds in enumerate(group.part.seconds):
                cell = (group.part.depth, number)
                if group.part.thread:
                    self._threads.setdefault(cell, []).append((seconds, index))
                else:
                    self._in_turn[cell] = self._in_turn.get(cell, 0.0) + len(group.names) * seconds
        for threads in self._threads.values():
            threads.sort(reverse=True)

    def gain(self, taken: Mapping[int, int], added: Sequence[tuple[Part, int]]) -> float:
        """Give by how many seconds the switchover is shorter with so many of these groups taken, and these added."""
        away = [(self._groups[index].part, count) for index, count in taken.items()]
        gain = sum(part.transfer_s * count for part, count in away)
        gain -= sum(part.transfer_s * count for part, count in added)
        for depth in {part.depth for part, _ in (*away, *added)}:
            for number in range(_PASSES):
                gain += self._cell(depth, number, {}, ()) - self._cell(depth, number, taken, added)
        return round(gain, _NS) + 0.0  # no negative zero

    def _cell(self, depth: int, number: int, taken: Mapping[int, int], added: Sequence[tuple[Part, int]]) -> float:
        """Give how long one pass stays at one depth: its longest thread, or all that comes in turn."""
        in_turn = self._in_turn.get((depth, number), 0.0)
        less = [(self._groups[index].part, -count) for index, count in taken.items()]
        for part, count in (*less, *added):
            if part.depth == depth and not part.thread:
                in_turn += count * part.seconds[number]
        left = (
            seconds
            for seconds, index in self._threads.get((depth, number), ())
            if taken.get(index, 0) < len(self._groups[index].names)
        )
        new = (part.seconds[number] for part, _ in added if part.depth == depth and part.thread)
        return max(in_turn, next(left, 0.0), *new)


def changes(groups: Sequence[Group], switchover_s: float) -> tuple[Change, ...]:
    """Give every change that there is, ranked: what gains most first; of equals, what changes less."""
    ledger = Ledger(groups)
    depths = sorted({each.part.depth for each in groups} - {PLAIN})

    def change(kind: ChangeKind, what: str, members: Mapping[int, Part], *, one_of: bool = False) -> Change:
        names = tuple(name for index in members for name in groups[index].names)
        counts = {index: 1 if one_of else len(groups[index].names) for index in members}
        gain = ledger.gain(counts, [(part, counts[index]) for index, part in members.items()])
        return Change(kind, names, one_of, what, gain, gain / switchover_s if switchover_s else 0.0)

    found: list[Change] = []
    # What several groups of a depth could be told alike, and what the best of them gains alone.
    together: dict[tuple[int, ChangeKind, str], dict[int, Part]] = {}
    alone: dict[tuple[int, ChangeKind, str], float] = {}
    for index, group in enumerate(groups):
        for kind, what, part in _variants(group, depths):
            whole = change(kind, what, {index: part})
            found.append(whole)
            if len(group.names) > 1:
                found.append(change(kind, what, {index: part}, one_of=True))
            if kind is not ChangeKind.HANDLER:
                same = (group.part.depth, kind, what)
                together.setdefault(same, {})[index] = part
                alone[same] = max(whole.gain_s, alone.get(same, -math.inf))
    for (depth, kind, what), members in together.items():
        if len(members) > 1:
            whole = change(kind, what, members)
            # Two groups that are as slow as each other gain nothing alone, but together they do.
            if whole.gain_s > alone[depth, kind, what]:
                found.append(whole)
    found.sort(key=lambda each: (-each.gain_s, 1 if each.one_of else len(each.names), _INSTANT in each.what))
    return tuple(found)


def _variants(group: Group, depths: Sequence[int]) -> Iterator[tuple[ChangeKind, str, Part]]:
    """Give what one of a group could be changed to."""
    if isinstance(group.sample, PlannedHandler):
        yield from _handler_variants(group.sample)
        return
    device = group.sample
    yield ChangeKind.PARALLEL, f"parallel changes {'off' if device.parallel else 'on'}", part_of(toggled(device))
    for arc, seconds in group.arcs:
        if seconds > 0:
            for word, factor in _FACTORS.items():
                what = f"{arc_name(*arc)} {word}"
                yield ChangeKind.ARC, what, part_of(_with_arc(device, arc, factor * seconds))
    for depth in depths:
        if depth != device.depth:
            yield ChangeKind.DEPTH, f"moved from depth {device.depth} to {depth}", replace(group.part, depth=depth)
    if device.transfer_s > 0:
        faster = replace(device, transfer_s=device.transfer_s / 2)
        yield ChangeKind.RATE, "state read twice as fast", part_of(faster)


def _handler_variants(handler: PlannedHandler) -> Iterator[tuple[ChangeKind, str, Part]]:
    for callback in ("stop", "start", "prepare_stop", "prepare_start"):
        seconds = getattr(handler, f"{callback}_s")
        if seconds > 0:
            for word, factor in _FACTORS.items():
                times: dict[str, Any] = {f"{callback}_s": factor * seconds}
                yield ChangeKind.HANDLER, f"{callback} {word}", part_of(replace(handler, **times))


def _in_turn(handlers: Sequence[PlannedHandler]) -> PlannedHandler:
    """Ordinary handlers of one depth come in turn, and so several are as one that takes as long."""
    return replace(
        handlers[0],
        stop_s=sum(each.stop_s for each in handlers),
        start_s=sum(each.start_s for each in handlers),
        prepare_stop_s=sum(each.prepare_stop_s for each in handlers),
        prepare_start_s=sum(each.prepare_start_s for each in handlers),
    )


def _with_arc(device: PlannedDevice, arc: _Arc, seconds: float) -> PlannedDevice:
    return replace(device, arc_s=lambda a, b: seconds if (a, b) == arc else device.arc_s(a, b))


def _arcs(device: PlannedDevice) -> tuple[tuple[_Arc, float], ...]:
    """Give the arcs of the switchover, each with what it takes; those of the transfer last."""
    plan = plan_switchover([device])
    steps = [step for each in plan.passes for depth in each.depths for step in (*depth.threads, *depth.handlers)]
    return tuple((arc, device.arc_s(*arc)) for step in (*steps, *plan.transfers) for arc in step.arcs)
