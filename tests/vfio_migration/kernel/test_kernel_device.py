"""K1, K3: real devices over the seam: requests, layouts, errors, sessions; and the same migrations as with mocks."""

import errno
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.fake_kernel import ALL, FakeKernel, kernel_with
from suite.machines import LIMIT

from vfio_migration import DeviceState, MigrationFlags, VFIODevice, VFIOMigration, Watchdog, migrate
from vfio_migration.errors import VFIOMigrationError
from vfio_migration.kernel import KernelDevice, KernelDeviceError, LinuxSystem, locate, uapi
from vfio_migration.kernel.descriptors import SharedDescriptor
from vfio_migration.kernel.uapi import Feature, How, PrecopyInfo, Request
from vfio_migration.testing import check_backend
from vmstate import Bus, Device, Machine, RealClock, RegistrationError, VirtualClock

S = DeviceState
NAME = "0000:01:00.0"


def opened(kernel: FakeKernel, number: int = 0, **options: Any) -> KernelDevice:
    return KernelDevice(f"0000:01:00.{number}", system=kernel, **options)


@pytest.mark.parametrize(
    ("request_", "number"),
    [
        (Request.GET_API_VERSION, 0x3B64),
        (Request.SET_IOMMU, 0x3B66),
        (Request.GROUP_GET_STATUS, 0x3B67),
        (Request.GROUP_SET_CONTAINER, 0x3B68),
        (Request.GROUP_GET_DEVICE_FD, 0x3B6A),
        (Request.DEVICE_RESET, 0x3B6F),
        (Request.DEVICE_FEATURE, 0x3B75),
        (Request.DEVICE_BIND_IOMMUFD, 0x3B76),
        (Request.MIG_GET_PRECOPY_INFO, 0x3B79),
    ],
)
def test_requests_have_the_kernel_s_numbers(request_: Request, number: int) -> None:
    assert request_ == number


def test_layouts_are_the_kernel_s() -> None:
    assert uapi.flags_argument() == struct.pack("=IIQ", 16, 1 | 1 << 16, 0)
    assert uapi.state_argument() == struct.pack("=IIIi", 16, 2 | 1 << 16, 0, 0)
    assert uapi.state_argument(3) == struct.pack("=IIIi", 16, 2 | 1 << 17, 3, -1)
    assert uapi.size_argument() == struct.pack("=IIQ", 16, 9 | 1 << 16, 0)
    assert uapi.feature_argument(Feature.MIG_PRECOPY_INFO_V2, How.SET) == struct.pack("=II", 8, 12 | 1 << 17)
    assert PrecopyInfo.argument() == struct.pack("=IIQQ", 24, 0, 0, 0)
    assert uapi.bind_argument(5) == struct.pack("=IIiI", 16, 0, 5, 0)
    assert uapi.group_status_argument() == struct.pack("=II", 8, 0)
    assert uapi.name_argument(NAME) == NAME.encode() + b"\0"
    assert uapi.container_argument(4) == struct.pack("=i", 4)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_precopy_info_is_read_as_it_was_written(flags: int, initial: int, dirty: int) -> None:
    assert PrecopyInfo.read(bytearray(struct.pack("=IIQQ", 24, flags, initial, dirty))) == PrecopyInfo(
        flags, initial, dirty
    )


@pytest.mark.parametrize("flags", [ALL, MigrationFlags.STOP_COPY | MigrationFlags.P2P, MigrationFlags.STOP_COPY])
@pytest.mark.parametrize("cdev", [False, True])
@pytest.mark.parametrize("nothing_more", [None, errno.ENOMSG])
def test_it_is_a_backend(flags: MigrationFlags, cdev: bool, nothing_more: int | None) -> None:
    made: list[FakeKernel] = []

    def make() -> KernelDevice:
        made.append(kernel_with(cdev=cdev, nothing_more=nothing_more))
        made[-1].devices[0].flags = flags
        return opened(made[-1])

    check_backend(make)
    assert not any(kernel.open_descriptors for kernel in made)


@pytest.mark.parametrize(
    "what",
    [
        "/dev/vfio/devices/vfio0",
        "/sys/bus/pci/devices/0000:01:00.0",
        "/sys/bus/pci/devices/0000:01:00.0/",
        NAME,
        "01:00.0",
    ],
)
def test_devices_are_found_by_what_people_call_them(what: str) -> None:
    with KernelDevice(what, system=kernel_with(cdev=True)) as device:
        assert device.way == "node"
        assert device.flags == ALL


