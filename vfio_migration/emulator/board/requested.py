"""What a device is asked to be: the template that fits its place, the values of its options, and that place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vfio_migration.emulator.board.connections import Connectable, check_connection
from vfio_migration.emulator.board.making import is_expander
from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice
from vfio_migration.emulator.board.pci_slots import choose
from vfio_migration.emulator.board.places import check_chassis, check_expander, place_on_bus, usb_port
from vfio_migration.emulator.board.store import ObjectStore
from vfio_migration.emulator.board.values import read_value
from vfio_migration.emulator.board.vfio_template import TYPES, vfio_template
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.profile.profile import Profile
from vfio_migration.emulator.profile.templates import PATH, Template

_OWN = ("driver", "id", "bus")


@dataclass(frozen=True)
class Place:
    """
    Where on its bus a device goes.

    `values` are properties that say it, `devfn` its address on PCI, `port` the one on USB, which may need a hub first.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    devfn: int | None = None
    port: str = ""
    needs_hub: bool = False


def template_for(profile: Profile, kind: str, bus: BoardBus | None) -> Template | None:
    """Give the template of a type on such a bus; None if no recording ever made one."""
    if kind in TYPES:
        return vfio_template(profile, kind)
    if bus is None or not profile.is_a(bus.type, "PCI"):
        return profile.template(kind)
    if not profile.is_a(bus.type, "PCIE"):
        return profile.template(kind, "conventional")
    inner = bus.parent is not None and profile.is_a(bus.parent.type, "pci-device")
    return profile.template(kind, "port" if inner else "integrated")


def usb_template(profile: Profile, kind: str, bus: BoardBus, port: str) -> Template | None:
    """Give the template of a USB device: how fast it is depends on the controller, and on hubs in between."""
    controller = bus.parent.type if bus.parent is not None else ""
    fast = ("xhci" in controller or "ehci" in controller) and "." not in port
    return profile.template(kind, "xhci" if fast else "uhci")


def read_options(
    profile: Profile,
    store: ObjectStore,
    kind: str,
    template: Template | None,
    options: Mapping[str, object],
    *,
    typed: bool,
    connectable: Connectable | None = None,
    everywhere: Iterable[BoardDevice] = (),
) -> dict[str, Any]:
    """
    Read the values of a device's options.

    Raises:
        QmpError: it has no such property, or that is no value for it, or names what it cannot be connected to.

    """
    kinds = {each["name"]: each["type"] for each in profile.device_properties(kind)}
    owners: Mapping[str, str] = {}
    if template is not None:
        kinds = {each[0]: each[1] for each in template.objects.get(PATH, ())} | kinds
        owners = _lenders(template)
    found = {}
    for name, value in options.items():
        if name in _OWN:
            continue
        if name not in kinds:
            raise QmpError(f"Property '{kind}.{name}' not found")
        owner = owners.get(name, kind)
        read = read_value(name, kinds[name], value, owner, typed=typed)
        if connectable is not None:
            check_connection(connectable, name, kinds[name], read, owner, everywhere, profile.is_a)
        found[name] = _linked(profile, store, kinds[name], read)
    return found


def find_place(
    profile: Profile,
    kind: str,
    bus: BoardBus | None,
    values: Mapping[str, Any],
    everywhere: Iterable[BoardDevice],
    *,
    hotplugged: bool,
) -> Place:
    """
    Find the place that a device takes on its bus.

    Raises:
        QmpError: it is taken, or there is none.

    """
    if bus is None:
        return Place()
    if profile.is_a(kind, "usb-device"):
        port, needs_hub = usb_port(bus, kind, str(values.get("port", "")), profile.is_a)
        return Place(port=port, needs_hub=needs_hub)
    if not profile.is_a(kind, "pci-device"):
        return Place(place_on_bus(bus, kind, values, everywhere, profile.is_a))
    devfn = choose(
        bus,
        kind,
        int(values.get("addr", -1)),
        multifunction=values.get("multifunction") is True,
        hotplugged=hotplugged,
        single_slot=bus.parent is not None and profile.is_a(bus.parent.type, "pcie-slot"),
    )
    if profile.is_a(kind, "pcie-slot"):
        check_chassis(values, everywhere, profile.is_a)
    if is_expander(kind):
        check_expander(kind, bus, profile.is_a)
    return Place(devfn=devfn)


def _linked(profile: Profile, store: ObjectStore, kind: str, value: Any) -> Any:
    """Give the path of what a link names: a device by its id, anything else among the objects."""
    if not kind.startswith("link<") or not value or value.startswith("/"):
        return value
    return store.find(value).path if profile.is_a(kind[5:-1], "device") else f"/objects/{value}"


def _lenders(template: Template) -> dict[str, str]:
    """Give, for properties that a device passes on to one that is made with it, the type of that one."""
    found: dict[str, str] = {}
    if template.tree is not None:
        own = {line.partition(" = ")[0] for line in template.tree.lines}
        for bus in template.tree.buses:
            for device in bus.devices:
                found |= {name: device.type for line in device.lines if (name := line.partition(" = ")[0]) not in own}
    return found
