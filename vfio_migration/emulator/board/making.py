"""Makes a device on a board: its nodes, their lines, and its objects, from a template or from what its type lists."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vfio_migration.emulator.board.building import Builder
from vfio_migration.emulator.board.hash_order import rehashed
from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice, below
from vfio_migration.emulator.board.store import ObjectStore
from vfio_migration.emulator.board.values import shown_address, shown_default, shown_value
from vfio_migration.emulator.profile.profile import Profile
from vfio_migration.emulator.profile.recorded_objects import renamed
from vfio_migration.emulator.profile.templates import ID, PATH, Template
from vfio_migration.emulator.profile.tree_text import BusText, DeviceText

_OF_PCI = re.compile(r", addr \w\w:\w\w\.\w,")
_OF_USB = re.compile(r"addr \d+\.(\d+), port [^,]*,")
_EXPANDERS = ("pxb", "pxb-pcie", "pxb-cxl")
_OF_DRIVE = {"logical_block_size": 512, "physical_block_size": 512, "discard_granularity": 4096}
_ROM, _NO_SIZE = 6, 0xFFFFFFFF  # the region that is the ROM's, and the size of one that is not given
_QUEUES = ("num-queues", "num_queues")
BusName = Callable[[BusText, BoardDevice], str]


class DeviceMaker:
    """Makes devices into one store of objects; `bus_name` names their buses, `cpus` is for queues that count them."""

    def __init__(self, profile: Profile, store: ObjectStore, bus_name: BusName, cpus: int) -> None:
        self._profile = profile
        self._store = store
        self._bus_name = bus_name
        self._cpus = cpus

    def make(self, device: BoardDevice, template: Template | None) -> None:
        """Give a device that sits on its bus its nodes and objects."""
        if template is None:
            self._make_plain(device)
        else:
            self._make_recorded(device, template)
        self._store.attach(device.path)

    def _make_recorded(self, device: BoardDevice, template: Template) -> None:
        moved: dict[str, str] = {}

        def rename(text: str) -> str:
            for old, new in moved.items():
                if text == old or text.startswith(f"{old}/"):
                    return new + text[len(old) :]
            return text.replace(PATH, device.path).replace(ID, device.id)

        builder = Builder(template.objects, self._bus_name, rename)
        if template.tree is not None:
            builder.below(device, template.tree, PATH)
        moved.update(sorted(builder.moved.items(), key=lambda each: -len(each[0])))
        for path, listing in template.objects.items():
            if path.startswith(PATH):
                names = {
                    each[0]: moved[at].rpartition("/")[2] for each in listing if (at := f"{path}/{each[0]}") in moved
                }
                self._store.add(rename(path), _renamed_listing(listing, names, rename))
        device.pci = template.pci

    def make_beside(self, device: BoardDevice, text: DeviceText, bus: BoardBus, number: int, path: str) -> BoardDevice:
        """Make a device that came with another one; `number` is that of the PCI bus that it brings."""

        def rename(line: str) -> str:
            return line.replace(ID, device.id)

        made = BoardDevice(rename(text.id), text.type, path, {})
        made.plug(bus)
        Builder({}, lambda bus_text, _: self._bus_name(bus_text, device), rename).below(made, text, path)
        self._store.add(path, [["type", "string", text.type], ["realized", "bool", True]])
        self._store.attach(path)
        for each in made.buses:
            each.number = number
            self._store.add(each.path, [["type", "string", each.type]])
            self._store.attach(each.path)
        device.beside.append(made)
        return made

    def configure(self, device: BoardDevice, values: Mapping[str, Any]) -> None:
        """Put values of properties into lines and objects, of the device and of those that were made with it."""
        for name, value in values.items():
            for each in _family(device):
                like = each.value(name)
                if like is not None and name != "addr" and not (name == "drive" and each.type == "usb-storage"):
                    each.set_value(name, shown_value(value, like))
                    each.device.properties.update({name: str(value)} if name in ("host", "sysfsdev", "fd") else {})
                self._store.put(each.path, name, value)
            self._store.put(f"{device.path}/virtio-backend", name, value)

    def complete(self, device: BoardDevice, values: Mapping[str, Any]) -> None:
        """Put what follows from other properties: names, block sizes, lines of consoles."""
        if "serial" in values and "device_id" not in values:
            for each in _family(device):
                if each.type.startswith("scsi-"):
                    self.configure(each, {"device_id": values["serial"]})
        if values.get("romfile") == "" or values.get("rombar") == 0:
            self._leave_rom_out(device, values)
        if device.type == "nvme" and "drive" in values:
            self.configure(device, {name: value for name, value in _OF_DRIVE.items() if name not in values})
        if device.parent is not None and device.parent.type == "virtio-serial-bus":
            number, host = device.number("nr"), "on" if device.type == "virtconsole" and "chardev" in values else "off"
            line = f"port {number}, guest off, host {host}, throttle off"
            device.lines = [line if each.startswith("port ") else each for each in device.lines]

    def _leave_rom_out(self, device: BoardDevice, values: Mapping[str, Any]) -> None:
        """Take away the region of a device's ROM (QEMU's `pci_add_option_rom`)."""
        device.lines = [line for line in device.lines if not line.startswith(f"bar {_ROM}: ")]
        if "romsize" not in values:
            self.configure(device, {"romsize": _NO_SIZE})
        if device.pci is not None:
            device.pci = {**device.pci, "regions": [each for each in device.pci["regions"] if each["bar"] != _ROM]}

    def put_on_pci(self, device: BoardDevice, devfn: int, bus: BoardBus) -> None:
        """Write a device's address on a PCI bus wherever it says it."""
        shown = shown_address(devfn)
        device.set_value("addr", shown)
        device.set_value("busnr", shown_value(bus.number, ""))
        device.lines = [_OF_PCI.sub(f", addr {bus.number:02x}:{shown},", each) for each in device.lines]
        device.device.properties["addr"] = shown
        address = device.number("sas_address")
        if address is not None:
            shown_place = bus.number << 16 | devfn // 8 << 8 | devfn % 8
            self.configure(device, {"sas_address": address & ~0xFFFFFF | shown_place})
        self._store.put(device.path, "addr", devfn)
        self._store.put(device.path, "busnr", bus.number)

    def put_on_port(self, device: BoardDevice, port: str) -> None:
        """Write the port of a USB bus that a device sits on."""
        number = device.parent.number if device.parent is not None else 0
        device.lines = [_OF_USB.sub(f"addr {number}.\\1, port {port},", each) for each in device.lines]

    def count_queues(self, device: BoardDevice, values: Mapping[str, Any]) -> None:
        """Give a device as many queues as there are CPUs, and vectors for them (`virtio_pci_optimal_num_queues`)."""
        for each in _family(device):
            name = next((one for one in _QUEUES if each.number(one) is not None), None)
            if name is None or not any(one.number("vectors") is not None for one in _family(device)):
                continue
            queues = int(values.get(name, self._cpus if each.number(name) == 1 else each.number(name)))
            more = queues - (each.number(name) or 0) if name not in values else queues - 1
            vectors = device.number("vectors")
            found = {name: queues} | ({"vectors": vectors + more} if vectors and "vectors" not in values else {})
            self.configure(device, found)
            return

    def _make_plain(self, device: BoardDevice) -> None:
        """Make a node of what a type lists, where no recording ever made one."""
        kinds = self._profile.device_properties(device.type)
        device.lines = [
            f"{each['name']} = {shown_default(each.get('default-value', ''), each['type'])}" for each in kinds
        ]
        listing: list[list[Any]] = [
            ["type", "string", device.type],
            ["parent_bus", "link<bus>", ""],
            ["realized", "bool", True],
            ["hotplugged", "bool", False],
            ["hotpluggable", "bool", False],
        ]
        listing += [[each["name"], each["type"], each.get("default-value", "")] for each in kinds]
        self._store.add(device.path, listing)


def _renamed_listing(
    listing: Sequence[Sequence[Any]], names: Mapping[str, str], rename: Callable[[str], str]
) -> list[list[Any]]:
    """Give a listing with other names of children, in the order of these, and values that follow."""
    made = {
        (name := names.get(each[0], each[0])): [name, each[1], *renamed(list(each[2:]), rename)] for each in listing
    }
    changed = {old: new for old, new in names.items() if old != new}
    return [made[name] for name in rehashed([each[0] for each in listing], changed)] if changed else list(made.values())


def is_expander(kind: str) -> bool:
    """Tell whether a device brings a PCI root bus of its own."""
    return kind in _EXPANDERS


def _family(device: BoardDevice) -> Iterator[BoardDevice]:
    yield device
    for bus in device.buses:
        yield from below(bus)
