"""
What if: how much shorter the switchover is with one thing changed, for everything that is worth changing.

Devices that are alike (same depth, same times, both parallel or both not) are looked at together: speeding up one of
four equal devices gains nothing where they change in parallel, speeding up all four does.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from vfio_migration.device import DeviceState
from vfio_migration.forecast.ledger import Ledger
from vfio_migration.forecast.parts import Part, part_of
from vfio_migration.plan import PLAIN, PlannedDevice, PlannedHandler, PlannedState, plan_switchover
from vfio_migration.wording import arc_name, in_order, listed, ms, percent

_Arc = tuple[DeviceState, DeviceState]
_INSTANT = "made instant"
_FACTORS = {"halved": 0.5, _INSTANT: 0.0}


class ChangeKind(StrEnum):
    """What is changed."""

    PARALLEL = "parallel"
    ARC = "arc"
    DEPTH = "depth"
    RATE = "rate"
    LOADING = "loading"
    HANDLER = "handler"
    LINK = "link"
    RAM = "ram"
    PARAMETER = "parameter"


@dataclass(frozen=True)
class Change:
    """
    Something to change, and what it gains.

    `names` are VFIO devices, or for ChangeKind.HANDLER the name of ordinary handlers; with `one_of` any one of them is
    changed, else all; of the whole migration they are a table or a parameter. `gain_s` is by how many seconds
    the switchover is shorter, less than 0 if it is longer; `share` is that of the switchover as it is. Where there
    never is a switchover as it is, or with the change, that is math.inf, and -math.inf; `then_s` is what it takes then,
    of what was planned anew for it.
    """

    kind: ChangeKind
    names: tuple[str, ...]
    one_of: bool
    what: str
    gain_s: float
    share: float
    then_s: float | None = None

    @property
    def whom(self) -> str:
        """Whom it concerns, in words."""
        return f"{'one of ' if self.one_of else ''}{listed(self.names)}"

    def __str__(self) -> str:
        if math.isinf(self.gain_s):
            then = f"there is a switchover, of {ms(self.then_s)}" if self.gain_s > 0 else "there never is a switchover"
            return f"{self.whom}: {self.what}: {then}"
        if self.gain_s == 0:
            return f"{self.whom}: {self.what}: changes nothing"
        words = "less" if self.gain_s > 0 else "more"
        gain = f"{ms(abs(self.gain_s))} {words} ({percent(abs(self.share))})"
        return f"{self.whom}: {self.what}: {gain}"


@dataclass(frozen=True)
class Group:
    """Devices that are alike, `sample` being one; or ordinary handlers of one name and depth, `sample` in sum."""

    names: tuple[str, ...]
    part: Part
    sample: PlannedDevice | PlannedHandler
    arcs: tuple[tuple[_Arc, float], ...] = ()
    places: tuple[int, ...] = ()


def device_groups(devices: Sequence[PlannedDevice], *, sizes: bool = False, left: Sequence[int] = ()) -> list[Group]:
    """
    Put devices together that are alike, in the order of the first of each.

    `sizes`: how much state they have too; `left`: what pre-copy left of each, which those have alike that are alike.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for place, device in enumerate(devices):
        state = device.state if sizes else device.known_state.config_load_s
        rest = left[place] if sizes and left else 0
        key = (device.depth, device.parallel, device.flags, device.transfer_s, _arcs(device), state, rest)
        alike.setdefault(key, []).append(place)
    return [
        Group(
            in_order(devices[place].id for place in places),
            part_of(devices[places[0]]),
            devices[places[0]],
            _arcs(devices[places[0]]),
            tuple(places),
        )
        for places in alike.values()
    ]


def handler_groups(handlers: Sequence[PlannedHandler]) -> list[Group]:
    """Put ordinary handlers together that have a name and a depth in common."""
    named: dict[tuple[str, int], list[PlannedHandler]] = {}
    for handler in handlers:
        named.setdefault((handler.name, handler.depth), []).append(handler)
    wholes = [_in_turn(same) for same in named.values()]
    # They are none of the devices, which are counted from 0.
    return [Group((whole.name,), part_of(whole), whole, places=(-1 - number,)) for number, whole in enumerate(wholes)]


def toggled(device: PlannedDevice) -> PlannedDevice:
    """Give the device with parallel changes switched the other way."""
    return replace(device, parallel=not device.parallel)


def ranked(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Put what gains most first; of equals, what changes less."""
    return tuple(
        sorted(changes, key=lambda each: (-each.gain_s, 1 if each.one_of else len(each.names), _INSTANT in each.what))
    )


def machine_changes(groups: Sequence[Group], ledger: Ledger, switchover_s: float) -> list[Change]:
    """Give every change of devices and handlers that there is; the switchover is decided as it is without it."""
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
    return found


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
        faster = replace(device, transfer_s=device.transfer_s / 2, state=_twice_as_fast(device.state, "rate"))
        yield ChangeKind.RATE, "state read twice as fast", part_of(faster)
    yield from _loading_variants(device)


def _loading_variants(device: PlannedDevice) -> Iterator[tuple[ChangeKind, str, Part]]:
    state = device.known_state
    if state.write_rate is not None and state.size:
        faster = replace(device, state=_twice_as_fast(device.state, "write_rate"))
        yield ChangeKind.LOADING, "state written twice as fast", part_of(faster)
    if state.config_load_s > 0:
        for word, factor in _FACTORS.items():
            quicker = replace(state, config_load_s=state.config_load_s * factor)
            yield ChangeKind.LOADING, f"config_load {word}", part_of(replace(device, state=quicker))


def _twice_as_fast(state: PlannedState | None, rate: str) -> PlannedState | None:
    """Give the state with one of its rates doubled, where it has any."""
    now = None if state is None else getattr(state, rate)
    if state is None or now is None:
        return state
    rates: dict[str, Any] = {rate: now * 2}
    return replace(state, **rates)


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
