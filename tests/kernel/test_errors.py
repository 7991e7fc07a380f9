"""K1: what a real kernel refuses, and that the error says which device, what was asked, what it means, what to do."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from suite.mtty import S, bring, group_of, made, name_of, put, refused, removed, saved

from vfio_migration.errors import VFIOMigrationError
from vfio_migration.kernel import KernelDevice, KernelDeviceError
from vfio_migration.testing import count_descriptors

Opening = Callable[..., KernelDevice]
PCI = Path("/sys/bus/pci")
ALONE, IN_COMPANY, NEIGHBOUR = "0000:00:04.0", "0000:01:02.0", "0000:01:01.0"  # two edu, a pci-serial; see .ci/kernel


def refusal(name: str, code: int, *words: str, **options: object) -> KernelDeviceError:
    """Open a device; see that it is refused with this errno, in these words and its name, and leaves nothing open."""
    before = count_descriptors()
    error = refused(lambda: KernelDevice(name, **options))  # type: ignore[arg-type]
    assert isinstance(error, KernelDeviceError)
    assert name_of(error.errno) == name_of(code), str(error)
    for word in (name, *words, f"({name_of(code)})"):
        assert word in str(error)
    assert count_descriptors() == before
    return error


@pytest.fixture
def bound() -> Iterator[Callable[[str], str]]:
    """Binds a PCI device to vfio-pci until the test is over."""
    names: list[str] = []

    def bind(name: str) -> str:
        (PCI / "devices" / name / "driver_override").write_text("vfio-pci")
        (PCI / "drivers_probe").write_text(name)
        assert (PCI / "devices" / name / "driver").resolve().name == "vfio-pci"
        names.append(name)
        return name

    yield bind
    for name in names:
        (PCI / "drivers/vfio-pci/unbind").write_text(name)
        (PCI / "devices" / name / "driver_override").write_text("\n")


def test_a_device_that_another_program_has_is_in_use(uuids: Callable[[], str]) -> None:
    name = uuids()
    code = f"import os; os.open({group_of(name)!r}, os.O_RDWR); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        refusal(name, errno.EBUSY, "in use elsewhere")
        other.communicate("\n")
    KernelDevice(name).close()


def test_a_device_that_this_program_has_is_in_use_and_keeps_its_state(uuids: Callable[[], str]) -> None:
    name = uuids()
    with KernelDevice(name) as device:
        bring(device, S.STOP)
        refusal(name, errno.EBUSY, "in use")
        assert device.state is S.STOP
    KernelDevice(name).close()


def test_a_driver_that_cannot_migrate_is_named() -> None:
    name = made("mdpy", "mdpy-vga")
    try:
        refusal(name, errno.ENOTTY, "its features", "cannot migrate", "take the vendor's")
    finally:
        removed(name)


def test_a_pci_device_of_vfio_pci_cannot_migrate_and_is_found_by_all_its_names(bound: Callable[[str], str]) -> None:
    bound(ALONE)
    for name in (ALONE, ALONE.removeprefix("0000:"), f"/sys/bus/pci/devices/{ALONE}"):
        error = refused(lambda name=name: KernelDevice(name))  # type: ignore[misc]
        assert name_of(error.errno) == "ENOTTY"
        assert ALONE in str(error)


def test_a_device_that_is_bound_to_no_driver_says_to_bind_it() -> None:
    refusal(ALONE, errno.ENOENT, "opening", "not bound to a VFIO driver", "bind it")


def test_a_device_whose_group_is_not_viable_says_to_bind_the_others(bound: Callable[[str], str]) -> None:
    assert (PCI / "devices" / NEIGHBOUR / "driver").exists()
    refusal(bound(IN_COMPANY), errno.EPERM, "group is not viable", "bound to VFIO drivers")


def test_rights_that_lack_are_said_so(uuids: Callable[[], str]) -> None:
    name = uuids()
    os.chmod(group_of(name), 0o600)  # noqa: PTH101
    os.seteuid(65534)
    try:
        refusal(name, errno.EACCES, "no rights on its node", "root")
    finally:
        os.seteuid(0)


def test_what_is_no_device_here_is_said_so(uuids: Callable[[], str]) -> None:
    for name in ("0000:ff:1f.7", "54449d50-fdad-4f2e-9b39-dd1d0eede4b2"):
        with pytest.raises(VFIOMigrationError, match="there is no such device"):
            KernelDevice(name)
    refusal("/dev/vfio/devices/vfio99", errno.ENOENT, "not bound to a VFIO driver")


def test_a_way_that_the_kernel_does_not_have_is_refused(uuids: Callable[[], str]) -> None:
    if Path("/dev/iommu").exists():
        pytest.skip("this kernel has both ways")
    refusal(uuids(), errno.ENOENT, "node of its own", "open it by its group", way="node")


@pytest.mark.parametrize("way", ["group", "node"])
def test_both_ways_of_opening_lead_to_the_same_device(way: str, uuids: Callable[[], str]) -> None:
    if way == "node" and not Path("/dev/iommu").exists():
        pytest.skip("this kernel has no iommufd (Debian's have none)")
    name = uuids()
    with KernelDevice(name, way=way) as device:  # type: ignore[arg-type]
        assert device.way == way
        assert len(saved(device)) > 0


def test_what_was_loaded_short_keeps_it_in_resuming(opened: Opening) -> None:
    source, device = opened(), opened()
    content = saved(source)
    for short in (b"", content[: len(content) // 2], content[:-1]):
        bring(device, S.RESUMING)
        device.write(short)
        for target in (S.STOP, S.RUNNING):
            error = refused(lambda target=target: device.set_arc(target))  # type: ignore[misc]
            assert error.errno == errno.EINVAL
            assert device.name in str(error)
            assert "what was loaded is incomplete" in str(error)
            assert device.state is S.RESUMING
        device.reset()
        assert device.state is S.RUNNING


def test_data_of_another_kind_are_refused(opened: Opening) -> None:
    device = opened()
    content = bytearray(saved(device))
    content[0] ^= 1
    bring(device, S.RESUMING)
    error = refused(lambda: device.write(bytes(content)))
    assert error.errno in (errno.EINVAL, errno.EFAULT)  # drivers differ
    assert f"{device.name}: writing: the device does not take these data" in str(error)


def test_transfers_go_one_way(opened: Opening) -> None:
    device = opened()
    bring(device, S.RESUMING)
    error = refused(lambda: device.read(1))
    assert (error.errno, "cannot be read from" in str(error)) == (errno.EBADF, True)
    bring(device, S.STOP_COPY)
    error = refused(lambda: device.write(b"x"))
    assert (error.errno, "cannot be written to" in str(error)) == (errno.EBADF, True)


@pytest.mark.parametrize("state", [S.STOP_COPY, S.RESUMING, S.PRE_COPY])
def test_a_transfer_ends_with_a_reset(state: S, opened: Opening) -> None:
    device = opened()
    bring(device, state)
    session = device._session
    assert session is not None
    with session.use() as descriptor:  # as another thread does, which the reset overtakes
        device.reset()
        kernels = refused(lambda: os.write(descriptor, b"x") if state is S.RESUMING else os.read(descriptor, 1))
        assert kernels.errno == errno.ENODEV
    for ask in (lambda: device.read(1), lambda: device.write(b"x")):
        error = refused(ask)
        assert (error.errno, "the transfer has ended" in str(error)) == (errno.ENODEV, True)


def test_a_device_that_is_opened_again_is_as_new_wherever_it_was_left(uuids: Callable[[], str]) -> None:
    name = uuids()
    for state in (S.STOP, S.STOP_COPY, S.RESUMING, S.PRE_COPY_P2P):
        with KernelDevice(name) as device:
            put(device, b"content")
            bring(device, state)
        with KernelDevice(name) as device:
            assert device.state is S.RUNNING
            for step in (S.RUNNING_P2P, S.STOP):  # of which a kernel dies if it was left in RESUMING, and not reset
                device.set_arc(step)
