"""A kernel with VFIO devices that is none: what the uAPI says, in Python, under the seam of real devices."""

import errno
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from vfio_migration.device import DeviceState, MigrationFlags, transition_path
from vfio_migration.kernel.uapi import Feature, How, Request

S = DeviceState
SAVING = (S.PRE_COPY, S.PRE_COPY_P2P, S.STOP_COPY)
ALL = MigrationFlags.STOP_COPY | MigrationFlags.P2P | MigrationFlags.PRE_COPY
_LENGTH = struct.Struct(">I")


@dataclass
class Session:
    """A transfer: what is to be read from it, or was written to it."""

    writes: bool
    left: bytes = b""
    over: bool = False


@dataclass
class FakeDevice:
    """One device, as a driver has it; `memory` is its state."""

    name: str
    group: str
    node: str
    flags: MigrationFlags = ALL
    memory: bytes = b"m" * 100
    state: DeviceState = S.RUNNING
    session: Session | None = None
    resets: int = 0
    opened: bool = False
    before_arc: Callable[[DeviceState], None] = lambda _: None

    def set_state(self, target: int) -> Session | None:
        """Walk to a state; gives the session that came with it."""
        try:
            path = transition_path(self.state, S(target), self.flags)
        except (ValueError, OSError):
            raise error(errno.EINVAL) from None
        new = None
        for step in path:
            self.before_arc(step)
            new = self._enter(step) or new
        return new

    def reset(self) -> None:
        self.resets += 1
        self.state = S.RUNNING
        self._end()

    def _enter(self, step: DeviceState) -> Session | None:
        before = self.state
        if before is S.RESUMING and step is S.STOP:
            self._load()
        if step not in SAVING and step is not S.RESUMING:
            self._end()
        new = None
        if step is S.RESUMING or (step in SAVING and before not in SAVING):
            whole = _LENGTH.pack(len(self.memory)) + self.memory
            warm = whole[: len(whole) // 2] if step is not S.STOP_COPY else whole
            new = self.session = Session(step is S.RESUMING, b"" if step is S.RESUMING else warm)
        elif step is S.STOP_COPY and self.session is not None:
            whole = _LENGTH.pack(len(self.memory)) + self.memory
            self.session.left += whole[len(whole) // 2 :]
        self.state = step
        return new

    def _load(self) -> None:
        data = self.session.left if self.session is not None else b""
        if len(data) < _LENGTH.size or len(data) != _LENGTH.size + _LENGTH.unpack_from(data)[0]:
            raise error(errno.EINVAL)
        self.memory = data[_LENGTH.size :]

    def _end(self) -> None:
        if self.session is not None:
            self.session.over = True
        self.session = None


@dataclass
class FakeKernel:
    """
    A `System`: descriptors stand for objects. `refusals` are errors of opens and requests, by path or request.

    `cdev`: devices have nodes of their own, and there is iommufd.
    """

    devices: list[FakeDevice] = field(default_factory=list)
    cdev: bool = False
    viable: bool = True
    has_size: bool = True
    nothing_more: int | None = None  # the errno at the temporary end of pre-copy
    refusals: dict[object, int] = field(default_factory=dict)
    open_descriptors: dict[int, object] = field(default_factory=dict)
    written_at_once: int = 7
    _next: int = 100
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, path: str) -> int:
        self._refuse(path)
        if path in ("/dev/vfio/vfio", "/dev/iommu"):
            if path == "/dev/iommu" and not self.cdev:
                raise error(errno.ENOENT)
            return self._descriptor(path)
        if path.startswith("/dev/vfio/devices/"):
            return self._descriptor(next(each for each in self.devices if each.node == path.rpartition("/")[2]))
        if f"group {path}" in self.open_descriptors.values():
            raise error(errno.EBUSY)
        return self._descriptor(f"group {path}")

    def close(self, descriptor: int) -> None:
        with self._lock:
            what = self.open_descriptors.pop(descriptor)
        if isinstance(what, FakeDevice):
            what.opened = False

    def ioctl(self, descriptor: int, request: int, argument: bytearray | int = 0) -> int:
        self._refuse(Request(request))
        what = self._of(descriptor)
        if request == Request.GROUP_GET_STATUS and isinstance(argument, bytearray):
            struct.pack_into("=II", argument, 0, 8, int(self.viable))
        elif request == Request.GROUP_GET_DEVICE_FD and isinstance(argument, bytearray):
            return self._descriptor(self.named(argument.rstrip(b"\0").decode()))
        elif request == Request.DEVICE_BIND_IOMMUFD and isinstance(what, FakeDevice):
            if what.opened:
                raise error(errno.EBUSY)
            what.opened = True
        elif isinstance(what, FakeDevice):
            self._ask(what, request, argument)
        elif isinstance(what, Session) and isinstance(argument, bytearray):
            self._precopy(what, argument)
        return 0

    def read(self, descriptor: int, size: int) -> bytes:
        session = self._session(descriptor)
        if session.writes:
            raise error(errno.EBADF)
        data, session.left = session.left[:size], session.left[size:]
        device = next((each for each in self.devices if each.session is session), None)
        if not data and self.nothing_more is not None and device is not None and device.state is not S.STOP_COPY:
            raise error(self.nothing_more)
        return data

    def write(self, descriptor: int, data: memoryview) -> int:
        session = self._session(descriptor)
        if not session.writes:
            raise error(errno.EBADF)
        some = bytes(data[: self.written_at_once])
        session.left += some
        return len(some)

    def exists(self, path: str) -> bool:
        known = {f"/dev/vfio/{each.group}" for each in self.devices}
        known |= {f"/sys/bus/{bus}/devices/{each.name}" for bus in ("pci", "mdev") for each in self.devices}
        if self.cdev:
            known |= {f"/dev/vfio/devices/{each.node}" for each in self.devices}
        return path in known

    def names(self, folder: str) -> list[str]:
        return [each.node for each in self.devices if folder.endswith(f"/{each.name}/vfio-dev")]

    def target(self, link: str) -> str:
        name = link.split("/")[-2]
        return f"../../../kernel/iommu_groups/{self.named(name).group}"

    def named(self, name: str) -> FakeDevice:
        found = next((each for each in self.devices if each.name == name), None)
        if found is None:
            raise error(errno.ENODEV)
        return found

    def _ask(self, device: FakeDevice, request: int, argument: bytearray | int) -> None:
        if request == Request.DEVICE_RESET:
            device.reset()
            return
        assert request == Request.DEVICE_FEATURE
        assert isinstance(argument, bytearray)
        size, flags = struct.unpack_from("=II", argument)
        assert size == len(argument)
        feature, how = Feature(flags & 0xFFFF), How(flags & ~0xFFFF)
        self._refuse(feature)
        if feature is Feature.MIG_DATA_SIZE and not self.has_size:
            raise error(errno.ENOTTY)
        if how & How.PROBE or feature is Feature.MIG_PRECOPY_INFO_V2:
            return
        if feature is Feature.MIG_DEVICE_STATE and how is How.SET:
            session = device.set_state(struct.unpack_from("=I", argument, 8)[0])
            struct.pack_into("=i", argument, 12, -1 if session is None else self._descriptor(session))
        elif feature is Feature.MIG_DEVICE_STATE:
            struct.pack_into("=Ii", argument, 8, device.state, -1)
        else:
            number = device.flags if feature is Feature.MIGRATION else len(device.memory)
            struct.pack_into("=Q", argument, 8, int(number))

    def _precopy(self, session: Session, argument: bytearray) -> None:
        device = next((each for each in self.devices if each.session is session), None)
        if device is None or device.state not in (S.PRE_COPY, S.PRE_COPY_P2P):
            raise error(errno.EINVAL)
        struct.pack_into("=QQ", argument, 8, min(10, len(session.left)), max(0, len(session.left) - 10))

    def _session(self, descriptor: int) -> Session:
        session = self._of(descriptor)
        assert isinstance(session, Session)
        if session.over:
            raise error(errno.ENODEV)
        return session

    def _of(self, descriptor: int) -> object:
        with self._lock:
            return self.open_descriptors[descriptor]

    def _descriptor(self, what: object) -> int:
        with self._lock:
            self._next += 1
            self.open_descriptors[self._next] = what
            return self._next

    def _refuse(self, what: object) -> None:
        if what in self.refusals:
            raise error(self.refusals[what])


def error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def kernel_with(count: int = 1, *, one_group: bool = False, **options: object) -> FakeKernel:
    """Make a kernel with so many PCI devices: 0000:01:00.0 and so on."""
    devices = [
        FakeDevice(
            f"0000:01:00.{number}", str(7 if one_group else 7 + number), f"vfio{number}", memory=bytes([number]) * 100
        )
        for number in range(count)
    ]
    return FakeKernel(devices, **options)  # type: ignore[arg-type]