def test_a_mediated_device_is_found_by_its_uuid() -> None:
    kernel = kernel_with()
    kernel.devices[0].name = "54449d50-fdad-4f2e-9b39-dd1d0eede4b2"
    for what in (kernel.devices[0].name, f"/sys/bus/mdev/devices/{kernel.devices[0].name}"):
        with KernelDevice(what, system=kernel) as device:
            assert device.way == "group"


def test_several_devices_of_one_group_are_opened_together() -> None:
    kernel = kernel_with(3, one_group=True)
    devices = [opened(kernel, number) for number in range(3)]
    devices[0].close()
    assert devices[1].state is S.RUNNING
    for device in devices[1:]:
        device.close()
    assert not kernel.open_descriptors


def test_a_device_is_opened_once_whatever_its_group_has_open() -> None:
    kernel = kernel_with(2, one_group=True)
    with opened(kernel) as device, opened(kernel, 1):
        device.set_arc(S.RUNNING_P2P)
        with pytest.raises(KernelDeviceError, match="in use elsewhere") as caught:
            opened(kernel)
        assert caught.value.errno == errno.EBUSY
        assert device.state is S.RUNNING_P2P
    assert not kernel.open_descriptors
    opened(kernel).close()


def test_devices_share_the_system_unless_they_are_told_another(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = kernel_with(2, one_group=True)

    def asked_of_the_kernel(name: str) -> Callable[..., object]:
        return lambda _, *arguments: getattr(kernel, name)(*arguments)

    for name in ("open", "close", "ioctl", "exists", "names", "target"):
        monkeypatch.setattr(LinuxSystem, name, asked_of_the_kernel(name))
    with KernelDevice("0000:01:00.0"), KernelDevice("0000:01:00.1"):  # which the kernel refuses to a second opener
        pass
    assert not kernel.open_descriptors


def test_a_way_that_a_device_does_not_have_is_said_so() -> None:
    with pytest.raises(KernelDeviceError, match="there is no node of its own") as caught:
        opened(kernel_with(), way="node")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EFAULT])
def test_data_that_the_device_does_not_take_are_said_so(code: int) -> None:
    kernel = kernel_with()
    with opened(kernel) as device:
        for step in (S.RUNNING_P2P, S.STOP, S.RESUMING):
            device.set_arc(step)

        def refuse(descriptor: int, data: memoryview) -> int:
            raise OSError(code, "no")

        kernel.write = refuse  # type: ignore[method-assign]
        with pytest.raises(KernelDeviceError, match="does not take these data"):
            device.write(b"x")


@pytest.mark.parametrize(
    ("options", "refusals", "words"),
    [
        ({}, {"/dev/vfio/7": errno.EBUSY}, "its group is in use elsewhere: a virtual machine"),
        ({}, {"/dev/vfio/7": errno.EACCES}, "no rights on its node: change the rights"),
        ({"viable": False}, {}, "its group is not viable: all devices of the group"),
        ({}, {Feature.MIGRATION: errno.ENOTTY}, "this driver cannot migrate the device: take the vendor's"),
        ({}, {Request.GROUP_GET_DEVICE_FD: errno.ENODEV}, "the driver has no such device any more"),
        ({"cdev": True}, {Request.DEVICE_BIND_IOMMUFD: errno.EBUSY}, "in use elsewhere"),
        ({"cdev": True}, {"/dev/iommu": errno.ENOENT}, "its own node: .* no /dev/iommu: .*open it by its group"),
        ({"cdev": True}, {"/dev/iommu": errno.EACCES}, "its own node: no rights on its node"),
        ({}, {Request.DEVICE_RESET: errno.EINVAL}, "its reset: it cannot be reset"),
    ],
)
def test_a_device_that_cannot_be_opened_says_why(
    options: dict[str, Any], refusals: dict[object, int], words: str
) -> None:
    kernel = kernel_with(**options, refusals=refusals)
    with pytest.raises(KernelDeviceError, match=words) as caught:
        opened(kernel)
    assert NAME in str(caught.value)
    assert caught.value.errno
    assert not kernel.open_descriptors


