"""The board: devices are added to it and taken off as QEMU does it, and it says what it is made of."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vfio_migration.emulator.board.adopted import AdoptedTrees, FreePath
from vfio_migration.emulator.board.blockers import in_order, words_of
from vfio_migration.emulator.board.building import Builder
from vfio_migration.emulator.board.choosing import check_id, check_needs, choose_bus, choose_type
from vfio_migration.emulator.board.companions import Companions
from vfio_migration.emulator.board.connections import Connectable
from vfio_migration.emulator.board.hotplug import can_be_hotplugged, check_hotplug, find_unpluggable, waits_for_guest
from vfio_migration.emulator.board.making import DeviceMaker
from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice, below, buses_below, tree_text
from vfio_migration.emulator.board.objects import QomObject
from vfio_migration.emulator.board.pci_slots import addresses
from vfio_migration.emulator.board.pci_view import describe_pci, pci_text
from vfio_migration.emulator.board.places import next_mac, plugged_into_hub
from vfio_migration.emulator.board.realized import check_set
from vfio_migration.emulator.board.requested import Place, find_place, read_options, template_for, usb_template
from vfio_migration.emulator.board.sizes import machine_values, with_cpus
from vfio_migration.emulator.board.store import ObjectStore
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.profile.profile import Profile
from vfio_migration.emulator.profile.templates import ID, Template
from vfio_migration.emulator.profile.tree_text import BusText
from vmstate import Bus, Device

_FAMILIES = {"pc-q35-": "q35", "q35": "q35", "pc-i440fx-": "pc", "pc": "pc"}
_IS_UNATTACHED = re.compile(r"/machine/unattached/device\[\d+\]")
_PERIPHERAL = "/machine/peripheral"
_OBJECTS = "/objects"


class Board:
    """
    A machine of a profile with its devices.

    `memory` is in bytes; `options` are those of `-machine`, `vga` is what `-vga` says beside `-nodefaults`.
    Raises QmpError if there is no such machine.
    """

    def __init__(
        self,
        profile: Profile,
        machine: str,
        *,
        memory: int,
        cpus: int = 1,
        defaults: bool = True,
        options: Mapping[str, str] | None = None,
        vga: str | None = None,
    ) -> None:
        found = profile.machines.get(machine)
        family = next((name for start, name in _FAMILIES.items() if str(machine).startswith(start)), machine)
        record = profile.board(family, options or {}, ("-vga", vga) if vga else (), defaults=defaults)
        if found is None or record is None:
            raise QmpError(f'unsupported machine type: "{machine}"')
        self.machine_type = f"{found['name']}-machine"
        self.connectable: Connectable | None = None  # what devices may be connected to; not looked at without
        self._profile = profile
        self._counts: dict[str, int] = {}  # buses without a name of their own, by type
        self._numbered = {"usb-bus": 0, "IDE": 0}
        self._blockers: list[str] = []
        self._loose: list[BoardDevice] = []  # on no bus
        self._by_path: dict[str, BoardDevice] = {}
        self._store = ObjectStore(lambda *asked: check_set(self._store, self._by_path.get, *asked))
        self._maker = DeviceMaker(profile, self._store, self._bus_name, cpus)
        self._free_path = FreePath(self._store)
        record = with_cpus(record, cpus)
        for path, listing in record.objects.items():
            self._store.add(path, self._own_type(listing) if path == "/machine" else listing)
        unattached = sum(bool(_IS_UNATTACHED.fullmatch(path)) for path in record.objects)
        self._companions = Companions(profile, self._maker, unattached, self._counts)
        self._roots = [Builder(record.objects).root(record.tree)]
        self._adopted = AdoptedTrees(self._store, self._roots, self._free_path, self._bus_type)
        self._settle(record.pci, memory, cpus, options or {})

    def _own_type(self, listing: list[list[Any]]) -> list[list[Any]]:
        return [[*each[:2], self.machine_type] if each[0] == "type" else each for each in listing]

    def _settle(self, pci: Any, memory: int, cpus: int, options: Mapping[str, str]) -> None:
        """Take stock of the board's own buses and devices, and write sizes where they are said."""
        for bus in buses_below(self._tree):
            match = re.fullmatch(rf"{re.escape(bus.type.lower())}\.(\d+)", bus.name)
            if match and bus.name not in ("pcie.0", "pci.0"):
                self._counts[bus.type] = max(self._counts.get(bus.type, 0), int(match[1]) + 1)
        entries = {(each["slot"], each["function"]): each for bus in pci for each in bus["devices"]}
        for device in self.devices():
            self._by_path[device.path] = device
            if device.parent is not None and device.parent.name in ("pcie.0", "pci.0"):
                place = next((at for at, each in addresses(device.parent).items() if each is device), 0)
                device.pci = entries.get(divmod(place, 8))
            self._number_buses(device)
            self._maker.configure(device, machine_values(device.type, memory))
        self._store.put("/machine", "memory", {"size": memory})
        for name, value in options.items():
            kind = self._store.objects["/machine"].properties.get(name)
            if kind is not None and kind.type == "bool":
                self._store.put("/machine", name, value in ("on", "yes", "true", "y"))
            elif kind is not None and kind.type in ("OnOffAuto", "string"):
                self._store.put("/machine", name, value)

    @property
    def _tree(self) -> BoardBus:
        return self._roots[0]

    @property
    def root(self) -> Bus:
        """The main system bus."""
        return self._tree.bus

    @property
    def migration_blockers(self) -> list[str]:
        """What devices say against a migration, in the order of `query-migrate`."""
        return in_order(self._blockers)

    def devices(self) -> Iterator[BoardDevice]:
        """Give every device in the order of `info qtree`, those of the board too; then those on no bus."""
        for root in self._roots:
            yield from below(root)
        yield from self._loose

    def qtree_text(self) -> str:
        """Give what the monitor prints for `info qtree`."""
        return "".join(tree_text(root) for root in self._roots)

    def query_pci(self) -> list[dict[str, Any]]:
        """Give what `query-pci` returns before firmware has run."""
        return describe_pci(self._roots, self.is_a)

    def pci_text(self) -> str:
        """Give what the monitor prints for `info pci`."""
        return pci_text(self.query_pci())

    def is_a(self, type: str, ancestor: str) -> bool:  # noqa: A002 - QEMU's word
        """Tell whether a type is, descends from or implements another."""
        return self._profile.is_a(type, ancestor)

    def qom(self, path_or_id: str, *, ambiguous: str = "") -> QomObject:
        """
        Find an object by path or id.

        Raises:
            QmpError: there is none, or several have that name (in the words `ambiguous`, as qom-list has its own).

        """
        return self._store.find(path_or_id, ambiguous=ambiguous)

    def add_object(self, name: str, listing: Sequence[Sequence[Any]]) -> None:
        """Have an object of the user's among the others, with these properties: name, type, value if it can be read."""
        path = f"{_OBJECTS}/{name}"
        self._store.add(path, listing)
        self._store.attach(path)

    def remove_object(self, name: str) -> None:
        """Take one away."""
        self._store.remove(f"{_OBJECTS}/{name}")

    def add(self, options: Mapping[str, object], *, hotplugged: bool = False, typed: bool | None = None) -> BoardDevice:
        """
        Add a device (QEMU's `qdev_device_add`). `typed`: options are JSON's, which is usual when it is hotplugged.

        Raises:
            QmpError: it cannot be; nothing has changed then.

        """
        typed = hotplugged if typed is None else typed
        if not (typed or hotplugged):
            check_id(options, self._ids(), typed=False, hotplugged=False)
        kind = choose_type(self._profile, options)
        bus = choose_bus(self._profile, self._tree, kind, options)
        template = template_for(self._profile, kind, bus)
        if hotplugged:
            check_hotplug(self._profile, self._store, kind, bus)
        id_ = check_id(options, self._ids(), typed=typed, hotplugged=hotplugged)
        everywhere = list(self.devices())
        values = read_options(
            self._profile,
            self._store,
            kind,
            template,
            options,
            typed=typed,
            connectable=self.connectable,
            everywhere=everywhere,
        )
        check_needs(self._profile, kind, options)
        place = find_place(self._profile, kind, bus, values, everywhere, hotplugged=hotplugged)
        device = BoardDevice(id_, kind, self._free_path(id_), options)
        device.hotplugged = hotplugged
        if bus is None:
            self._loose.append(device)
        else:
            device.plug(bus)
            if place.needs_hub:
                self.add({"driver": "usb-hub", "bus": bus.name})
                place = Place(port=f"{place.port}.1")
            if place.port:
                template = usb_template(self._profile, kind, bus, place.port)
        self._finish(device, template, {**values, **place.values}, place)
        return device

    def adopt(self, device: Device) -> BoardDevice:
        """
        Take in a device of a tree of its own, with what lies above it: it is shown, found by its id, and unplugged.

        The first such tree takes the place of a board without devices; any other is shown after it.
        """
        made = self._adopted.adopt(device)
        above: BoardDevice | None = made
        while above is not None:
            self._by_path[above.path] = above
            above = above.parent.parent if above.parent is not None else None
        if made.parent is None and made not in self._loose:
            self._loose.append(made)
        return made

    def going_with(self, device: BoardDevice) -> list[BoardDevice]:
        """Give the devices that go when one goes, in QEMU's order: what is plugged into it, and last the device."""
        inside = [each for bus in device.buses for each in bus.devices if each.maker is None]
        inside += plugged_into_hub(device)
        return [*(one for each in inside for one in self.going_with(each)), device]

    def discard(self, device: BoardDevice) -> list[BoardDevice]:
        """Undo `add`, or `adopt`, at once and without asking anybody; give what is gone, as `going_with` does."""
        gone = self.going_with(device)
        for each in gone:
            self._take_off(each)
        return gone

    def _take_off(self, device: BoardDevice) -> None:
        for words in device.blockers:
            self._blockers.remove(words)
        for each in (*device.beside, device):
            self._adopted.forget(each)
            for path in [path for path in self._by_path if path == each.path or path.startswith(f"{each.path}/")]:
                del self._by_path[path]
            if each in self._loose:
                self._loose.remove(each)
            each.unplug()
            self._store.remove(each.path)

    def unpluggable(self, name_or_path: str, *, stands: bool = False) -> BoardDevice:
        """
        Give the device that `request_unplug` would take off. `stands`: the machine has not run since it was asked last.

        Raises:
            QmpError: there is no such device, or it cannot be taken off.

        """
        device = find_unpluggable(self._profile, self._store, self._by_path.get, name_or_path)
        if device.unplug_asked and stands:
            raise QmpError(f"Device {device.id} is already in the process of unplug")
        return device

    def request_unplug(self, name_or_path: str, *, stands: bool = False) -> bool:
        """
        Ask for a device to be taken off (QEMU's `qdev_unplug`): True if it is gone at once, False if it waits.

        Raises what `unpluggable` raises.
        """
        device = self.unpluggable(name_or_path, stands=stands)
        if waits_for_guest(self._profile, device):
            device.unplug_asked = True
            return False
        self.discard(device)
        return True

    def complete_unplugs(self) -> list[BoardDevice]:
        """Take off all devices that wait for it, as a reset of the machine does, in QEMU's order."""
        waiting = {id(device) for device in self.devices() if device.unplug_asked and not self._stays(device)}
        buses = [bus for root in self._roots for bus in buses_below(root)]
        gone = [device for bus in buses for device in bus.devices if id(device) in waiting]
        gone += [device for device in self._loose if id(device) in waiting]
        return [each for device in gone if device.path in self._by_path for each in self.discard(device)]

    def _stays(self, device: BoardDevice) -> bool:
        """Tell whether a device is a bridge that was there from the start (QEMU's `acpi_pcihp_pc_no_hotplug`)."""
        return self.is_a(device.type, "base-pci-bridge") and not (device.hotplugged or device.adopted)

    def _bus_type(self, kind: str) -> str:
        template = self._profile.template(kind)
        buses = template.tree.buses if template is not None and template.tree is not None else ()
        return buses[0].type if buses else ""

    def _ids(self) -> list[str]:
        return [path[len(_PERIPHERAL) + 1 :] for path in self._by_path if path.startswith(f"{_PERIPHERAL}/")]

    def _finish(self, device: BoardDevice, template: Template | None, values: dict[str, Any], place: Place) -> None:
        """Make the nodes and objects of a device that has its place."""
        if values.get("masterbus") and template is not None and template.tree is not None:
            template = replace(template, tree=replace(template.tree, buses=()))  # its ports are those of that bus
        mac = next_mac(each for each in self.devices() if each is not device)
        self._maker.make(device, template)
        self._by_path[device.path] = device
        family = [device, *(each for bus in device.buses for each in below(bus))]
        if any(each.value("mac") is not None for each in family):
            values["mac"] = str(values.get("mac", mac)).lower()
        self._maker.configure(device, values)
        self._maker.count_queues(device, values)
        self._maker.complete(device, values)
        if place.devfn is not None and device.parent is not None:
            self._maker.put_on_pci(device, place.devfn, device.parent)
        if place.port:
            self._maker.put_on_port(device, place.port)
        pluggable = can_be_hotplugged(self._profile, self._store, device.type, device.parent)
        for each in family:
            self._number_buses(each)
            self._by_path[each.path] = each
            self._store.put(each.path, "hotplugged", device.hotplugged)
        self._store.put(device.path, "hotpluggable", pluggable)
        self._store.put(device.path, "parent_bus", device.parent.path if device.parent is not None else "")
        if template is not None:
            self._companions.bring(self._tree, device, template, values)
            for made in device.beside:
                for each in (made, *(each for bus in made.buses for each in below(bus))):
                    self._by_path[each.path] = each
            device.blockers = words_of(device, template.blockers, self.is_a)
            self._blockers += device.blockers
        if device.type == "nvme-ns":
            device.unplug()  # it moves to its subsystem, which no bus shows
            self._loose.append(device)

    def _number_buses(self, device: BoardDevice) -> None:
        """Give buses of USB and IDE numbers as they come, for addresses and serial numbers."""
        for bus in device.buses:
            if bus.type in self._numbered:
                bus.number = self._numbered[bus.type]
                self._numbered[bus.type] += 1

    def _bus_name(self, text: BusText, device: BoardDevice) -> str:
        if ID not in text.name:
            return text.name
        owner = device
        while not owner.id and owner.maker is not None:
            owner = owner.maker
        if owner.id:
            return text.name.replace(ID, owner.id)
        number = self._counts.get(text.type, 0)
        self._counts[text.type] = number + 1
        return f"{text.type.lower()}.{number}"
