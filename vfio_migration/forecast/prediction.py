"""
Predicts a switchover without waiting for it: how long it takes, who makes it so long, and what to speed up first.

    prediction = predict(load_scenario("host"))
    print(prediction.bounds.mechanism_s, prediction.changes[0])

Everything follows from the plan of the scenario (plan.py), which a run in virtual time keeps to exactly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from vfio_migration.forecast.ledger import NS, Ledger
from vfio_migration.forecast.parts import Placed, part_of
from vfio_migration.forecast.planned_stage import PlannedStage
from vfio_migration.forecast.what_if import (
    Change,
    Group,
    device_groups,
    handler_groups,
    machine_changes,
    ranked,
    toggled,
)
from vfio_migration.forecast.whole_migration_changes import whole_migration_changes
from vfio_migration.live import Phases
from vfio_migration.plan import (
    NO_PHASES,
    NO_SURROUNDINGS,
    PLAIN,
    BlackoutPart,
    Bounds,
    MigrationPlan,
    PassPlan,
    PlannedDevice,
    PlannedHandler,
    Surroundings,
    blackout_parts,
    plan_migration,
    plan_switchover,
)
from vfio_migration.scenarios import Scenario, at_their_means, by_strategy, without_link
from vfio_migration.strategies import DEFAULT_STRATEGY, Strategy
from vfio_migration.wording import arc_name, in_order, listed
from vmstate import NS_PER_SECOND, PassKind

_PIECES_OF_A_CHANGE = 5_000  # in which what would be sent side by side is reckoned, for each change
_Cells = Mapping[tuple[str, PassKind, int], PlannedStage]


@dataclass(frozen=True)
class Stage:
    """
    One depth of one pass: how long the switchover stays there, and who makes it so long.

    `slowest` are the devices whose threads take as long as it takes; `in_turn` what comes one after another, if all of
    that takes as long: ordinary handlers, and devices with parallel changes off. `depth` None: plain priorities.
    """

    side: str
    kind: str
    depth: int | None
    seconds: float
    slowest: tuple[str, ...]
    in_turn: tuple[str, ...]


@dataclass(frozen=True)
class PassShare:
    """
    What one device does in one pass: its arcs, each with its seconds.

    `slack_s` is by how much it could be slower and cost nothing; `critical` if by nothing.
    """

    side: str
    kind: str
    seconds: float
    arcs: tuple[tuple[str, float], ...]
    slack_s: float
    critical: bool


@dataclass(frozen=True)
class DeviceShare:
    """
    What one device contributes.

    `contributes_s` is by how much the switchover would be shorter without the device; `toggle_gain_s` by how much with
    its parallel changes switched the other way (less than 0: longer). `alike` are all devices like it, itself among
    them.
    """

    id: str
    depth: int
    parallel: bool
    passes: tuple[PassShare, ...]
    transfer_s: float
    contributes_s: float
    toggle_gain_s: float
    alike: tuple[str, ...]


@dataclass(frozen=True)
class Precopy:
    """
    What comes before the switchover: seconds, bytes, bytes per second.

    `setup_s` is the source's set-up, `seconds` the time from there until the switchover is decided, math.inf: never.
    `passes` is the number of the last `MIGRATION_PASS`. So much memory is left for the blackout, `ram_left`, and takes
    `ram_left_s` of it. `bandwidth` is what was measured, None before the first window has passed and without a link.
    """

    setup_s: float
    seconds: float
    passes: int
    iterations: int
    bandwidth: float | None
    ram_left: int | None
    ram_left_s: float | None


@dataclass(frozen=True)
class Prediction:
    """
    What a scenario's switchover will be, in seconds; math.inf is never, and null in JSON.

    As the scenario is configured it takes `switchover_s`, which is `bounds.mechanism_s`: devices with parallel changes
    off count among the ordinary handlers. `changes` are ranked, what gains most first. `notes` says what the scenario
    leaves open. `never` says why the switchover is never decided, and is empty if it is. `blackout` is what the
    switchover is made of, in the order in which it passes. `strategy` is that of the passes, by its name.
    """

    scenario: str
    bounds: Bounds
    source_stop_s: float
    transfer_s: float
    destination_start_s: float
    stages: tuple[Stage, ...]
    devices: tuple[DeviceShare, ...]
    changes: tuple[Change, ...]
    precopy: Precopy
    blackout: tuple[BlackoutPart, ...] = ()
    never: str = ""
    notes: tuple[str, ...] = ()
    strategy: str = DEFAULT_STRATEGY.name

    @property
    def switchover_s(self) -> float:
        """What the switchover takes as configured."""
        return self.bounds.mechanism_s

    @property
    def blackout_s(self) -> float:
        """How long nobody is served: the switchover, if the destination starts by itself."""
        return self.switchover_s

    def as_json(self, stands: "Prediction | None" = None) -> dict[str, Any]:
        """Give what `predict --json` writes, with the difference to another prediction if there is one; in seconds."""
        difference = {} if stands is None else {"as_it_stands": _difference(self, stands)}
        value = difference | {
            "scenario": self.scenario,
            "bounds": asdict(self.bounds),
            "switchover_s": self.switchover_s,
            "blackout_s": self.blackout_s,
            "source_stop_s": self.source_stop_s,
            "transfer_s": self.transfer_s,
            "destination_start_s": self.destination_start_s,
            "stages": [asdict(each) for each in self.stages],
            "devices": [_device_json(each) for each in self.devices],
            "changes": [
                {"rank": rank, "text": str(each), **asdict(each)} for rank, each in enumerate(self.changes, start=1)
            ],
            "precopy": asdict(self.precopy),
            "blackout": [asdict(each) for each in self.blackout],
            "never": self.never or None,
            "notes": list(self.notes),
        }
        json: dict[str, Any] = _with_nulls(value)
        return json


def predict(scenario: Scenario) -> Prediction:
    """Predict the switchover of a scenario, as it is configured, if nothing fails: its faults are left out."""
    prediction = predict_planned(
        scenario.name,
        scenario.planned_devices(),
        scenario.planned_handlers(),
        scenario.phases,
        scenario.surroundings,
        scenario.strategy,
    )
    return replace(prediction, notes=_notes(scenario))


def predict_planned(
    name: str,
    devices: Sequence[PlannedDevice],
    handlers: Sequence[PlannedHandler],
    phases: Phases = NO_PHASES,
    surroundings: Surroundings = NO_SURROUNDINGS,
    strategy: Strategy = DEFAULT_STRATEGY,
) -> Prediction:
    """Predict the switchover of a machine with these VFIO devices and ordinary handlers, in such surroundings."""
    passes = plan_switchover(devices, handlers, phases, strategy)
    plan = plan_migration(passes, devices, surroundings)
    alike = device_groups(devices, sizes=plan.transfer is not None, left=plan.precopy.left)
    groups = [*alike, *handler_groups(handlers)]
    ledger = Ledger([Placed(each.part, each.places) for each in groups], plan)
    stages = [PlannedStage(each, place) for each in plan.passes for place in range(len(each.depths))]
    cells = {(each.whole.side, each.whole.kind, each.depth.depth): each for each in stages}
    shares: dict[str, DeviceShare] = {}
    for index, group in enumerate(groups):
        if isinstance(group.sample, PlannedDevice):
            share = _share(group, group.sample, ledger, index, plan)
            alone = plan_switchover([group.sample])
            for place in group.places:
                of_it = plan.transfers[place]  # beside others, each may have its own, and its own place among them
                in_passes = tuple(_pass_share(group.sample, each, of_it.name, cells) for each in alone.passes)
                shares[of_it.name] = replace(share, id=of_it.name, passes=in_passes, transfer_s=of_it.seconds)
    return Prediction(
        name,
        plan.bounds,
        plan.source_stop_s,
        plan.transfer_s,
        plan.destination_start_s,
        tuple(map(_stage, stages)),
        tuple(shares[each.id] for each in devices),
        _changes(groups, ledger, plan, devices),
        _precopy(plan),
        blackout_parts(plan),
        plan.never,
        strategy=strategy.name,
    )


def _changes(
    groups: Sequence[Group], ledger: Ledger, plan: MigrationPlan, devices: Sequence[PlannedDevice]
) -> tuple[Change, ...]:
    """Rank all that could be changed; where there never is a switchover, only what brings one about gains anything."""

    def anew(around: Surroundings) -> MigrationPlan:
        return plan_migration(plan.switchover, devices, around, most_pieces=_PIECES_OF_A_CHANGE)

    of_all = whole_migration_changes(plan, anew)
    if plan.never:
        return ranked(of_all)
    return ranked([*machine_changes(groups, ledger, plan.bounds.mechanism_s), *of_all])


def _precopy(plan: MigrationPlan) -> Precopy:
    precopy = plan.precopy
    setup_s = precopy.setup_ns / NS_PER_SECOND
    if plan.never:
        return Precopy(setup_s, math.inf, precopy.passes, precopy.iterations, precopy.measured, None, None)
    ram_s = 0.0 if plan.transfer is None else plan.transfer.ram_ns / NS_PER_SECOND
    seconds = (precopy.decided_ns - precopy.setup_ns) / NS_PER_SECOND
    return Precopy(setup_s, seconds, precopy.passes, precopy.iterations, precopy.measured, precopy.ram_left, ram_s)


def _with_nulls(value: Any) -> Any:
    """Give it with null for what never comes: JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _with_nulls(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _difference(prediction: Prediction, stands: Prediction) -> dict[str, Any]:
    parts = ("switchover_s", "source_stop_s", "transfer_s", "destination_start_s")
    return {
        **{part: getattr(stands, part) for part in parts},
        "difference_s": {part: getattr(prediction, part) - getattr(stands, part) for part in parts},
    }


def _notes(scenario: Scenario) -> tuple[str, ...]:
    """Say which arcs of the switchover a scenario has no latency for, of devices whose other arcs have one."""
    plan = scenario.plan()
    passes = [(*depth.threads, *depth.handlers) for each in plan.passes for depth in each.depths]
    tables = {spec.id: spec.entry.latency for spec in scenario.devices if spec.entry.latency}
    unnamed: dict[str, list[str]] = {}
    for step in (*chain.from_iterable(passes), *plan.transfers):
        for current, target in step.arcs:
            arc = arc_name(current, target)
            if step.name in tables and not {"default", target.name, arc} & tables[step.name].keys():
                unnamed.setdefault(step.name, []).append(arc)
    alike: dict[str, list[str]] = {}
    for name, arcs in unnamed.items():
        alike.setdefault(", ".join(arcs), []).append(name)
    missing = (
        f"no latency is given for {arcs} of {listed(in_order(names))}: 0 stands for it" for arcs, names in alike.items()
    )
    varying = at_their_means(scenario, "these figures are")
    return (*scenario.notes, *by_strategy(scenario), *without_link(scenario), *varying, *missing)


def _stage(stage: PlannedStage) -> Stage:
    depth = stage.depth
    in_turn_slack_s = _rounded(stage.in_turn_slack_s())
    return Stage(
        stage.whole.side,
        str(stage.whole.kind),
        None if depth.depth == PLAIN else depth.depth,
        stage.seconds,
        in_order(step.name for step in depth.threads if step.seconds > 0 == _rounded(stage.slack_s(step))),
        tuple(step.name for step in depth.handlers if step.seconds > 0 == in_turn_slack_s),
    )


def _pass_share(device: PlannedDevice, alone: PassPlan, name: str, cells: _Cells) -> PassShare:
    """Give what the device of this name, which is as `device`, does in a pass; `alone` is that of `device` alone."""
    (depth,) = alone.depths
    (step,) = (*depth.threads, *depth.handlers)
    cell = cells[alone.side, alone.kind, device.depth]
    slack = _rounded(cell.slack_s(replace(step, name=name)) if device.parallel else cell.in_turn_slack_s())
    arcs = tuple((arc_name(a, b), device.arc_s(a, b)) for a, b in step.arcs)
    return PassShare(alone.side, str(alone.kind), step.seconds, arcs, slack, slack == 0 < step.seconds)


def _share(group: Group, device: PlannedDevice, ledger: Ledger, index: int, plan: MigrationPlan) -> DeviceShare:
    return DeviceShare(
        device.id,
        device.depth,
        device.parallel,
        (),
        plan.transfers[group.places[0]].seconds,
        contributes_s=0.0 if plan.never else ledger.gain({index: 1}, []),
        toggle_gain_s=0.0 if plan.never else ledger.gain({index: 1}, [(part_of(toggled(device)), 1)]),
        alike=group.names,
    )


def _rounded(seconds: float) -> float:
    return round(seconds, NS) + 0.0  # no negative zero


def _device_json(share: DeviceShare) -> dict[str, Any]:
    value = asdict(share)
    for each in value["passes"]:
        each["arcs"] = [{"arc": arc, "seconds": seconds} for arc, seconds in each["arcs"]]
    del value["alike"]  # a list of n names for each of n devices; the changes name them
    return value
