"""Whether a device may come or go while the machine runs (QEMU's `qdev_hotplug_allowed`, `qdev_unplug`)."""

from collections.abc import Callable

from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice
from vfio_migration.emulator.board.store import ObjectStore
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.profile.profile import Profile
from vfio_migration.emulator.profile.templates import PATH

_PERIPHERAL = "/machine/peripheral"
_SETTINGS = ("port", "conventional", "integrated")
_TELLING = ("port", "conventional", "xhci", "uhci", "virtio-scsi")  # settings whose bus allows it
_NEVER = ("vfio-pci-nohotplug",)
_ACPI = ("ICH9-LPC", "PIIX4_PM")
_SWITCHED_OFF = "false"


def check_hotplug(profile: Profile, store: ObjectStore, kind: str, bus: BoardBus | None) -> None:
    """
    Check that a type of device may come, or go, on a bus while the machine runs.

    Raises:
        QmpError: its type or its bus is not made for that.

    """
    if not _type_allows(profile, kind):
        raise QmpError(f"Device '{kind}' does not support hotplugging")
    if bus is not None and not _bus_allows(store, bus):
        raise QmpError(f"Bus '{bus.name}' does not support hotplugging")


def can_be_hotplugged(profile: Profile, store: ObjectStore, kind: str, bus: BoardBus | None) -> bool:
    """Give what the property `hotpluggable` says of a device (QEMU's `device_get_hotpluggable`)."""
    return _type_allows(profile, kind) and (bus is None or _bus_allows(store, bus))


def find_unpluggable(
    profile: Profile, store: ObjectStore, device_at: Callable[[str], BoardDevice | None], name: str
) -> BoardDevice:
    """
    Find the device that is to go by its id or path (QEMU's `find_device_state`).

    Raises:
        QmpError: there is none, or it cannot go.

    """
    path = name if name.startswith("/") else f"{_PERIPHERAL}/{name}".rstrip("/")
    device = device_at(path)
    if device is None:
        if path in store.objects:
            raise QmpError(f"{name} is not a device")
        raise QmpError(f"Device '{name}' not found", "DeviceNotFound")
    if device.adopted:
        return device
    if device.parent is not None and not _bus_allows(store, device.parent):
        raise QmpError(f"Bus '{device.parent.name}' does not support hotplugging")
    if not _type_allows(profile, device.type):
        raise QmpError(f"Device '{device.type}' does not support hotplugging")
    return device


def waits_for_guest(profile: Profile, device: BoardDevice) -> bool:
    """Tell whether a device goes only when the guest, or a reset, lets it go."""
    return profile.is_a(device.type, "pci-device") or device.adopted


def _type_allows(profile: Profile, kind: str) -> bool:
    """Tell whether a type is made for it: a recorded one says so where its bus is."""
    if kind in _NEVER:
        return False
    template = profile.template(kind, *_SETTINGS)
    if template is None or (template.setting not in _TELLING and profile.bus_wanted(kind)):
        return True
    listing = template.objects.get(PATH, ())
    return next((each[2] for each in listing if each[0] == "hotpluggable"), True) is True


def _bus_allows(store: ObjectStore, bus: BoardBus) -> bool:
    """Tell whether a bus has what handles it (QEMU's `qbus_is_hotpluggable`)."""
    if bus.parent is not None and bus.parent.value("hotplug") == _SWITCHED_OFF:
        return False
    handler = store.objects.get(str(store.value(bus.path, "hotplug-handler") or ""))
    if handler is None:
        return False
    return handler.type not in _ACPI or "acpi-pcihp-bsel" in store.objects[bus.path].properties
