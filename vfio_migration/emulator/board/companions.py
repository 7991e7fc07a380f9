"""What comes with a device and does not sit below it: host bridges, functions of PCI beside it, subsystems."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vfio_migration.emulator.board.making import DeviceMaker, is_expander
from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice, below
from vfio_migration.emulator.board.pci_slots import choose
from vfio_migration.emulator.board.pci_view import entry_of
from vfio_migration.emulator.board.searching import find_bus
from vfio_migration.emulator.board.values import read_address
from vfio_migration.emulator.profile.profile import Profile
from vfio_migration.emulator.profile.templates import Template
from vfio_migration.emulator.profile.tree_text import DeviceText

_ACCOMPANIED = ("amd-iommu", "igb")
_PXB = 9  # what query-pci says that a `pxb` is


class Companions:
    """
    Makes what devices bring with them.

    `unattached` counts the objects that nobody named, `counts` the buses that nobody named, by type.
    """

    def __init__(self, profile: Profile, maker: DeviceMaker, unattached: int, counts: dict[str, int]) -> None:
        self._profile = profile
        self._maker = maker
        self._unattached = unattached
        self._counts = counts

    def bring(self, tree: BoardBus, device: BoardDevice, template: Template, values: Mapping[str, Any]) -> None:
        """Make what a device that is in place brings; it is noted as `device.beside`."""
        if is_expander(device.type):
            self._expand(tree, device, template, int(values.get("bus_nr", 0)))
        elif device.type in _ACCOMPANIED:
            self._accompany(tree, device, template)
        elif device.type == "nvme" and "subsys" not in values:
            self._maker.configure(device, {"subsys": self._next_unattached()})
            self._counts["nvme-bus"] = self._counts.get("nvme-bus", 0) + 1  # of the subsystem that it makes

    def _expand(self, tree: BoardBus, device: BoardDevice, template: Template, number: int) -> None:
        """Make the host bridge that an expander brings."""
        for _, text in template.beside:
            made = self._maker.make_beside(device, text, tree, number, self._next_unattached())
            for each in (each for bus in made.buses for each in below(bus)):
                if each.parent is not None and self._profile.is_a(each.type, "pci-device"):
                    self._maker.put_on_pci(each, 0, each.parent)
                    self._maker.configure(each, {"chassis_nr": number})
                    each.pci = template.pci
        host_bridge = self._profile.template("pxb-pcie")
        if device.type == "pxb" and host_bridge is not None and host_bridge.pci is not None:
            device.pci = {**host_bridge.pci, "id": {**host_bridge.pci["id"], "device": _PXB}}

    def _accompany(self, tree: BoardBus, device: BoardDevice, template: Template) -> None:
        """Make what came with a device on a bus of PCI that was there: functions of its own, or of the board."""
        own = device.parent if device.parent is not None and self._profile.is_a(device.parent.type, "PCI") else None
        for name, text in template.beside[::-1]:
            bus = own or find_bus(tree, partial(_is_called, name))
            if bus is None or not self._profile.is_a(text.type, "pci-device"):
                continue
            if own is not None and template.tree is not None:
                devfn = _address(text) + read_address(device.value("addr"), "", typed=False) - _address(template.tree)
            else:
                devfn = choose(bus, text.type, -1, multifunction=False, hotplugged=False, single_slot=False)
            made = self._maker.make_beside(device, text, bus, 0, self._next_unattached())
            self._maker.put_on_pci(made, devfn, bus)
            made.pci = entry_of(text) if own is None else None

    def _next_unattached(self) -> str:
        self._unattached += 1
        return f"/machine/unattached/device[{self._unattached - 1}]"


def _is_called(name: str, bus: BoardBus) -> bool:
    return bus.name == name


def _address(text: DeviceText) -> int:
    start = "addr = "
    shown = next((line[len(start) :] for line in text.lines if line.startswith(start)), "0")
    return read_address(shown, text.type, typed=False)
