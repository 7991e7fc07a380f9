"""Opening a real device: by its own node and an iommufd, or by its group and a container."""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from vfio_migration.kernel import uapi
from vfio_migration.kernel.descriptors import asking
from vfio_migration.kernel.locating import Located
from vfio_migration.kernel.system import System

Way = Literal["node", "group"]


@dataclass
class Opened:
    """A device's descriptor, by which way it was opened, and how it is given back."""

    descriptor: int
    way: Way
    close: Callable[[], None]


def open_device(device: Located, system: System, way: Way | None = None) -> Opened:
    """
    Open a device; `way`: by its node or its group, or by whichever it has, the node first.

    Raises:
        KernelDeviceError: it cannot be opened; the message says why, and what to do.

    """
    chosen: Way = way if way is not None else ("node" if device.node is not None else "group")
    if chosen == "node":
        return _open_node(device, system)
    with asking(device.name, "opening"):
        return _open_in_group(device, system)


def _open_node(device: Located, system: System) -> Opened:
    """Bind it to an iommufd, which is enough to migrate: no address space has to be attached (uAPI, `BIND_IOMMUFD`)."""
    with ExitStack() as undo:
        with asking(device.name, "its own node"):
            if device.node is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            iommufd = system.open("/dev/iommu")
            undo.callback(system.close, iommufd)
        with asking(device.name, "opening"):
            descriptor = system.open(device.node)
            undo.callback(system.close, descriptor)
            system.ioctl(descriptor, uapi.Request.DEVICE_BIND_IOMMUFD, uapi.bind_argument(iommufd))
        return Opened(descriptor, "node", undo.pop_all().close)


def _open_in_group(device: Located, system: System) -> Opened:
    if device.group is None:
        raise OSError(errno.ENOENT, "it has no group")
    group = _groups.enter(device.group, device.name, system)
    with ExitStack() as undo:
        undo.callback(_groups.leave, device.group, device.name, system)
        descriptor = system.ioctl(group, uapi.Request.GROUP_GET_DEVICE_FD, uapi.name_argument(device.name))
        undo.callback(system.close, descriptor)
        return Opened(descriptor, "group", undo.pop_all().close)


@dataclass
class _Groups:
    """
    The groups that this process has open: the kernel opens each once, and several devices may be in one.

    Each device once, too, of which the kernel takes no care here: whoever opened it again would reset it under the
    first. `_lock` guards what is open, also while it is being opened.
    """

    _open: dict[tuple[int, str], "_Group"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, number: str, device: str, system: System) -> int:
        """Give the descriptor of a group, for as long as there are users of it; EBUSY if the device is one of them."""
        with self._lock:
            group = self._open.get((id(system), number))
            if group is None:
                with asking(device, "its group"):
                    group = _opened_group(number, system)
                self._open[id(system), number] = group
            if device in group.devices:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            group.devices.add(device)
            return group.descriptor

    def leave(self, number: str, device: str, system: System) -> None:
        """Use it no more."""
        with self._lock:
            group = self._open[id(system), number]
            group.devices.remove(device)
            if not group.devices:
                del self._open[id(system), number]
                group.close()


@dataclass
class _Group:
    descriptor: int
    close: Callable[[], None]
    devices: set[str] = field(default_factory=set)


def _opened_group(number: str, system: System) -> _Group:
    with ExitStack() as undo:
        container = system.open("/dev/vfio/vfio")
        undo.callback(system.close, container)
        if system.ioctl(container, uapi.Request.GET_API_VERSION) != uapi.API_VERSION:
            raise OSError(errno.ENOTSUP, "the kernel's VFIO has another version")
        group = system.open(f"/dev/vfio/{number}")
        undo.callback(system.close, group)
        status = uapi.group_status_argument()
        system.ioctl(group, uapi.Request.GROUP_GET_STATUS, status)
        if not uapi.group_flags_in(status) & uapi.GROUP_VIABLE:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        system.ioctl(group, uapi.Request.GROUP_SET_CONTAINER, uapi.container_argument(container))
        kind = uapi.NOIOMMU_IOMMU if number.startswith("noiommu-") else uapi.TYPE1_IOMMU
        system.ioctl(container, uapi.Request.SET_IOMMU, kind)
        return _Group(group, undo.pop_all().close)


_groups = _Groups()
