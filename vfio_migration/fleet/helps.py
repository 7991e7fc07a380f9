"""What would help most: a change of the scenario, and the p99 that it would give."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vfio_migration.device import DeviceState
from vfio_migration.fleet.closed_form import MECHANISM, ClosedForm, closed_form
from vfio_migration.fleet.draws import Key
from vfio_migration.fleet.one_scenario import Asked, samples_of
from vfio_migration.scenarios import DeviceSpec, Distribution, LogNormal, Samples, Scenario, Uniform, override
from vfio_migration.strategies import DEFAULT_STRATEGY
from vfio_migration.wording import arc_name, in_order, listed

_MOST_KINDS = 8  # of devices whose arcs are tried; those that take longest
_SAMPLES, _SIMULATED = 2_000, 100  # are enough to rank changes; fewer where each takes a plan
_CHANNELS = 8
_ROUNDING_S = 1e-6
_SECTION = ("state_size", "rate", "write_rate")


@dataclass(frozen=True)
class Help:
    """A change in words; `p99_s` is what the switchover's p99 would be with it, and `gains_s` by how much less."""

    change: str
    p99_s: float
    gains_s: float


def helps(scenario: Scenario, asked: Asked, most: int = 5) -> tuple[Help, ...]:
    """Give what helps most, the best first; nothing if the switchover never begins, or if nothing helps."""
    plan = scenario.plan()
    if plan.never:
        return ()
    enough = _SIMULATED if closed_form(scenario, plan) is None else _SAMPLES
    fewer = replace(asked, samples=min(asked.samples, enough))
    now = _p99(scenario, fewer)
    found = []
    for change, changed in _changes(scenario, ClosedForm(scenario, plan).wanted):
        then = _p99(changed, fewer)
        if now - then > _ROUNDING_S:
            found.append(Help(change, then, now - then))
    return tuple(sorted(found, key=lambda each: (-each.gains_s, each.change))[:most])


def _p99(scenario: Scenario, asked: Asked) -> float:
    samples, _ = samples_of(scenario, asked)
    return float(np.quantile(samples[MECHANISM], 0.99))


def _changes(scenario: Scenario, wanted: Collection[Key]) -> Iterator[tuple[str, Scenario]]:
    """Give changes that somebody could make, each in words and done."""
    serial = [spec.id for spec in scenario.devices if not spec.entry.parallel]
    if serial:
        devices = tuple(spec.changed(parallel=True) for spec in scenario.devices)
        yield f"parallel changes on for {listed(in_order(serial))}", replace(scenario, devices=devices)
    if not scenario.surroundings.parameters.multifd_channels and len(scenario.devices) > 1:
        yield f"multifd with {_CHANNELS} channels", override(scenario, [f"parameters.multifd_channels={_CHANNELS}"])
    if scenario.strategy == DEFAULT_STRATEGY:
        yield "the strategy overlapping", override(scenario, ["strategy=overlapping"])
    for group in _kinds(scenario):
        names = listed(in_order([spec.id for spec in group]))
        first = group[0]
        arcs = [arc for arc, seconds in first.latency.items() if seconds > 0 and (first.id, *arc) in wanted]
        for arc in sorted(arcs):
            yield f"{arc_name(*arc)} of {names} in half the time", _with(scenario, group, arc)
        for key in ("rate", "write_rate"):
            rate = getattr(group[0].entry, key)
            if rate is not None:
                done = "read" if key == "rate" else "loaded"
                faster = tuple(spec.changed(**{key: rate * 2}) if spec in group else spec for spec in scenario.devices)
                yield f"the state of {names} {done} twice as fast", replace(scenario, devices=faster)


def _kinds(scenario: Scenario) -> list[list[DeviceSpec]]:
    """Give devices that are alike, the kinds that take longest first."""
    kinds: dict[object, list[DeviceSpec]] = {}
    for spec in scenario.devices:
        key = (spec.depth, spec.entry.parallel, spec.flags, *spec.latency.items(), *spec.varying.items())
        kinds.setdefault((*key, *(getattr(spec.entry, name) for name in _SECTION)), []).append(spec)
    ordered = sorted(kinds.values(), key=lambda group: -sum(group[0].latency.values()))
    return ordered[:_MOST_KINDS]


def _with(scenario: Scenario, group: list[DeviceSpec], arc: tuple[DeviceState, DeviceState]) -> Scenario:
    def halved(spec: DeviceSpec) -> DeviceSpec:
        varying = {key: _half(each) if key == arc else each for key, each in spec.varying.items()}
        return replace(spec, latency={**spec.latency, arc: spec.latency[arc] / 2}, varying=varying)

    return replace(scenario, devices=tuple(halved(spec) if spec in group else spec for spec in scenario.devices))


def _half(distribution: Distribution) -> Distribution:
    """Give the distribution of half the time."""
    if isinstance(distribution, LogNormal):
        return LogNormal(distribution.median / 2, distribution.p99 / 2)
    if isinstance(distribution, Uniform):
        return Uniform(distribution.low / 2, distribution.high / 2)
    assert isinstance(distribution, Samples)  # noqa: S101 - there are three
    return Samples(tuple(each / 2 for each in distribution.values))
