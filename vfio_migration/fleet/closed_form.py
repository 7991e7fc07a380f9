"""
A scenario's switchover for many draws at once: the plan's formulas over arrays.

What does not vary is taken from the plan as it is; passes are added up anew from the steps that hold a latency that
varies. Where a transfer is simulated (with a link, or loading), that is one simulation for all draws, as long as
nothing that varies comes before it or is in it; else each draw is a plan of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vfio_migration.device import DeviceState, MigrationFlags, transition_path
from vfio_migration.fleet.draws import Array, Key
from vfio_migration.plan import MigrationPlan, PassPlan, SideBySidePlan, Step, TransferPlan
from vfio_migration.scenarios import DeviceSpec, Scenario
from vfio_migration.strategies import Arithmetic, DepthTimes

SERIAL = "serial"
MECHANISM = "mechanism"
IDEAL = "ideal"
BOUNDS = (SERIAL, MECHANISM, IDEAL)
_Times = Array | float
_S = DeviceState


@dataclass(frozen=True)
class ClosedForm:
    """A scenario whose draws are a formula."""

    scenario: Scenario
    plan: MigrationPlan

    @property
    def wanted(self) -> set[Key]:
        """Which latencies the switchover goes by."""
        passes = [
            step for each in self.plan.passes for depth in each.depths for step in (*depth.threads, *depth.handlers)
        ]
        return {(step.name, *arc) for step in (*passes, *self.plan.switchover.transfers) for arc in step.arcs}

    def switchovers(self, count: int, drawn: Mapping[Key, Array]) -> dict[str, Array]:
        """Give the switchovers of so many draws, in seconds, by bound."""
        means = {(spec.id, *arc): spec.latency[arc] for spec in self.scenario.devices for arc in spec.varying}
        known: dict[int, _Times] = {}  # all three bounds ask for each step

        def seconds(step: Step) -> _Times:
            """Give what a step takes: as planned, with what was drawn in the place of means."""
            found = known.get(id(step))
            if found is None:
                keys = [(step.name, *arc) for arc in step.arcs if (step.name, *arc) in drawn]
                plain = step.seconds - sum(means[key] for key in keys)
                found = known[id(step)] = sum((drawn[key] for key in keys), plain)
            return found

        return {bound: _filled(self._total(bound, seconds), count) for bound in BOUNDS}

    def _total(self, bound: str, seconds: Callable[[Step], _Times]) -> _Times:
        switchover, phases = self.plan.switchover, self.plan.switchover.phases
        sides = {"source": _Sum(phases.source_stop_s), "destination": _Sum(phases.destination_start_s)}
        for each in self.plan.passes:
            sides[each.side].add(_pass(each, bound, seconds))
        stop, start = sides["source"].total, sides["destination"].total
        if self.plan.transfer is None:
            transfer = _Sum(phases.transfer_s)
            for step in switchover.transfers:
                transfer.add(seconds(step))
            return stop + transfer.total + self.plan.config_load_s + start
        return stop + self.plan.transfer_s + self._after(stop) + start

    def _after(self, stop: _Times) -> _Times:
        """Give what the destination still has to load after such stops."""
        transfer = self.plan.transfer
        if isinstance(transfer, TransferPlan):
            whole, lag = transfer.whole, self.plan.lag_ns(0.0) - np.rint(np.asarray(stop) * 1e9)
            settled = max(transfer.latency, whole.following - whole.sending)
            behind = np.maximum(settled, lag + whole.loading - whole.sending)
            return np.asarray(behind / 1e9 + self.plan.config_load_s)
        assert isinstance(transfer, SideBySidePlan)  # noqa: S101 - there are two
        lag = self.plan.lag_ns(0.0) - np.rint(np.atleast_1d(np.asarray(stop)) * 1e9)
        return _loaded_ns(transfer, lag).reshape(np.shape(stop)) / 1e9


def _loaded_ns(transfer: SideBySidePlan, lag: Array) -> Array:
    """Give how long after the last byte the last configuration is loaded: as `SideBySidePlan`, for many lags."""
    following, loading, config = (
        np.array([getattr(each, name) for each in transfer.loaders], dtype=np.float64)[:, None]
        for name in ("following", "loading", "config")
    )
    done = np.maximum(following, lag + loading)
    done[-1] = np.maximum(done[-1], transfer.sending + transfer.latency)
    order = np.argsort(done, axis=0)
    done, config = np.take_along_axis(done, order, 0), np.take_along_axis(np.broadcast_to(config, done.shape), order, 0)
    now = done[0]
    for moment, seconds in zip(done, config, strict=True):
        now = np.maximum(now, moment) + seconds
    return np.asarray(now - transfer.sending)


def closed_form(scenario: Scenario, plan: MigrationPlan) -> ClosedForm | None:
    """Give the formula of a scenario, which this is the plan of; None if each draw has to be planned anew."""
    if plan.transfer is not None:
        before = {key for spec in scenario.devices for key in _in_setup(spec)}
        before |= {(step.name, *arc) for step in plan.switchover.transfers for arc in step.arcs}
        if any((spec.id, *arc) in before for spec in scenario.devices for arc in spec.varying):
            return None
    return ClosedForm(scenario, plan)


def _in_setup(spec: DeviceSpec) -> list[Key]:
    """Give the arcs that a device takes before the stop, on either side: the decision depends on them."""
    targets = [_S.RESUMING, *([_S.PRE_COPY] if MigrationFlags.PRE_COPY in spec.flags else [])]
    keys = []
    for target in targets:
        entered = transition_path(_S.RUNNING, target, spec.flags)
        keys += [(spec.id, *arc) for arc in zip((_S.RUNNING, *entered), entered, strict=False)]
    return keys


class _Sum:
    """Adds up; numbers as long as nothing varies."""

    def __init__(self, total: _Times) -> None:
        self.total = total

    def add(self, seconds: _Times) -> None:
        self.total = self.total + seconds


def _pass(each: PassPlan, bound: str, seconds: Callable[[Step], _Times]) -> _Times:
    total = _Sum(0.0)
    if bound == IDEAL:
        handlers = _Sum(0.0)
        for depth in each.depths:
            handlers.add(_added(seconds, depth.handlers))
        return _longest([handlers.total, *(seconds(step) for depth in each.depths for step in depth.threads)])
    if bound == SERIAL:
        for depth in each.depths:
            total.add(_added(seconds, (*depth.threads, *depth.handlers)))
        return total.total
    times = [
        DepthTimes(
            tuple(seconds(step) for step in depth.threads if step.arcs),
            _added(seconds, depth.handlers),
            depth.launch_s,
            depth.join_s,
        )
        for depth in each.depths
    ]
    return each.strategy.pass_s(times, _ARRAYS)


def _added(seconds: Callable[[Step], _Times], steps: Sequence[Step]) -> _Times:
    total = _Sum(0.0)
    for step in steps:
        total.add(seconds(step))
    return total.total


def _longest(values: Sequence[_Times]) -> _Times:
    found = values[0]
    for each in values[1:]:
        found = np.maximum(found, each)
    return found


def _shortest(values: Sequence[_Times]) -> _Times:
    found = values[0]
    for each in values[1:]:
        found = np.minimum(found, each)
    return found


_ARRAYS: Arithmetic[_Times] = Arithmetic(0.0, _longest, _shortest)


def _filled(values: _Times, count: int) -> Array:
    return np.array(np.broadcast_to(np.asarray(values, dtype=np.float64), (count,)))
