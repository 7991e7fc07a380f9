"""Descriptors of real devices: what their errors mean here, and closing them only when nobody uses them."""

import errno as errno_codes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vfio_migration.errors import VFIOMigrationError
from vfio_migration.kernel.system import System

# What an errno means of a real device, and what to do, by what was asked; "" is for everything else that was asked.
_MEANINGS: dict[tuple[str, int], str] = {
    (
        "opening",
        errno_codes.ENOENT,
    ): "not bound to a VFIO driver: unbind it from its own, and bind it to one (vfio-pci, mlx5_vfio_pci, ...)",
    (
        "its own node",
        errno_codes.ENOENT,
    ): "there is no node of its own, or no /dev/iommu: a kernel has them with VFIO_DEVICE_CDEV and IOMMUFD; "
    "open it by its group",
    ("opening", errno_codes.EBUSY): "in use elsewhere: a virtual machine or another program has it open",
    ("opening", errno_codes.EACCES): "no rights on its node: change the rights of that, or run this as root",
    (
        "opening",
        errno_codes.EPERM,
    ): "no rights on its node, or its group is not viable: all devices of the group have to be bound to VFIO drivers",
    ("opening", errno_codes.ENODEV): "the driver has no such device any more",
    (
        "its group",
        errno_codes.EPERM,
    ): "its group is not viable: all devices of the group have to be bound to VFIO drivers, or to none",
    ("its group", errno_codes.EBUSY): "its group is in use elsewhere: a virtual machine or another program has it open",
    (
        "its features",
        errno_codes.ENOTTY,
    ): "this driver cannot migrate the device: take the vendor's (mlx5_vfio_pci, not "
    "vfio-pci), and firmware that has migration switched on",
    (
        "its state",
        errno_codes.EINVAL,
    ): "there is no way to that state from where it is, or what was loaded is incomplete",
    ("its state", errno_codes.ENODEV): "it was reset meanwhile, has been closed, or is gone",
    ("its features", errno_codes.ENODEV): "it has been closed, or is gone",
    ("its reset", errno_codes.ENODEV): "it has been closed, or is gone",
    ("its state", errno_codes.EIO): "the device has failed",
    ("its state", errno_codes.EBUSY): "the device is busy with something else",
    ("its reset", errno_codes.EINVAL): "it cannot be reset",
    ("reading", errno_codes.ENODEV): "the transfer has ended: the device was reset, or has left the states that save",
    ("writing", errno_codes.ENODEV): "the transfer has ended: the device was reset, or has left RESUMING",
    (
        "writing",
        errno_codes.EINVAL,
    ): "the device does not take these data: they are of another kind of device, or altered",
    (
        "writing",
        errno_codes.EFAULT,
    ): "the device does not take these data: they are of another kind of device, or altered",
    ("writing", errno_codes.EBADF): "a transfer that is read from cannot be written to",
    ("reading", errno_codes.EBADF): "a transfer that is written to cannot be read from",
}
_OF_OPENING = ("its own node", "its group")


class KernelDeviceError(VFIOMigrationError, OSError):
    """A real device refuses or fails; says which one, what was asked, what its errno means here and what to do."""

    def __init__(self, device: str, asked: str, error: OSError) -> None:
        code = error.errno or errno_codes.EIO
        general = _MEANINGS.get(("opening", code)) if asked in _OF_OPENING else None
        meaning = _MEANINGS.get((asked, code)) or general or os.strerror(code)
        name = errno_codes.errorcode.get(code, str(code))
        super().__init__(code, f"{device}: {asked}: {meaning} ({name})")


@contextmanager
def asking(device: str, asked: str) -> Iterator[None]:
    """Have errors of the system say which device, and what was asked of it."""
    try:
        yield
    except KernelDeviceError:
        raise
    except OSError as error:
        raise KernelDeviceError(device, asked, error) from error


class SharedDescriptor:
    """
    A descriptor that is closed when it is retired and nobody uses it any more; `_lock` guards all fields.

    `close` closes it, if that is more than to close the descriptor.

    A device that is reset ends its transfer while another thread may be reading from it. Rejected: to close the
    descriptor right there. Its number could be another file's by the time the reader gets to the kernel.
    """

    def __init__(self, system: System, descriptor: int, close: Callable[[], None] | None = None) -> None:
        self._descriptor = descriptor
        self._close: Callable[[], None] = close if close is not None else lambda: system.close(descriptor)
        self._lock = threading.Lock()
        self._users = 0
        self._retired = False

    @contextmanager
    def use(self) -> Iterator[int]:
        """Use it; ENODEV if it was retired, as the kernel says of a transfer that has ended."""
        with self._lock:
            if self._retired:
                raise OSError(errno_codes.ENODEV, os.strerror(errno_codes.ENODEV))
            self._users += 1
        try:
            yield self._descriptor
        finally:
            with self._lock:
                self._users -= 1
                last = self._retired and not self._users
            if last:
                self._close()

    def retire(self) -> None:
        """Let nobody else use it, and close it once all have done with it; a second time does nothing."""
        with self._lock:
            already, self._retired = self._retired, True
            now = not already and not self._users
        if now:
            self._close()
