"""What a device's section of a stream is called: its place, and its state's name (QEMU's `qdev_get_dev_path`)."""

from collections.abc import Callable

from vfio_migration.emulator.board import BoardDevice

# What states are called where that is not the type's name (QEMU's `VMStateDescription`s), of what can be plugged in.
_NAMES = {
    "AC97": "ac97",
    "ES1370": "es1370",
    "VGA": "vga",
    "am53c974": "pciespscsi",
    "dc390": "pciespscsi",
    "e1000-82544gc": "e1000",
    "e1000-82545em": "e1000",
    "hda-duplex": "hda-audio",
    "hda-micro": "hda-audio",
    "hda-output": "hda-audio",
    "i6300esb": "i6300esb_wdt",
    "ich9-ahci": "ich9_ahci",
    "ich9-intel-hda": "intel-hda",
    "ioh3420": "ioh-3240-express-root-port",
    "isa-parallel": "parallel_isa",
    "isa-serial": "serial",
    "lsi53c810": "lsiscsi",
    "lsi53c895a": "lsiscsi",
    "mptsas1068": "mptsas",
    "ne2k_pci": "ne2000",
    "nec-usb-xhci": "xhci",
    "nvme-ns": "nvme_ns",
    "pci-bridge": "pci_bridge",
    "pci-ohci": "ohci",
    "piix3-usb-uhci": "uhci",
    "piix4-usb-uhci": "uhci",
    "qemu-xhci": "xhci",
    "scsi-block": "scsi-disk",
    "scsi-cd": "scsi-disk",
    "scsi-generic": "SCSIDevice",
    "scsi-hd": "scsi-disk",
    "sdhci-pci": "sdhci",
    "secondary-vga": "vga",
    "usb-bot": "usb-storage",
    "usb-ehci": "ehci",
    "usb-mouse": "usb-ptr",
    "usb-tablet": "usb-ptr",
    "usb-wacom-tablet": "usb-wacom",
    "vhost-scsi": "virtio-vhost_scsi",
    "vhost-vsock-device": "virtio-vhost_vsock",
    "virtio-serial-device": "virtio-console",
    "virtio-keyboard-device": "virtio-input",
    "virtio-mouse-device": "virtio-input",
    "virtio-multitouch-device": "virtio-input",
    "virtio-tablet-device": "virtio-input",
    "x3130-upstream": "xio3130-express-upstream-port",
    "xio3130-downstream": "xio3130-express-downstream-port",
}
_NO_STATE = ("edu", "pci-testdev", "virtserialport", "virtconsole")  # of which QEMU saves nothing
_ROOT = "0000:00"
_EHCI = "ich9-usb-ehci"
_UHCI = "ich9-usb-uhci"


def section_name(device: BoardDevice, is_a: Callable[[str, str], bool]) -> str | None:
    """Give the name of a device's section; None of one that has none: its state is nothing, or another's."""
    if device.type in _NO_STATE or (is_a(device.type, "virtio-pci")):
        return None  # what a virtio device is in saves its part with the device's own
    place = _place(device, is_a)
    name = _state_name(device.type)
    return f"{place}/{name}" if place else None


def vfio_section_name(device: BoardDevice, is_a: Callable[[str, str], bool]) -> str:
    """Give what QEMU calls the section of a VFIO device."""
    return f"{_place(device, is_a)}/vfio"


def _state_name(kind: str) -> str:
    if kind in _NAMES:
        return _NAMES[kind]
    if kind.startswith((_EHCI, _UHCI)):
        return kind.split("-")[2][:4]
    if kind.startswith(("virtio-", "vhost-user-")):
        return kind.removesuffix("-device")
    return kind


def _place(device: BoardDevice, is_a: Callable[[str, str], bool]) -> str:
    """Give where a device is: by slots of PCI, and on from there by what its bus has for places."""
    parent = device.parent.parent if device.parent is not None else None
    above = _place(parent, is_a) if parent is not None else ""
    if is_a(device.type, "pci-device"):
        return f"{above or _ROOT}:{device.value('addr') or '00.0'}"
    if is_a(device.type, "scsi-device"):
        numbers = [(device.value(name) or "0").partition(" ")[0] for name in ("channel", "scsi-id", "lun")]
        return f"{above}/{':'.join(numbers)}"
    if is_a(device.type, "usb-device"):
        return f"{above}/{_usb_port(device)}"
    return above


def _usb_port(device: BoardDevice) -> str:
    """Give the port that `info qtree` shows in a line of its own: `addr 0.0, port 1, speed 480, ...`."""
    for line in device.lines:
        before, found, after = line.partition(", port ")
        if found and before.startswith("addr "):
            return after.partition(",")[0]
    return "1"
