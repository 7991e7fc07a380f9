"""Writes what an import found as a scenario."""

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w

from vfio_migration.importing.attempts import LoggedMigration
from vfio_migration.importing.findings import Findings, FoundDevice
from vfio_migration.plan import PLAIN
from vfio_migration.scenarios import ROOT_BUS
from vfio_migration.wording import arc_name, ms

_CHOSEN = (
    "Where no line says how large a state is, its size is chosen: with the rate it gives the time that was logged.",
)
_STATE_SIZE = 65536  # any will do: with the rate it gives the time


@dataclass(frozen=True)
class Origin:
    """Where a scenario comes from: `head` is its first comment, `description` its own."""

    head: str
    description: str


def origin_of(migration: LoggedMigration, destination: str | None) -> Origin:
    """Say which migration a scenario is of; `destination` is the name of its log, if there was one."""
    also = "" if destination is None else f" and {destination!r}"
    downtime = migration.downtime_s
    took = "" if downtime is None else f", downtime {ms(downtime)} on the source"
    return Origin(
        f"Imported from {migration.log!r}{also}: migration {migration.number} ({migration.status}).",
        f"imported from {migration.log}{took}",
    )


def scenario_text(findings: Findings, origin: Origin, notes: Iterable[str]) -> str:
    """Write what was found as a scenario, behind what there is to say of it."""
    comments = [
        origin.head,
        *(_CHOSEN if any(each.state_size is None for each in findings.devices.values()) else ()),
        *(f"- {note}" for note in notes),
    ]
    header = "".join(f"# {_printable(comment)}\n" for comment in comments)
    return header + "\n" + tomli_w.dumps(_data(findings, origin))


def _data(findings: Findings, origin: Origin) -> dict[str, Any]:
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
    data: dict[str, Any] = {
        "description": _printable(origin.description),
        "tree": {"devices": [*chain, *vfio, *hosts]},
        "vfio": [_device_data(findings, each) for each in findings.devices.values()],
    }
    if findings.with_sizes:
        data |= _surroundings(findings)
    if findings.channels:  # which says how states were sent, whether or not their sizes are written
        data["parameters"] = data.get("parameters", {}) | {"multifd_channels": findings.channels}
    if findings.phases:
        data["phases"] = {name: ns / 1e9 for name, ns in findings.phases.items()}
    return data | ({"handlers": handlers} if handlers else {})


def _surroundings(findings: Findings) -> dict[str, Any]:
    ram: dict[str, float] = {}
    if findings.ram_size is not None:
        ram["size"] = findings.ram_size
        if findings.dirty_rate is not None:
            ram["dirty_rate"] = findings.dirty_rate
    tables: dict[str, Mapping[str, float | bool]] = {
        "ram": ram,
        "link": findings.link,
        "parameters": findings.parameters,
    }
    return {name: dict(table) for name, table in tables.items() if table}


def _device_data(findings: Findings, device: FoundDevice) -> dict[str, Any]:
    data: dict[str, Any] = {
        "devices": glob.escape(device.name),
        "p2p": device.p2p,
        "precopy": device.precopy,
    }
    if not device.parallel:
        data["parallel"] = False
    if findings.channels and not device.in_thread:
        data["multifd"] = False
    data |= _state(findings, device)
    data["latency"] = {arc_name(*arc): _latency(device.samples.get(arc, [ns])) for arc, ns in device.arcs.items()}
    return data


def _latency(samples: Sequence[int]) -> float | dict[str, list[float]]:
    """Give what an arc took, in seconds: all that it took, if that varies."""
    low, high = min(samples), max(samples)
    return low / 1e9 if low == high else {"samples": [ns / 1e9 for ns in sorted(samples)]}


def _state(findings: Findings, device: FoundDevice) -> dict[str, Any]:
    """Give a device's size and rates; what it takes on the link is not reading."""
    data: dict[str, Any] = {} if device.state_size is None else {"state_size": device.state_size}
    size = _STATE_SIZE if device.state_size is None else device.state_size
    bandwidth = findings.link.get("bandwidth") if findings.with_sizes else None
    reading_ns = device.transfer_ns - (0 if bandwidth is None else size * 1e9 / bandwidth)
    if reading_ns > 0:
        data |= {"state_size": size, "rate": size * 1e9 / reading_ns}
    if findings.with_sizes and device.write_rate is not None:
        data["write_rate"] = device.write_rate
    if findings.with_sizes and device.config_load_ns:
        data["config_load"] = device.config_load_ns / 1e9
    return data


def _bus(depth: int) -> str:
    return ROOT_BUS if depth == 1 else f"depth-{depth}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
