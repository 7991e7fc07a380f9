"""A real device of the kernel's VFIO as a `DeviceBackend`."""

import errno
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from vfio_migration.device import DeviceState, MigrationFlags
from vfio_migration.kernel import uapi
from vfio_migration.kernel.descriptors import KernelDeviceError, SharedDescriptor, asking
from vfio_migration.kernel.locating import locate
from vfio_migration.kernel.opening import Way, open_device
from vfio_migration.kernel.system import LinuxSystem, System
from vmstate import Clock, RealClock, RegistrationError, get_logger

_SAVING = (DeviceState.PRE_COPY, DeviceState.PRE_COPY_P2P, DeviceState.STOP_COPY)
_TRANSFERRING = (*_SAVING, DeviceState.RESUMING)


class KernelDevice:
    """
    Drives a real device: `/dev/vfio/devices/vfioN`, a folder of sysfs, a PCI address or a mediated device's UUID.

    It is opened by its own node (with iommufd) or by its group (with a container), whichever the kernel has, or as
    `way` says. It is reset when it is opened, when a machine gives it back, and when it is closed: what it was, or had
    half loaded, is never anybody else's. It takes real time.

    Guarantees:
    - A session's descriptor is closed when the session is over, whoever ends it, never while another thread uses it.
    - An arc that a reset has overtaken has failed (ENODEV), though the kernel says that it succeeded.
    - Errors are OSErrors that name the device, what was asked, what the errno means here, and what to do.

    `_lock` guards session and resets; no request is made with it held, as any may take long.

    Raises:
        KernelDeviceError: it cannot be opened or reset, or its driver cannot migrate it.
        VFIOMigrationError: there is no such device.

    """

    loads_slowly = True  # mlx5 and virtio load while they are written to, so a source sends each piece at once

    def __init__(self, path: str, *, way: Way | None = None, system: System | None = None) -> None:
        self._system = system if system is not None else _linux
        self._located = locate(path, self._system)
        self.name = self._located.name
        self._lock = threading.Lock()
        self._session: SharedDescriptor | None = None
        self._resets = 0
        self._bound = False
        self._closed = False
        self._opened = open_device(self._located, self._system, way)
        self._device = SharedDescriptor(self._system, self._opened.descriptor, self._opened.close)
        try:
            self._flags = self._read_flags()
            self._tells_size = self._has(uapi.Feature.MIG_DATA_SIZE, uapi.How.GET)
            self._has(uapi.Feature.MIG_PRECOPY_INFO_V2, uapi.How.SET, really=True)
            self.reset()
        except BaseException:
            self._device.retire()
            raise

    @property
    def way(self) -> Way:
        """How it was opened."""
        return self._opened.way

    @property
    def flags(self) -> MigrationFlags:
        """What the device can do."""
        return self._flags

    @property
    def state(self) -> DeviceState:
        """The state that the device is in; waits while it is on its way to another."""
        argument = uapi.state_argument()
        self._feature(argument, "its state")
        return DeviceState(uapi.state_in(argument)[0])

    def bind(self, clock: Clock) -> None:
        """Become part of a machine, in real time."""
        if not isinstance(clock, RealClock):
            raise RegistrationError(f"{self.name} takes real time: give its machine a RealClock")
        with self._lock:
            if self._bound:
                raise RegistrationError(f"{self.name} drives a device of a machine already")
            self._bound = True

    def unbind(self) -> None:
        """Be taken away from the machine, with nothing of its guest left."""
        with self._lock:
            self._bound = False
        if self._closed:
            return  # which has reset it
        try:
            self.reset()
        except KernelDeviceError as error:
            _log.error("a device could not be reset when it was given back", device=self.name, error=str(error))

    def set_arc(self, target: DeviceState) -> None:
        """Go to a state that is one arc away."""
        with self._lock:
            resets = self._resets
        argument = uapi.state_argument(int(target))
        self._feature(argument, "its state")
        _, descriptor = uapi.state_in(argument)
        with self._lock:
            overtaken = self._resets != resets
            old, new = self._session, None
            if descriptor != uapi.NO_SESSION:
                new = SharedDescriptor(self._system, descriptor)
            elif target in _TRANSFERRING and not overtaken:
                new, old = old, None  # it goes on through the saving states
            self._session = None if overtaken else new
        for ended in (old, new if overtaken else None):
            if ended is not None:
                ended.retire()
        if overtaken:
            raise KernelDeviceError(self.name, "its state", OSError(errno.ENODEV, "reset meanwhile"))

    def pending(self) -> int:
        """Say how many bytes pre-copy could read now."""
        info = self._precopy_info()
        return 0 if info is None else info.initial_bytes + info.dirty_bytes

    def initial_pending(self) -> int:
        """Say how many initial bytes pre-copy has still to give."""
        info = self._precopy_info()
        return 0 if info is None else info.initial_bytes

    def stop_size(self) -> int:
        """Say how many bytes would have to be read if the device were stopped now; what is pending if it cannot."""
        if not self._tells_size:
            return self.pending()
        argument = uapi.size_argument()
        self._feature(argument, "its features")
        return uapi.number_in(argument)

    def read(self, size: int) -> bytes:
        """Give up to `size` bytes of state; b"" at the end, also at the temporary one of pre-copy."""
        with asking(self.name, "reading"), self._transfer().use() as descriptor:
            try:
                return self._system.read(descriptor, size)
            except OSError as error:
                if error.errno == errno.ENOMSG:  # which drivers may say at the temporary end; others give nothing
                    return b""
                raise

    def write(self, data: bytes) -> None:
        """Take bytes of state."""
        with asking(self.name, "writing"), self._transfer().use() as descriptor:
            rest = memoryview(data)
            while rest:
                rest = rest[self._system.write(descriptor, rest) :]

    def reset(self) -> None:
        """Bring the device to RUNNING, with its state lost; a transfer ends with it."""
        with self._lock:
            self._resets += 1
            ended, self._session = self._session, None
        if ended is not None:
            ended.retire()
        with asking(self.name, "its reset"), self._device.use() as descriptor:
            self._system.ioctl(descriptor, uapi.Request.DEVICE_RESET)

    def close(self) -> None:
        """
        Reset the device, and give it back to the system; a second time does nothing.

        Whatever is asked of it from then on is refused (ENODEV). A request that is under way comes to its end first.
        """
        with self._lock:
            already, self._closed = self._closed, True
        if already:
            return
        with suppress(KernelDeviceError):  # gone, maybe
            self.reset()
        self._device.retire()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<KernelDevice {self.name} by its {self.way}>"

    def _read_flags(self) -> MigrationFlags:
        argument = uapi.flags_argument()
        self._feature(argument, "its features")
        return MigrationFlags(uapi.number_in(argument) & int(_ALL_FLAGS)) | MigrationFlags.STOP_COPY

    def _has(self, feature: uapi.Feature, how: uapi.How, *, really: bool = False) -> bool:
        """Whether the kernel has a feature; `really`: switch it on, which takes no data."""
        argument = uapi.feature_argument(feature, how if really else how | uapi.How.PROBE)
        try:
            with self._device.use() as descriptor:
                self._system.ioctl(descriptor, uapi.Request.DEVICE_FEATURE, argument)
        except OSError:
            return False
        return True

    def _feature(self, argument: bytearray, asked: str) -> None:
        with asking(self.name, asked), self._device.use() as descriptor:
            self._system.ioctl(descriptor, uapi.Request.DEVICE_FEATURE, argument)

    def _transfer(self) -> SharedDescriptor:
        with self._lock:
            session = self._session
        if session is None:
            raise OSError(errno.ENODEV, "there is no transfer")
        return session

    def _precopy_info(self) -> uapi.PrecopyInfo | None:
        """Ask what pre-copy has; None where there is none, of which the kernel says EINVAL."""
        with self._lock:
            session = self._session
        if session is None:
            return None
        argument = uapi.PrecopyInfo.argument()
        with asking(self.name, "reading"), session.use() as descriptor:
            try:
                self._system.ioctl(descriptor, uapi.Request.MIG_GET_PRECOPY_INFO, argument)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOTTY):
                    return None
                raise
        return uapi.PrecopyInfo.read(argument)


_ALL_FLAGS = MigrationFlags.STOP_COPY | MigrationFlags.P2P | MigrationFlags.PRE_COPY
_linux = LinuxSystem()  # one for all, as devices of a group share what is open of that
_log = get_logger("vfio_migration.kernel")