def test_what_is_no_device_is_said_so() -> None:
    with pytest.raises(VFIOMigrationError, match="is no device: expected /dev/vfio/devices/vfioN"):
        KernelDevice("eth0", system=kernel_with())
    with pytest.raises(VFIOMigrationError, match="there is no such device"):
        KernelDevice("0000:99:00.0", system=kernel_with())
    with pytest.raises(KernelDeviceError, match="not bound to a VFIO driver"):
        KernelDevice("/dev/vfio/devices/vfio9", system=kernel_with())
    kernel = kernel_with()
    kernel.devices[0].group = "nowhere"
    kernel.exists = lambda path: path.startswith("/sys")  # type: ignore[method-assign]
    with pytest.raises(KernelDeviceError, match="bind it to one"):
        opened(kernel)


def test_a_device_is_reset_when_it_is_opened_given_back_and_closed() -> None:
    kernel = kernel_with()
    kernel.devices[0].set_state(S.STOP)
    device = opened(kernel)
    assert (device.state, kernel.devices[0].resets) == (S.RUNNING, 1)
    device.bind(RealClock())
    device.set_arc(S.RUNNING_P2P)
    device.unbind()
    assert (device.state, kernel.devices[0].resets) == (S.RUNNING, 2)
    device.close()
    device.close()
    assert kernel.devices[0].resets == 3


def test_nothing_is_asked_of_a_device_that_was_closed() -> None:
    kernel = kernel_with(2)
    device, other = opened(kernel), opened(kernel, 1)
    device.bind(RealClock())
    old = device._opened.descriptor
    device.close()
    kernel.open_descriptors[old] = kernel.devices[1]  # the system gives numbers anew, here to another device
    other.set_arc(S.RUNNING_P2P)
    device.unbind()
    asks: list[Callable[[], object]] = [
        device.reset,
        device.stop_size,
        lambda: device.state,
        lambda: device.set_arc(S.RUNNING_P2P),
    ]
    for ask in asks:
        with pytest.raises(KernelDeviceError, match="closed") as caught:
            ask()
        assert caught.value.errno == errno.ENODEV
    device.close()
    assert other.state is S.RUNNING_P2P
    assert kernel.devices[0].resets == 2


def test_a_device_that_is_closed_in_an_arc_is_given_back_after_it() -> None:
    kernel = kernel_with()
    device = opened(kernel)

    def close(step: DeviceState) -> None:
        device.close()
        assert kernel.open_descriptors

    kernel.devices[0].before_arc = close
    with pytest.raises(KernelDeviceError, match="reset meanwhile"):
        device.set_arc(S.RUNNING_P2P)
    assert not kernel.open_descriptors


def test_it_takes_real_time_and_one_machine() -> None:
    with opened(kernel_with()) as device:
        with pytest.raises(RegistrationError, match="takes real time"):
            device.bind(VirtualClock())
        device.bind(RealClock())
        with pytest.raises(RegistrationError, match="drives a device of a machine already"):
            device.bind(RealClock())


def test_sessions_end_with_their_states_and_leave_no_descriptor() -> None:
    kernel = kernel_with()
    with opened(kernel) as device:
        before = len(kernel.open_descriptors)
        device.set_arc(S.PRE_COPY)
        assert len(kernel.open_descriptors) == before + 1
        assert device.pending() == 52
        assert device.initial_pending() == 10
        assert len(device.read(1000)) == 52
        device.set_arc(S.PRE_COPY_P2P)
        device.set_arc(S.STOP_COPY)
        assert device.pending() == 0
        assert len(device.read(1000)) == 52
        assert device.read(1000) == b""
        device.set_arc(S.STOP)
        assert len(kernel.open_descriptors) == before
        with pytest.raises(KernelDeviceError, match="the transfer has ended") as caught:
            device.read(10)
        assert caught.value.errno == errno.ENODEV


def test_a_size_that_the_kernel_does_not_tell_is_what_is_pending() -> None:
    with opened(kernel_with()) as device:
        assert device.stop_size() == 100
    with opened(kernel_with(has_size=False)) as device:
        assert device.stop_size() == 0


def test_incomplete_data_keep_it_in_resuming_until_it_is_reset() -> None:
    with opened(kernel_with()) as device:
        device.set_arc(S.RUNNING_P2P)
        device.set_arc(S.STOP)
        device.set_arc(S.RESUMING)
        device.write(b"half")
        with pytest.raises(KernelDeviceError, match=r"no way to that state|incomplete") as caught:
            device.set_arc(S.STOP)
        assert caught.value.errno == errno.EINVAL
        assert device.state == int(S.RESUMING)
        device.reset()
        assert device.state == int(S.RUNNING)


