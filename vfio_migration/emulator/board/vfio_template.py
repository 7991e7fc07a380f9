"""The template of `vfio-pci`, which no recording can make without a device on the host."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vfio_migration.emulator.board.values import shown_default
from vfio_migration.emulator.profile.profile import Profile
from vfio_migration.emulator.profile.templates import PATH, Template
from vfio_migration.emulator.profile.tree_text import DeviceText

TYPES = ("vfio-pci", "vfio-pci-nohotplug")
# The lines of `info qtree` begin with the properties of its own type, in the order of its class.
_OWN = (
    "host",
    "vf-token",
    "sysfsdev",
    "x-pre-copy-dirty-page-tracking",
    "x-device-dirty-page-tracking",
    "display",
    "xres",
    "yres",
    "x-intx-mmap-timeout-ms",
    "x-vga",
    "x-req",
    "x-igd-opregion",
    "x-igd-lpc",
    "x-igd-legacy-mode",
    "enable-migration",
    "x-migration-multifd-transfer",
    "x-migration-load-config-after-iter",
    "x-migration-max-queued-buffers-size",
    "migration-events",
    "x-no-mmap",
    "x-balloon-allowed",
    "x-no-kvm-intx",
    "x-no-kvm-msi",
    "x-no-kvm-msix",
    "x-no-geforce-quirks",
    "x-no-kvm-ioeventfd",
    "x-no-vfio-ioeventfd",
    "x-pci-vendor-id",
    "x-pci-device-id",
    "x-pci-sub-vendor-id",
    "x-pci-sub-device-id",
    "x-pci-class-code",
    "x-igd-gms",
    "x-nv-gpudirect-clique",
    "x-msix-relocation",
    "iommufd",
    "skip-vsc-check",
    "x-vpasid-cap-offset",
    "ats",
)
_NO_HOTPLUG = ("ramfb", "use-legacy-x86-rom")
# What the kernel's sample device `mtty` is: a real one of these stands in for those that this host lacks.
_AS_MTTY: Mapping[str, Any] = {
    "host": "ffff:ff:ff.f",
    "vf-token": "00000000-0000-0000-0000-000000000000",
    "sysfsdev": "",
    "x-pci-vendor-id": 0x4348,
    "x-pci-device-id": 0x3253,
    "x-pci-class-code": 0x070002,
    "x-device-dirty-page-tracking": "off",
    "x-nv-gpudirect-clique": 255,
}
_ABOUT = (
    "class Serial port, addr 00:00.0, pci id 4348:3253 (sub 4348:3253)",
    "bar 0: i/o at 0xffffffffffffffff [0x6]",
)
_PCI: Mapping[str, Any] = {
    "irq_pin": 1,
    "irq": 0,
    "class_info": {"class": 0x0700, "desc": "Serial port"},
    "id": {"vendor": 0x4348, "device": 0x3253, "subsystem-vendor": 0x4348, "subsystem": 0x3253},
    "regions": [{"bar": 0, "size": 8, "address": -1, "type": "io"}],
}


def vfio_template(profile: Profile, kind: str) -> Template:
    """Make the template of a VFIO device, as one of `mtty` would look."""
    properties = {each["name"]: each for each in profile.device_properties(kind)}
    like = profile.template("edu", "port")
    plain = list(like.tree.lines if like is not None and like.tree is not None else ())
    common = [line for line in plain if " = " in line]
    values = {name: _AS_MTTY.get(name, each.get("default-value", "")) for name, each in properties.items()}
    names = [name for name in (*_OWN, *_NO_HOTPLUG) if name in properties]
    own = [f"{name} = {shown_default(values[name], properties[name]['type'])}" for name in names]
    base = {
        each[0]: each for each in (like.objects[PATH] if like is not None else ()) if "memory-region" not in each[1]
    }
    objects = {PATH: _listing(kind, base, properties, values.get)}
    text = DeviceText(kind, "", (*own, *common, *_ABOUT))
    return Template(kind, "port", text, objects, pci=_PCI)


def _listing(
    kind: str,
    base: Mapping[str, Sequence[Any]],
    properties: Mapping[str, Mapping[str, Any]],
    value: Callable[[str], Any],
) -> list[list[Any]]:
    """List a PCI device's own properties, and then those of this type."""
    listing = [list(each) for name, each in base.items() if name in properties or name in _OF_DEVICES]
    listing += [[name, each["type"], value(name)] for name, each in properties.items() if name not in base]
    listing[0] = ["type", "string", kind]
    return listing


_OF_DEVICES = ("type", "parent_bus", "realized", "hotplugged", "hotpluggable")
