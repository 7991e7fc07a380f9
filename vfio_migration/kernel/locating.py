"""Where a real device is: from what people call it to its node or its group."""

import errno
import re
from dataclasses import dataclass

from vfio_migration.errors import VFIOMigrationError
from vfio_migration.kernel.descriptors import KernelDeviceError
from vfio_migration.kernel.system import System

_PCI = re.compile(r"(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NODES = "/dev/vfio/devices"


@dataclass(frozen=True)
class Located:
    """
    A device: what it is called, the node of its own if it has one, and its group with the name that it has there.

    A node goes with iommufd, a group with a container; either may be None.
    """

    name: str
    node: str | None = None
    group: str | None = None


def locate(what: str, system: System) -> Located:
    """
    Find a device: `/dev/vfio/devices/vfioN`, a folder of sysfs, a PCI address, or a mediated device's UUID.

    Raises:
        KernelDeviceError: there is no such device, or it is bound to no VFIO driver; the message says what to do.
        VFIOMigrationError: it is no name of a device at all.

    """
    if what.startswith(f"{_NODES}/"):
        if not system.exists(what):
            raise KernelDeviceError(what, "opening", FileNotFoundError(errno.ENOENT, "no such node"))
        return Located(what.rpartition("/")[2], node=what)
    folder = _folder_of(what)
    if not system.exists(folder):
        siblings = f"{folder.rpartition('/')[0]}/"
        raise VFIOMigrationError(
            f"{what}: there is no such device: {folder} is not there; look which are in {siblings} (a PCI address "
            "has its domain there: 0000:3b:00.2), and whether the function, or the mediated device, was made"
        )
    name = folder.rstrip("/").rpartition("/")[2]
    node = next((f"{_NODES}/{each}" for each in system.names(f"{folder}/vfio-dev")), None)
    if node is not None and not system.exists(node):  # the class is there without the character devices too
        node = None
    group = _group_of(folder, system)
    if node is None and (group is None or not system.exists(f"/dev/vfio/{group}")):
        raise KernelDeviceError(what, "opening", FileNotFoundError(errno.ENOENT, "no node"))
    return Located(name, node, group)


def _folder_of(what: str) -> str:
    if what.startswith("/sys/"):
        return what.rstrip("/")
    if _PCI.fullmatch(what):
        return f"/sys/bus/pci/devices/{what if what.count(':') > 1 else f'0000:{what}'}"
    if _UUID.fullmatch(what):
        return f"/sys/bus/mdev/devices/{what}"
    raise VFIOMigrationError(
        f"{what!r} is no device: expected /dev/vfio/devices/vfioN, a folder such as /sys/bus/pci/devices/0000:01:00.1, "
        "a PCI address, or a mediated device's UUID"
    )


def _group_of(folder: str, system: System) -> str | None:
    try:
        number = system.target(f"{folder}/iommu_group").rpartition("/")[2]
    except OSError:
        return None
    return (
        number
        if system.exists(f"/dev/vfio/{number}") or not system.exists(f"/dev/vfio/noiommu-{number}")
        else (f"noiommu-{number}")
    )
