"""What kind of device is meant, where it may go, and why it may not (the first half of QEMU's `qdev_device_add`)."""

import re
from collections.abc import Iterable, Mapping

from vfio_migration.emulator.board.nodes import BoardBus
from vfio_migration.emulator.board.searching import find_bus, is_full
from vfio_migration.emulator.board.vfio_template import TYPES
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.profile.profile import Profile

_ID = re.compile(r"[A-Za-z][A-Za-z0-9\-._]*")
_NO_IDENTIFIER = (
    "Parameter 'id' expects an identifier\n"
    "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."
)

_ALIASES = {  # other names of types (QEMU's `qdev_alias_table`)
    "ahci": "ich9-ahci",
    "lsi": "lsi53c895a",
    "e1000-82540em": "e1000",
    "es1370": "ES1370",
    "ac97": "AC97",
    **{
        f"virtio-{name}": f"virtio-{name}-pci"
        for name in (
            "9p",
            "balloon",
            "blk",
            "gpu",
            "input-host",
            "iommu",
            "keyboard",
            "mouse",
            "net",
            "rng",
            "scsi",
            "serial",
            "sound",
            "tablet",
        )
    },
}


def check_id(options: Mapping[str, object], taken: Iterable[str], *, typed: bool, hotplugged: bool) -> str:
    """
    Give the id of a device, empty if it has none.

    Raises:
        QmpError: it is none, or another device has it; in the words of JSON, or in those of options.

    """
    wanted = options.get("id")
    if not isinstance(wanted, str):
        return ""
    if not _ID.fullmatch(wanted):
        raise QmpError(f"Invalid qdev ID '{wanted}'" if typed or hotplugged else _NO_IDENTIFIER)
    if wanted in taken:
        raise QmpError(
            f"Duplicate device ID '{wanted}'" if typed or hotplugged else f"Duplicate ID '{wanted}' for device"
        )
    return wanted


def choose_type(profile: Profile, options: Mapping[str, object]) -> str:
    """
    Give the type that is meant (QEMU's `qdev_get_device_class`).

    Raises:
        QmpError: it is none that can be plugged.

    """
    wanted = options.get("driver")
    if not isinstance(wanted, str):
        raise QmpError("Parameter 'driver' is missing")
    kind = _ALIASES.get(wanted, wanted)
    info = profile.types.get(kind)
    if info is None or not profile.is_a(kind, "device"):
        raise QmpError(f"'{kind}' is not a valid device model name")
    if info.abstract:
        raise QmpError("Parameter 'driver' expects a non-abstract device type")
    if "pluggable" in profile.refusal(kind):
        raise QmpError(profile.refusal(kind))
    return kind


def choose_bus(profile: Profile, tree: BoardBus, kind: str, options: Mapping[str, object]) -> BoardBus | None:
    """
    Give the bus that a device goes on; None if it needs none (QEMU's `qbus_find`, `qbus_find_recursive`).

    Raises:
        QmpError: there is no such bus, it is of another type, or it is full.

    """
    wanted = profile.bus_wanted(kind)
    name = options.get("bus")
    if isinstance(name, str):
        bus = find_bus(tree, lambda each: each.name == name)
        if bus is None:
            raise QmpError(f"Bus '{name}' not found")
        if is_full(bus):
            raise QmpError(f"Bus '{name}' is full")
        if not profile.is_a(bus.type, wanted or "System"):
            raise QmpError(f"Device '{kind}' can't go on {bus.type} bus")
        return bus
    if not wanted:
        return tree if profile.is_a(kind, "sys-bus-device") else None
    bus = find_bus(tree, lambda each: profile.is_a(each.type, wanted))
    if bus is None:
        raise QmpError(f"No '{wanted}' bus found for device '{kind}'")
    if is_full(bus):
        raise QmpError(f"A '{wanted}' bus was found but is full")
    return bus


def check_needs(profile: Profile, kind: str, options: Mapping[str, object]) -> None:
    """
    Check that a device has what it cannot be without, but for a device of the host.

    Raises:
        QmpError: in QEMU's words, such as `drive property not set`.

    """
    refused = profile.refusal(kind)
    template = profile.template(kind)
    if not refused or kind in TYPES:
        return
    if template is not None:
        missing = template.given and all(options.get(name) in (None, "") for name in template.given)
    else:
        missing = not any(name not in ("driver", "id", "bus", "addr") for name in options)
    if missing:
        raise QmpError(refused)
