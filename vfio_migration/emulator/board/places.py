"""Places that a device takes on its bus if it is not told one: numbers, ports, units, addresses of network cards."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice
from vfio_migration.emulator.errors import QmpError

_OF_USB = re.compile(r"addr \d+\.\d+, port ([^,]*),")
IsA = Callable[[str, str], bool]
_UNSET = 0xFFFFFFFF
_MOST_TARGETS, _MOST_LUNS, _MOST_UNITS = 255, 16383, 2
_SERIAL = ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3))
_PARALLEL = ((0x378, 7), (0x278, 7), (0x3BC, 7))
_PORTS = {"uhci": 2, "ehci": 6, "ohci": 3, "xhci": 4, "usb-hub": 8}
_MACS = "52:54:00:12:34:{:02x}"
_FIRST_MAC, _LAST_MAC = 0x56, 0xFF


def place_on_bus(
    bus: BoardBus, kind: str, values: Mapping[str, Any], everywhere: Iterable[BoardDevice], is_a: IsA
) -> dict[str, Any]:
    """
    Give the values of the properties that say where a device is.

    Raises:
        QmpError: the place that it was told is taken, or there is none.

    """
    if bus.type == "SCSI":
        return _on_scsi(bus, values)
    if bus.type == "IDE":
        unit = _ide_unit(bus, values, is_a)
        return {"unit": unit, "serial": values.get("serial") or f"QM{2 * bus.number + unit + 1:05}"}
    if bus.type == "HDA":
        return {"cad": values.get("cad", _first_free(bus, "cad"))}
    if bus.type == "virtio-serial-bus":
        return {"nr": values.get("nr", _first_free(bus, "nr", 0 if kind == "virtconsole" else 1))}
    if kind in ("isa-serial", "isa-parallel"):
        return _isa_port(kind, values, everywhere)
    return {}


def usb_port(bus: BoardBus, kind: str, wanted: str, is_a: IsA) -> tuple[str, bool]:
    """
    Give the port of a USB bus that a device takes, and whether a hub must come before it (QEMU's `usb_claim_port`).

    Raises:
        QmpError: there is no such port, or none is free.

    """
    taken = {_port_of(each) for each in bus.devices}
    ports = [each for each in _usb_ports(bus, is_a) if each not in taken]
    if wanted:
        if wanted not in ports:
            raise QmpError(f"usb port {wanted} (bus {bus.name}) not found (in use?)")
        return wanted, False
    if not ports:
        raise QmpError(f"tried to attach usb device {kind} to a bus with no free ports")
    return ports[0], len(ports) == 1 and kind != "usb-hub"


def check_chassis(values: Mapping[str, Any], everywhere: Iterable[BoardDevice], is_a: IsA) -> None:
    """
    Check that no other port has the same chassis and slot (QEMU's `pcie_chassis_add_slot`).

    Raises:
        QmpError: one has.

    """
    wanted = tuple(int(values.get(name, 0)) for name in ("chassis", "slot"))
    for each in everywhere:
        if is_a(each.type, "pcie-slot") and tuple(each.number(name) or 0 for name in ("chassis", "slot")) == wanted:
            raise QmpError("Can't add chassis slot, error -16")


def check_expander(kind: str, bus: BoardBus, is_a: IsA) -> None:
    """
    Check that an expander of PCI sits on a root bus of its kind (QEMU's `pxb_dev_realize_common`).

    Raises:
        QmpError: it does not.

    """
    if kind == "pxb" and is_a(bus.type, "PCIE"):
        raise QmpError("pxb devices cannot reside on a PCIe bus")
    if kind != "pxb" and not is_a(bus.type, "PCIE"):
        raise QmpError(f"{kind} devices cannot reside on a PCI bus")
    if bus.parent is None or not is_a(bus.parent.type, "pci-host-bridge"):
        raise QmpError("PXB devices can be attached only to root bus")


def plugged_into_hub(device: BoardDevice) -> list[BoardDevice]:
    """Give the devices on the ports of a USB hub; there are none of any other device."""
    if device.type != "usb-hub" or device.parent is None:
        return []
    start = f"{_port_of(device)}."
    ports = [(each, _port_of(each)) for each in device.parent.devices]
    return [each for each, port in ports if port.startswith(start) and "." not in port[len(start) :]]


def next_mac(devices: Iterable[BoardDevice]) -> str:
    """Give the next address of a network card that no other has (QEMU's `qemu_macaddr_default_if_unset`)."""
    taken = {(each.value("mac") or "").strip('"').lower() for each in devices}
    return next(each for each in map(_MACS.format, range(_FIRST_MAC, _LAST_MAC)) if each not in taken)


def _on_scsi(bus: BoardBus, values: Mapping[str, Any]) -> dict[str, Any]:
    """Give a target and a unit (QEMU's `scsi_bus_check_address`)."""
    channel, target, lun = (int(values.get(name, -1)) for name in ("channel", "scsi-id", "lun"))
    channel = max(channel, 0)
    taken = {tuple(each.number(name) for name in ("channel", "scsi-id", "lun")): each for each in bus.devices}
    if target > _MOST_TARGETS:
        raise QmpError(f"bad scsi device id: {target}")
    if lun > _MOST_LUNS:
        raise QmpError(f"bad scsi device lun: {lun}")
    if target < 0:
        lun = max(lun, 0)
        free = (each for each in range(_MOST_TARGETS + 1) if (channel, each, lun) not in taken)
        target = next(free, -1)
        if target < 0:
            raise QmpError("no free target")
    elif lun < 0:
        lun = next(each for each in range(_MOST_LUNS + 1) if (channel, target, each) not in taken)
    elif (channel, target, lun) in taken:
        raise QmpError(f"lun already used by '{taken[channel, target, lun].id}'")
    return {"channel": channel, "scsi-id": target, "lun": lun}


def _ide_unit(bus: BoardBus, values: Mapping[str, Any], is_a: IsA) -> int:
    """Give a unit of an IDE bus (QEMU's `ide_dev_initfn`); a bus of AHCI has one."""
    most = 1 if bus.parent is not None and is_a(bus.parent.type, "pci-device") and _is_ahci(bus.parent) else _MOST_UNITS
    taken = {each.number("unit") for each in bus.devices}
    unit = values.get("unit", _UNSET)
    unit = (1 if 0 in taken else 0) if unit == _UNSET else int(unit)
    if unit >= most:
        raise QmpError(f"Can't create IDE unit {unit}, bus supports only {most} units")
    if unit in taken:
        raise QmpError(f"IDE unit {unit} is in use")
    return unit


def _is_ahci(device: BoardDevice) -> bool:
    return "ahci" in device.type


def _isa_port(kind: str, values: Mapping[str, Any], everywhere: Iterable[BoardDevice]) -> dict[str, Any]:
    table = _SERIAL if kind == "isa-serial" else _PARALLEL
    index = int(values.get("index", _UNSET))
    index = sum(each.type == kind for each in everywhere) if index == _UNSET else index
    if index >= len(table):
        words = "serial" if kind == "isa-serial" else "parallel"
        raise QmpError(f"Max. supported number of ISA {words} ports is {len(table)}.")
    port, line = table[index]
    found = {"index": index, "iobase": values.get("iobase", port)}
    return found | {"irq": values.get("irq", line)} if kind == "isa-serial" or "irq" in values else found


def _first_free(bus: BoardBus, name: str, first: int = 0) -> int:
    taken = {each.number(name) for each in bus.devices}
    return next(each for each in range(first, _UNSET) if each not in taken)


def _usb_ports(bus: BoardBus, is_a: IsA) -> list[str]:
    above = bus.parent
    if above is None:
        return []
    found = [str(number + 1) for number in range(_port_count(above, is_a))]
    for each in bus.devices:
        if each.type == "usb-hub":
            found += [f"{_port_of(each)}.{number + 1}" for number in range(each.number("ports") or _PORTS["usb-hub"])]
    return found


def _port_count(device: BoardDevice, is_a: IsA) -> int:
    if "xhci" in device.type:
        return max((int(str(device.options.get(name, 4)), 0) for name in ("p2", "p3")), default=4)
    given = device.number("num-ports")
    return given or next((count for name, count in _PORTS.items() if name in device.type), 1)


def _port_of(device: BoardDevice) -> str:
    return next((match[1] for line in device.lines if (match := _OF_USB.match(line))), "")
