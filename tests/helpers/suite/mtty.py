"""The kernel's sample devices, in a guest that `.ci/kernel` makes: mtty, which migrates, and mdpy, which does not."""

import errno
import fcntl
import os
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfio_migration import DeviceState, transition_path
from vfio_migration.kernel import KernelDevice, LinuxSystem
from vfio_migration.kernel.uapi import Request
from vfio_migration.testing import SWITCHOVER_ARCS
from vfio_migration.wording import arc_name

CLASSES = Path("/sys/class/mdev_bus")
TRACING = Path("/sys/kernel/tracing")
S = DeviceState
STATES = tuple(state for state in DeviceState if state is not S.ERROR)
_REGION_INFO = 0x3B6C  # VFIO_DEVICE_GET_REGION_INFO: struct vfio_region_info
_REGION = struct.Struct("=IIIIQQ")  # argsz, flags, index, cap_offset, size, offset
_FIFO = 2  # the UART's FCR: FIFO on, and cleared
_SIZE = 12  # bytes that a device of a test has in its FIFO, of the 16 that it holds


def made(driver: str = "mtty", kind: str = "mtty-1") -> str:
    """Make a mediated device; gives its UUID."""
    name = str(uuid.uuid4())
    (CLASSES / driver / "mdev_supported_types" / kind / "create").write_text(name)
    return name


def removed(name: str) -> None:
    """Take it away again."""
    Path(f"/sys/bus/mdev/devices/{name}/remove").write_text("1")


def group_of(folder: str) -> str:
    """The node of a device's group; of a mediated one by its UUID."""
    place = folder if folder.startswith("/") else f"/sys/bus/mdev/devices/{folder}"
    return f"/dev/vfio/{Path(place, 'iommu_group').readlink().name}"


def put(device: KernelDevice, content: bytes) -> None:
    """Give the device a content: bytes in its UART's FIFO, which a reset leaves there."""
    assert len(content) <= _SIZE
    offset = _region_offset(device)
    os.pwrite(device._opened.descriptor, b"\x07", offset + _FIFO)
    for byte in content:
        os.pwrite(device._opened.descriptor, bytes([byte]), offset)


def got(device: KernelDevice, size: int = _SIZE) -> bytes:
    """Take the content out of the device."""
    offset = _region_offset(device)
    return b"".join(os.pread(device._opened.descriptor, 1, offset) for _ in range(size))


def _region_offset(device: KernelDevice) -> int:
    argument = bytearray(_REGION.pack(_REGION.size, 0, 0, 0, 0, 0))
    fcntl.ioctl(device._opened.descriptor, _REGION_INFO, argument)
    return int(_REGION.unpack(argument)[5])


def saved(device: KernelDevice) -> bytes:
    """All of a device's state, as STOP_COPY gives it; the device is RUNNING then."""
    bring(device, S.STOP_COPY)
    pieces = []
    while piece := device.read(1 << 20):
        pieces.append(piece)
    device.reset()
    return b"".join(pieces)


def bring(device: KernelDevice, state: DeviceState) -> None:
    """Bring a device to a state, from RUNNING, an arc at a time."""
    device.reset()
    for step in transition_path(S.RUNNING, state):
        device.set_arc(step)
    assert device.state is state


def refused(what: Callable[[], object]) -> OSError:
    """The error that something raises."""
    try:
        what()
    except OSError as error:
        return error
    raise AssertionError("nothing was refused")


@dataclass
class HookedSystem(LinuxSystem):
    """The system, with a hook before each change of a device's state, and one after."""

    before: Callable[[DeviceState], object] = field(default=lambda _: None)
    after: Callable[[DeviceState], object] = field(default=lambda _: None)

    def ioctl(self, descriptor: int, request: int, argument: bytearray | int = 0) -> int:
        target = _target_in(request, argument)
        if target is not None:
            self.before(target)
        result = super().ioctl(descriptor, request, argument)
        if target is not None:
            self.after(target)
        return result


class Delaying:
    """A real device that sleeps before each arc of a switchover."""

    def __init__(self, device: KernelDevice, seconds: float) -> None:
        self.device = device
        self.seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.device, name)

    def set_arc(self, target: DeviceState) -> None:
        if arc_name(self.device.state, target) in SWITCHOVER_ARCS:
            time.sleep(self.seconds)
        self.device.set_arc(target)


def _target_in(request: int, argument: bytearray | int) -> DeviceState | None:
    if request != Request.DEVICE_FEATURE or not isinstance(argument, bytearray) or len(argument) < 16:
        return None
    _, flags, state = struct.unpack_from("=III", argument)
    return DeviceState(state) if flags == 2 | 1 << 17 else None


@contextmanager
def kernel_steps() -> Iterator[Callable[[], list[tuple[DeviceState, DeviceState]]]]:
    """
    Give what reads how often the kernel has looked for a next state since the last time: (where it was, the target).

    A probe at `vfio_mig_get_next_state`, of which drivers ask each step of a way.
    """
    events = TRACING / "kprobe_events"
    events.write_text("p:switchover/step vfio_mig_get_next_state at=%si:u32 to=%dx:u32\n")
    enable = TRACING / "events/switchover/step/enable"
    enable.write_text("1")

    def read() -> list[tuple[DeviceState, DeviceState]]:
        lines = [line for line in (TRACING / "trace").read_text().splitlines() if " at=" in line]
        (TRACING / "trace").write_text("")
        fields = [dict(word.split("=") for word in line.split() if "=" in word) for line in lines]
        return [(S(int(each["at"])), S(int(each["to"]))) for each in fields]

    try:
        read()
        yield read
    finally:
        enable.write_text("0")
        events.write_text("")


def name_of(code: int | None) -> str:
    """An errno's name."""
    return errno.errorcode.get(code or 0, str(code))
