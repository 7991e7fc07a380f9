"""Writes what an import found as a scenario."""

import glob
from typing import Any

import tomli_w

from vfio_migration.importing.attempts import LoggedMigration
from vfio_migration.importing.findings import Findings, FoundDevice
from vfio_migration.plan import PLAIN
from vfio_migration.scenarios import ROOT_BUS
from vfio_migration.wording import arc_name, ms

_STATE_SIZE = 65536  # any will do: with the rate it gives the time


def scenario_text(findings: Findings, migration: LoggedMigration, destination: str | None) -> str:
    """Write what was found as a scenario; `destination` is the name of its log, if there was one."""
    also = "" if destination is None else f" and {destination!r}"
    comments = [
        f"Imported from {migration.log!r}{also}: migration {migration.number} ({migration.status}).",
        "Sizes are chosen so that with the rates they give the times that were logged.",
        *(f"- {note}" for note in findings.all_notes()),
    ]
    header = "".join(f"# {_printable(comment)}\n" for comment in comments)
    return header + "\n" + tomli_w.dumps(_data(findings, migration))


def _data(findings: Findings, migration: LoggedMigration) -> dict[str, Any]:
    handlers: list[dict[str, Any]] = []
    hosts: list[dict[str, Any]] = []
    for number, ((name, depth, priority), times) in enumerate(findings.handlers.items()):
        entry: dict[str, Any] = {"name": name or "handler"}
        if depth == PLAIN:
            entry["priority"] = priority
        else:
            entry["types"] = f"handler-{number}"
            hosts.append({"bus": _bus(depth), "type": f"handler-{number}"})
        handlers.append(entry | {key: ns / 1e9 for key, ns in times.items()})
    deepest = max([each.depth for each in findings.devices.values()] + [depth for _, depth, _ in findings.handlers])
    chain = [{"bus": _bus(depth), "type": "bridge", "buses": [_bus(depth + 1)]} for depth in range(1, max(1, deepest))]
    vfio = [{"bus": _bus(each.depth), "id": each.name, "type": each.type} for each in findings.devices.values()]
    downtime = migration.downtime_s
    took = "" if downtime is None else f", downtime {ms(downtime)} on the source"
    data: dict[str, Any] = {
        "description": f"imported from {_printable(migration.log)}{took}",
        "tree": {"devices": [*chain, *vfio, *hosts]},
        "vfio": [_device_data(each) for each in findings.devices.values()],
    }
    if findings.phases:
        data["phases"] = {name: ns / 1e9 for name, ns in findings.phases.items()}
    return data | ({"handlers": handlers} if handlers else {})


def _device_data(device: FoundDevice) -> dict[str, Any]:
    data: dict[str, Any] = {
        "devices": glob.escape(device.name),
        "p2p": device.p2p,
        "precopy": device.precopy,
    }
    if not device.parallel:
        data["parallel"] = False
    if device.transfer_ns:
        data |= {"state_size": _STATE_SIZE, "rate": _STATE_SIZE * 1e9 / device.transfer_ns}
    data["latency"] = {arc_name(a, b): ns / 1e9 for (a, b), ns in device.arcs.items()}
    return data


def _bus(depth: int) -> str:
    return ROOT_BUS if depth == 1 else f"depth-{depth}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
