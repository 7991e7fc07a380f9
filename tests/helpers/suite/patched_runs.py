"""Ninety migrations of a real QEMU with the patch built in (tests/data/qemu-vfio/runs.tsv), and forecasts of them."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from statistics import median
from typing import NamedTuple

from suite import DATA
from vfio_migration import DeviceState, MigrationFlags
from vfio_migration.live import Phases
from vfio_migration.plan import PLAIN, MigrationPlan, PlannedDevice, PlannedHandler, SwitchoverPlan, plan_switchover
from vmstate import PassKind

FOLDER = DATA / "qemu-vfio"
_ALL = MigrationFlags.STOP_COPY | MigrationFlags.P2P | MigrationFlags.PRE_COPY
_ROOT_DEPTH = 2  # that of a device on pcie.0; behind a root port it is one more


class Configuration(NamedTuple):
    """What was migrated: devices, milliseconds an arc, `a` for one depth and `b` for two."""

    devices: int
    step_ms: int
    topology: str


@dataclass(frozen=True)
class PassTimes:
    """The four passes and what came after them on each side, in milliseconds; named as the columns are."""

    stop_prepare_ms: float
    stop_main_ms: float
    stop_tail_ms: float
    start_prepare_ms: float
    start_main_ms: float
    start_tail_ms: float
    stop_ms: float
    dst_ms: float


def taken(parallel: str) -> dict[Configuration, PassTimes]:
    """Give what each configuration took with the property `on` or `off`: medians of its three runs."""
    runs: dict[Configuration, list[Mapping[str, str]]] = {}
    with (FOLDER / "runs.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["parallel"] == parallel:
                configuration = Configuration(int(row["devices"]), int(row["step_ms"]), row["topology"])
                runs.setdefault(configuration, []).append(row)
    return {
        configuration: PassTimes(*(median(float(row[each.name]) for row in rows) for each in fields(PassTimes)))
        for configuration, rows in runs.items()
    }


def forecast(configuration: Configuration, off: PassTimes, costs: Phases) -> PassTimes:
    """Forecast what it takes with the property on: each device takes its share of the passes that are in turn."""
    count = configuration.devices
    arcs = {
        (DeviceState.PRE_COPY, DeviceState.PRE_COPY_P2P): off.stop_prepare_ms,
        (DeviceState.PRE_COPY_P2P, DeviceState.STOP_COPY): off.stop_main_ms,
        (DeviceState.RESUMING, DeviceState.STOP): off.start_prepare_ms,
        (DeviceState.RUNNING_P2P, DeviceState.RUNNING): off.start_main_ms,
    }
    deeper = count // 2 if configuration.topology == "b" else 0
    devices = [
        PlannedDevice(
            f"vf{number}",
            _ROOT_DEPTH + (number < deeper),
            _ALL,
            lambda current, target: arcs.get((current, target), 0.0) / count / 1000,
            0.0,
            True,
        )
        for number in range(count)
    ]
    tail = PlannedHandler("tail", PLAIN, stop_s=off.stop_tail_ms / 1000, start_s=off.start_tail_ms / 1000)
    return _times(plan_switchover(devices, [tail], costs), off)


def _times(plan: SwitchoverPlan, off: PassTimes) -> PassTimes:
    passes = {
        (each.side, each.kind): sum(depth.mechanism_s for depth in each.depths if depth.depth != PLAIN) * 1000
        for each in plan.passes
    }
    return PassTimes(
        passes["source", PassKind.PREPARE],
        passes["source", PassKind.MAIN],
        off.stop_tail_ms,
        passes["destination", PassKind.PREPARE],
        passes["destination", PassKind.MAIN],
        off.start_tail_ms,
        plan.source_stop_s * 1000,
        plan.destination_start_s * 1000,
    )


def passes_of(plan: MigrationPlan) -> PassTimes:
    """Give the times of a plan, its handlers with the pass in which they are; the sides without what is around them."""
    phases = plan.switchover.phases
    whole = {(each.side, each.kind): each.mechanism_s * 1000 for each in plan.passes}
    stop = whole["source", PassKind.PREPARE] + whole["source", PassKind.MAIN]
    start = whole["destination", PassKind.PREPARE] + whole["destination", PassKind.MAIN]
    return PassTimes(
        whole["source", PassKind.PREPARE],
        whole["source", PassKind.MAIN],
        phases.flush_block_s * 1000,
        whole["destination", PassKind.PREPARE],
        whole["destination", PassKind.MAIN],
        0.0,
        stop + phases.flush_block_s * 1000,
        start,
    )


def rows_of_the_page(costs: Phases) -> list[str]:
    """Give the rows of the tables in docs/patched-qemu.md."""
    on, off = taken("on"), taken("off")
    rows = []
    for key in off:
        bare, full, took = forecast(key, off[key], Phases()), forecast(key, off[key], costs), on[key]
        cells = [f"{each.stop_ms:.1f}, {each.dst_ms:.1f}" for each in (off[key], bare, full, took)]
        missed = f"{_percent(full.stop_ms, took.stop_ms)}, {_percent(full.dst_ms, took.dst_ms)}"
        what = f"{key.devices}, {key.step_ms}, {key.topology}"
        rows.append(f"| {what} | {' | '.join(cells)} | {missed if key.step_ms else '-'} |")
        if key.step_ms:
            shown = [
                f"{getattr(full, name):.1f} of {getattr(took, name):.1f}"
                for name in ("stop_prepare_ms", "stop_main_ms", "start_prepare_ms", "start_main_ms")
            ]
            rows.append(f"| {what} | {' | '.join(shown)} |")
    return rows


def row_of_costs(log: str, costs: Phases, devices: int) -> str:
    """Give a row of that page's table of what launching and joining cost: `devices` are those of a stage."""
    planned = [PlannedDevice(str(number), 0, _ALL, lambda *_: 1.0, 0.0, True) for number in range(devices)]
    stage_ms = (plan_switchover(planned, (), costs).passes[0].mechanism_s - 1.0) * 1000
    return f"| {log} | {costs.launch_s * 1000:.2f} | {costs.join_s * 1000:.2f} | {stage_ms:.1f} |"


def _percent(forecasts: float, took: float) -> str:
    return f"{100 * (forecasts / took - 1):+.1f} %"