def test_an_arc_that_a_reset_overtakes_has_failed() -> None:
    kernel = kernel_with()
    with opened(kernel) as device:
        descriptors = len(kernel.open_descriptors)
        kernel.devices[0].before_arc = lambda _: device.reset()
        with pytest.raises(KernelDeviceError, match="reset meanwhile") as caught:
            device.set_arc(S.PRE_COPY)
        assert caught.value.errno == errno.ENODEV
        assert len(kernel.open_descriptors) == descriptors


def test_a_descriptor_in_use_is_closed_when_its_user_has_done() -> None:
    kernel = kernel_with()
    descriptor = kernel.open("/dev/vfio/vfio")
    shared = SharedDescriptor(kernel, descriptor)
    with shared.use():
        shared.retire()
        assert descriptor in kernel.open_descriptors
        with pytest.raises(OSError, match="No such device"), shared.use():
            pass
    assert descriptor not in kernel.open_descriptors
    shared.retire()


def pair(kernel: FakeKernel, count: int, **options: Any) -> tuple[Machine, Machine]:
    machines = Machine("source"), Machine("destination")
    for side, machine in enumerate(machines):
        for number in range(count):
            backend = opened(kernel, number + side * count)
            VFIOMigration(machine, VFIODevice(Device(f"vf{number}", Bus("pcie.0")), backend), **options)
    machines[0].start()
    return machines


@pytest.mark.parametrize("threads", ["per-change", "parked"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_migration_of_real_devices_is_one_like_any_other(threads: str, count: int) -> None:
    kernel = kernel_with(2 * count)
    before = len(kernel.open_descriptors)
    source, destination = pair(kernel, count, threads=threads)
    report = migrate(source, destination)
    assert report.completed
    for number in range(count):
        assert kernel.devices[count + number].memory == bytes([number]) * 100
    assert {kernel.devices[number].state for number in range(count)} == {S.STOP}
    assert {kernel.devices[count + number].state for number in range(count)} == {S.RUNNING}
    for machine in (source, destination):
        for each in machine.migratables:
            assert isinstance(each, VFIOMigration)
            backend = each.vfio_device.backend
            each.close()
            assert isinstance(backend, KernelDevice)
            backend.close()
    assert len(kernel.open_descriptors) == before == 0


def test_a_device_that_is_reset_in_its_stop_fails_the_migration() -> None:
    kernel = kernel_with(4)
    source, destination = pair(kernel, 2)
    kernel.devices[0].before_arc = lambda step: kernel.devices[0].reset() if step is S.STOP_COPY else None
    report = migrate(source, destination)
    assert report.status == "failed"
    assert source.run_state.live
    assert {kernel.devices[number].state for number in (0, 1)} == {S.RUNNING}


def test_an_arc_that_stalls_in_the_kernel_loses_the_device_and_not_the_process() -> None:
    kernel = kernel_with(2)
    release = threading.Event()
    source, destination = pair(kernel, 1, watchdog=Watchdog(give_up_after_s=0.2))

    def stall(step: DeviceState) -> None:
        if step is S.STOP_COPY:
            release.wait(LIMIT)

    kernel.devices[0].before_arc = stall
    report = migrate(source, destination)
    assert report.status == "failed"
    assert report.lost_devices == ("vf0",)
    release.set()


def test_this_system_has_or_has_not_devices_and_is_asked_the_same_way(tmp_path: Path) -> None:
    system = LinuxSystem()
    file = tmp_path / "f"
    file.write_bytes(b"abc")
    (tmp_path / "link").symlink_to("f")
    descriptor = system.open(str(file))
    assert system.read(descriptor, 2) == b"ab"
    assert system.write(descriptor, memoryview(b"xy")) == 2
    with pytest.raises(OSError, match=r".") as caught:
        system.ioctl(descriptor, Request.DEVICE_RESET)
    assert caught.value.errno == errno.ENOTTY
    system.close(descriptor)
    assert system.exists(str(file))
    assert system.names(str(tmp_path)) == ["f", "link"]
    assert system.names(str(tmp_path / "none")) == []
    assert system.target(str(tmp_path / "link")) == "f"
    with pytest.raises(VFIOMigrationError):
        locate("0000:ff:1f.7", system)
