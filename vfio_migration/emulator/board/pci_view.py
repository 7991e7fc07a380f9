"""What the monitor says of PCI devices before firmware has numbered any bus: `query-pci` and `info pci`."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from vfio_migration.emulator.board.nodes import BoardBus, buses_below
from vfio_migration.emulator.board.pci_slots import FUNCTIONS, addresses
from vfio_migration.emulator.profile.tree_text import DeviceText

_ROOT = "pci-host-bridge"
_UNMAPPED = -1
_CLASS = re.compile(r"class (.*), addr \w\w:\w\w\.\w, pci id (\w{4}):(\w{4}) \(sub (\w{4}):(\w{4})\)")


def describe_pci(roots: Iterable[BoardBus], is_a: Callable[[str, str], bool]) -> list[dict[str, Any]]:
    """
    Describe the devices on every root bus of PCI (QEMU's `qmp_query_pci`).

    What lies behind a bridge is not seen until firmware has given the bridge a number.
    """
    return [
        {"bus": bus.number, "devices": list(_devices(bus))}
        for root in roots
        for bus in buses_below(root)
        if bus.parent is not None and is_a(bus.parent.type, _ROOT) and is_a(bus.type, "PCI")
    ]


def entry_of(text: DeviceText) -> dict[str, Any] | None:
    """Make an entry of the line that `info qtree` has of a PCI device; None if it has none. Regions are left out."""
    found = next(filter(None, map(_CLASS.match, text.lines)), None)
    if found is None:
        return None
    name, vendor, device, subvendor, subsystem = found.groups()
    return {
        "irq_pin": 0,
        "class_info": {"class": int(name.removeprefix("Class "), 16)} if name.startswith("Class ") else {"desc": name},
        "id": {
            "vendor": int(vendor, 16),
            "device": int(device, 16),
            "subsystem-vendor": int(subvendor, 16),
            "subsystem": int(subsystem, 16),
        },
        "regions": [],
    }


def pci_text(buses: Iterable[Mapping[str, Any]]) -> str:
    """Write what `describe_pci` gives as `info pci` does (QEMU's `hmp_info_pci`)."""
    return "".join(f"{line}\r\n" for bus in buses for device in bus["devices"] for line in _lines(device))


def _devices(bus: BoardBus) -> Iterator[dict[str, Any]]:
    for devfn, device in sorted(addresses(bus).items()):
        if device.pci is not None:
            place = {"bus": bus.number, "slot": devfn // FUNCTIONS, "function": devfn % FUNCTIONS}
            yield {**device.pci, **place, "qdev_id": device.id}


def _lines(device: Mapping[str, Any]) -> Iterator[str]:
    kind, id_ = device["class_info"], device["id"]
    yield f"  Bus {device['bus']:2}, device {device['slot']:3}, function {device['function']}:"
    name = kind.get("desc", f"Class {kind['class']:04}")
    yield f"    {name}: PCI device {id_['vendor']:04x}:{id_['device']:04x}"
    if "subsystem-vendor" in id_ and "subsystem" in id_:
        yield f"      PCI subsystem {id_['subsystem-vendor']:04x}:{id_['subsystem']:04x}"
    if "irq" in device:
        yield f"      IRQ {device['irq']}, pin {chr(ord('A') + device['irq_pin'] - 1)}"
    if "pci_bridge" in device:
        yield from _bridge_lines(device["pci_bridge"]["bus"])
    for region in device["regions"]:
        yield f"      BAR{region['bar']}: {_region_words(region)}"
    yield f'      id "{device["qdev_id"]}"'


def _bridge_lines(bus: Mapping[str, Any]) -> Iterator[str]:
    yield f"      BUS {bus['number']}."
    yield f"      secondary bus {bus['secondary']}."
    yield f"      subordinate bus {bus['subordinate']}."
    for name, words, digits in (
        ("io_range", "IO", 4),
        ("memory_range", "memory", 8),
        ("prefetchable_range", "prefetchable memory", 8),
    ):
        yield f"      {words} range [0x{bus[name]['base']:0{digits}x}, 0x{bus[name]['limit']:0{digits}x}]"


def _region_words(region: Mapping[str, Any]) -> str:
    if region["type"] == "io":
        words, digits = "I/O", 4
    else:
        prefetchable = " prefetchable" if region["prefetch"] else ""
        words, digits = f"{64 if region['mem_type_64'] else 32} bit{prefetchable} memory", 8
    if region["address"] == _UNMAPPED:
        return f"{words} (not mapped)"
    last = region["address"] + region["size"] - 1
    return f"{words} at 0x{region['address']:0{digits}x} [0x{last:0{digits}x}]."
