"""Writes down what each machine is made of before any device is added, and what its options change."""

from collections.abc import Callable, Sequence
from typing import Any

from vfio_migration.emulator.errors import RecordingError
from vfio_migration.emulator.profile.recorded_objects import Objects, differing, record_objects
from vfio_migration.emulator.profile.recorded_qemu import RecordedQemu

MEMORY = 64  # MiB that every board is recorded with
_SWITCHES = {  # options that put something on a board, or take it away
    "q35": ("usb", "acpi", "smbus", "sata", "hpet", "i8042", "vmport", "pit", "pic", "cxl"),
    "pc": ("usb", "acpi", "smbus", "hpet", "i8042", "vmport", "pit", "pic"),
    "isapc": (),
    "microvm": ("acpi", "usb", "pcie", "isa-serial", "rtc", "pic", "pit"),
    "none": (),
}
_ON = ("usb", "cxl", "pcie")  # what is off unless it is asked for
_PAIRS = (("usb", "acpi"), ("usb", "vmport"), ("usb", "hpet"), ("acpi", "hpet"), ("acpi", "vmport"))
_EXTRA = {  # with -nodefaults and one of these, as people write them
    "q35": (
        ("-vga", "std"),
        ("-vga", "qxl"),
        ("-vga", "cirrus"),
        ("-vga", "vmware"),
        ("-vga", "virtio"),
        ("-vga", "none"),
    ),
    "pc": (
        ("-vga", "std"),
        ("-vga", "qxl"),
        ("-vga", "cirrus"),
        ("-vga", "vmware"),
        ("-vga", "virtio"),
        ("-vga", "none"),
    ),
}


def record_boards(qemu: Sequence[str], log: Callable[[str], None]) -> dict[str, Any]:
    """
    Record every kind of board: by machine, a list of variants.

    Each has `options` (of the machine), `arguments`, `defaults` (False with -nodefaults), its `tree`, its `objects`
    as they differ from the first variant's, and `pci`.
    """
    boards = {}
    for machine in _SWITCHES:
        variants = _variants(qemu, machine)
        if variants:
            boards[machine] = variants
            log(f"machine {machine}: {len(variants)} variants")
    return boards


def _variants(qemu: Sequence[str], machine: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    base: Objects = {}
    for defaults in (False, True):
        for options in _choices(machine):
            for arguments in ((), *(() if defaults or options else _EXTRA.get(machine, ()))):
                variant = _variant(qemu, machine, options, arguments, defaults=defaults)
                if variant is None:
                    continue
                objects = variant.pop("objects")
                found.append({**variant, "objects": differing(objects, base)})
                base = base or objects
    return found


def _choices(machine: str) -> list[dict[str, str]]:
    singles = {name: "on" if name in _ON else "off" for name in _SWITCHES[machine]}
    pairs = [{name: singles[name] for name in pair} for pair in _PAIRS if all(name in singles for name in pair)]
    return [{}, *({name: value} for name, value in singles.items()), *pairs]


def _variant(
    qemu: Sequence[str], machine: str, options: dict[str, str], arguments: Sequence[str], *, defaults: bool
) -> dict[str, Any] | None:
    name = ",".join([machine, *(f"{key}={value}" for key, value in options.items())])
    try:
        with RecordedQemu(qemu, name, ("-m", str(MEMORY), *arguments), defaults=defaults) as started:
            return {
                "options": options,
                "arguments": list(arguments),
                "defaults": defaults,
                "tree": started.monitor("info qtree"),
                "pci": started.reply("query-pci").get("return", []),
                "objects": record_objects(started, "/"),
            }
    except RecordingError:
        return None  # this QEMU has no such machine, or no such option
