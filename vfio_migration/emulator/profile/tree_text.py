"""The text of `info qtree` as nodes that keep every line, and back."""

from collections.abc import Iterator
from dataclasses import dataclass

_STEP = "  "


@dataclass(frozen=True)
class BusText:
    """A bus: its name, its type, and its devices from the first line to the last, which is newest first."""

    name: str
    type: str
    devices: "tuple[DeviceText, ...]" = ()


@dataclass(frozen=True)
class DeviceText:
    """A device: its own lines (properties, then what its bus says of it) and its buses, as they stand in the text."""

    type: str
    id: str
    lines: tuple[str, ...] = ()
    buses: tuple[BusText, ...] = ()


def read_tree(text: str) -> BusText:
    """Read a tree that begins with its root bus. The text is as the monitor prints it, or `tree_lines` does."""
    lines = [line for line in text.splitlines() if line.strip()]
    bus, _ = _read_bus(lines, 0)
    return bus


def read_device(text: str) -> DeviceText:
    """Read the text of one device with all below it."""
    device, _ = _read_device([line for line in text.splitlines() if line.strip()], 0)
    return device


def tree_lines(node: BusText | DeviceText, indent: str = "") -> Iterator[str]:
    """Give the lines of a node and of all below it (QEMU's `qdev_print` and `qbus_print`)."""
    deeper = indent + _STEP
    if isinstance(node, BusText):
        yield f"{indent}bus: {node.name}"
        yield f"{deeper}type {node.type}"
        for device in node.devices:
            yield from tree_lines(device, deeper)
        return
    yield f'{indent}dev: {node.type}, id "{node.id}"'
    for line in node.lines:
        yield deeper + line
    for bus in node.buses:
        yield from tree_lines(bus, deeper)


def all_devices(bus: BusText) -> Iterator[tuple[BusText, DeviceText]]:
    """Give every device below a bus, with the bus that it sits on, in the order of the text."""
    for device in bus.devices:
        yield bus, device
        for below in device.buses:
            yield from all_devices(below)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _read_bus(lines: list[str], at: int) -> tuple[BusText, int]:
    indent = _indent(lines[at])
    name, kind = lines[at].strip().removeprefix("bus: "), lines[at + 1].strip().removeprefix("type ")
    devices, at = [], at + 2
    while at < len(lines) and _indent(lines[at]) > indent:
        device, at = _read_device(lines, at)
        devices.append(device)
    return BusText(name, kind, tuple(devices)), at


def _read_device(lines: list[str], at: int) -> tuple[DeviceText, int]:
    indent = _indent(lines[at])
    kind, _, id_ = lines[at].strip().removeprefix("dev: ").rpartition(', id "')
    own, buses, at = [], [], at + 1
    while at < len(lines) and _indent(lines[at]) > indent:
        if lines[at].lstrip().startswith("bus: "):
            bus, at = _read_bus(lines, at)
            buses.append(bus)
        else:
            own.append(lines[at].strip())
            at += 1
    return DeviceText(kind, id_.removesuffix('"'), tuple(own), tuple(buses)), at
