"""Faults of real devices in a migration: what fails is said, the source goes on, nothing stays open or in between."""

import errno
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from suite.machines import LIMIT
from suite.mtty import HookedSystem, S, bring, got, put, refused

from vfio_migration import DeviceBackend, DeviceState, MigrationReport, Watchdog
from vfio_migration.kernel import KernelDevice, KernelDeviceError
from vfio_migration.testing import PairRig, count_descriptors, stream_cut_at
from vmstate import RealClock

Opening = Callable[..., KernelDevice]


class ShortKernelDevice:
    """A real device of which the last byte of what is written to it never gets there, while `short`."""

    short = True

    def __init__(self, device: KernelDevice) -> None:
        self.device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self.device, name)

    def write(self, data: bytes) -> None:
        self.device.write(data[:-1] if self.short else data)


def pair_of(source: DeviceBackend, destination: Any, **options: Any) -> PairRig:
    pair = PairRig(clock=RealClock())
    pair.source.add_device("vf0", backend=source, **options)
    pair.destination.add_device("vf0", backend=destination, **options)
    return pair


def failed(pair: PairRig, **options: Any) -> MigrationReport:
    """Migrate; see that it failed, that the source runs with its devices, and the destination does not."""
    report = pair.migrate(**options)
    assert report.status == "failed"
    assert pair.source.machine.run_state == "running"
    assert not pair.destination.machine.run_state.live
    return report


@pytest.mark.parametrize("step", [S.PRE_COPY_P2P, S.STOP_COPY])
def test_a_reset_during_an_arc_of_the_source_fails_the_migration_once(step: DeviceState, opened: Opening) -> None:
    system = HookedSystem()
    source, destination = opened(system), opened()
    resets = [step]

    def overtake(target: DeviceState) -> None:
        if target in resets:
            resets.remove(target)
            source.reset()

    system.after = overtake  # the kernel says that the arc succeeded; the device is RUNNING
    with pair_of(source, destination) as pair:
        report = failed(pair)
        assert source.name in str(report.error)
        assert not resets
        assert source.state is S.RUNNING
        put(source, b"again")
        assert pair.migrate().completed
        assert got(destination, 5) == b"again"


def test_a_device_that_was_reset_in_an_arc_says_so(opened: Opening) -> None:
    system = HookedSystem()
    device = opened(system)
    system.after = lambda _: device.reset()
    error = refused(lambda: device.set_arc(S.PRE_COPY))
    assert isinstance(error, KernelDeviceError)
    assert error.errno == errno.ENODEV
    assert device.state is S.RUNNING
    assert device._session is None


@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.95])
def test_a_cut_stream_leaves_the_source_with_its_state(part: float, opened: Opening) -> None:
    source, destination = opened(), opened()
    with pair_of(source, destination) as pair:
        whole = pair.migrate().bytes_sent
        assert pair.migrate(back=True).completed
        put(source, b"content")
        failed(pair, sockets=stream_cut_at(int(whole * part)))
        assert source.state is S.RUNNING
        assert destination.state is not S.RESUMING
        assert pair.migrate().completed
        assert got(destination, 7) == b"content"


def test_a_state_that_arrives_short_is_refused_by_the_kernel_and_the_source_goes_on(opened: Opening) -> None:
    source, destination = opened(), ShortKernelDevice(opened())
    put(source, b"content")
    with pair_of(source, destination) as pair:
        report = failed(pair)
        assert "EINVAL" in str(report.error) or "Invalid argument" in str(report.error)
        assert source.state is S.RUNNING
        assert destination.device.state is S.STOP  # by a reset, as nothing else leads out of RESUMING
        destination.short = False
        assert pair.migrate().completed
        assert got(destination.device, 7) == b"content"


def test_a_device_that_is_taken_away_and_given_back_can_be_opened_again(opened: Opening) -> None:
    source, destination = opened(), opened()
    with pair_of(source, destination) as pair:
        assert pair.migrate().completed
    assert (source.state, destination.state) == (S.RUNNING, S.RUNNING)
    source.close()
    with KernelDevice(source.name) as again:
        assert again.state is S.RUNNING


def test_arcs_and_resets_at_the_same_time_leave_no_descriptor(opened: Opening) -> None:
    device = opened()
    before = count_descriptors()
    over = threading.Event()

    def reset_again_and_again() -> None:
        while not over.is_set():
            device.reset()

    thread = threading.Thread(target=reset_again_and_again)
    thread.start()
    for _ in range(300):
        for step in (S.PRE_COPY, S.PRE_COPY_P2P, S.STOP_COPY, S.STOP, S.RESUMING):
            with suppress(KernelDeviceError):
                device.set_arc(step)
            with suppress(KernelDeviceError):
                device.read(10)
    over.set()
    thread.join(LIMIT)
    device.reset()
    assert device.state is S.RUNNING
    assert count_descriptors() == before
    bring(device, S.STOP_COPY)
    assert device.read(1 << 20)


def test_an_arc_that_stalls_loses_the_device_and_the_process_lives_on(opened: Opening) -> None:
    system = HookedSystem()
    source, destination = opened(system), opened()
    release = threading.Event()
    with pair_of(source, destination, watchdog=Watchdog(give_up_after_s=0.2)) as pair:
        before = count_descriptors()
        system.before = lambda target: release.wait(LIMIT) if target is S.STOP_COPY else None
        try:
            report = failed(pair, check=False)  # the transfer of the lost device is open until that is taken away
            assert report.lost_devices == ("vf0",)
        finally:
            release.set()
    assert source.state is S.RUNNING
    assert count_descriptors() == before


@pytest.mark.parametrize("state", [S.RESUMING, S.STOP_COPY])
def test_a_device_of_a_program_that_died_is_as_new(state: DeviceState, uuids: Callable[[], str]) -> None:
    name = uuids()
    code = (
        "import os; from suite.mtty import S, bring; from vfio_migration.kernel import KernelDevice; "
        f"bring(KernelDevice({name!r}), S({int(state)})); os._exit(9)"
    )
    with_helpers = f"import sys; sys.path.insert(0, 'tests/helpers'); {code}"
    assert subprocess.run([sys.executable, "-c", with_helpers], check=False).returncode == 9
    with KernelDevice(name) as device:
        assert device.state is S.RUNNING
        for step in (S.RUNNING_P2P, S.STOP):  # of which a kernel dies if it was left in RESUMING, and not reset
            device.set_arc(step)
        assert device.state == int(S.STOP)
