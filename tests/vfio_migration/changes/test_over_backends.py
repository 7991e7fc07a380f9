"""K3: handlers, brackets, launchers and migrations do not know what stands behind a device: mock, process or kernel."""

import errno
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from suite.fake_kernel import kernel_with
from suite.machines import LIMIT

from vfio_migration import DeviceBackend, DeviceState, MigrationFlags, MockDevice, VFIODevice, VFIOMigration, migrate
from vfio_migration.kernel import KernelDevice
from vfio_migration.testing import assert_disjoint, assert_order, assert_overlap, check_backend
from vmstate import Bus, Clock, Device, Machine, Recorder, RunState, add_device_handler

S = DeviceState
EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
COUNT = 3
Make = Callable[[int], Sequence[DeviceBackend]]


class Watched:
    """Calls `before` for each arc of the device behind it."""

    def __init__(self, backend: DeviceBackend, before: Callable[[DeviceState], object] = lambda _: None) -> None:
        self.backend = backend
        self.before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    flags = property(lambda self: self.backend.flags)
    state = property(lambda self: self.backend.state)

    def set_arc(self, target: DeviceState) -> None:
        self.before(target)
        self.backend.set_arc(target)

    def bind(self, clock: Clock) -> None:
        self.backend.bind(clock)

    def unbind(self) -> None:
        self.backend.unbind()

    def pending(self) -> int:
        return self.backend.pending()

    def read(self, size: int) -> bytes:
        return self.backend.read(size)

    def write(self, data: bytes) -> None:
        self.backend.write(data)

    def reset(self) -> None:
        self.backend.reset()


@pytest.fixture(params=["mock", pytest.param("process", marks=pytest.mark.slow), "kernel by group", "kernel by node"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make so many devices of a kind; all are closed at the end, and nothing is left of them."""
    kind: str = request.param
    with ExitStack() as made:

        def make(count: int) -> Sequence[DeviceBackend]:
            if kind == "mock":
                return [MockDevice(contents="bytes", state_size=1000, seed=seed) for seed in range(count)]
            if kind == "process":
                monkeypatch.syspath_prepend(EXAMPLES)
                socket_device = __import__("socket_device")
                made.callback(sys.modules.pop, "socket_device", None)
                devices = [socket_device.SocketDevice(bytes([seed]) * 1000) for seed in range(count)]
            else:
                kernel = kernel_with(count, cdev="node" in kind)
                made.callback(lambda: check_closed(kernel.open_descriptors))
                devices = [KernelDevice(each.name, system=kernel) for each in kernel.devices]
            for each in devices:
                made.callback(each.close)
            return devices

        yield make


def check_closed(descriptors: dict[int, object]) -> None:
    assert descriptors == {}


class Pair:
    """Source and destination with devices, an ordinary handler beside them, and a recorder of both."""

    def __init__(self, devices: Sequence[DeviceBackend], threads: str, *, parallel: bool) -> None:
        count = len(devices) // 2
        self.recorder = Recorder()
        self.source = Machine("source", trace=self.recorder)
        self.destination = Machine("destination", trace=self.recorder)
        self.watched = [Watched(each) for each in devices]
        for machine, backends in ((self.source, self.watched[:count]), (self.destination, self.watched[count:])):
            bus = Bus("main-system-bus")
            add_device_handler(machine.handlers, Device("disk", bus, "disk"), lambda *_: None)
            for number, backend in enumerate(backends):
                device = VFIODevice(Device(f"vf{number}", bus, "vfio-pci"), backend, migration_parallel_states=parallel)
                VFIOMigration(machine, device, threads=threads)
        self.source.start()

    def close(self) -> None:
        for machine in (self.source, self.destination):
            for each in list(machine.migratables):
                if isinstance(each, VFIOMigration):
                    each.close()


@pytest.fixture
def pair_of(make: Make) -> Iterator[Callable[..., Pair]]:
    with ExitStack() as pairs:

        def build(count: int, threads: str, *, parallel: bool = True) -> Pair:
            pair = Pair(make(2 * count), threads, parallel=parallel)
            pairs.callback(pair.close)
            return pair

        yield build


def test_it_is_a_backend(make: Make) -> None:
    check_backend(lambda: make(1)[0])


def test_changes_in_threads_go_on_at_the_same_time_around_the_other_handlers(
    pair_of: Callable[..., Pair], threads: str
) -> None:
    pair = pair_of(COUNT, threads)
    met = {target: threading.Barrier(COUNT, timeout=LIMIT) for target in (S.STOP, S.STOP_COPY, S.RUNNING)}

    def meet(target: DeviceState, left: dict[DeviceState, int]) -> None:
        """Wait in the arc of the switchover until all devices of that side are in it; other changes are serial."""
        if left.get(target, 0):
            left[target] -= 1
            met[target].wait()

    precopy = MigrationFlags.PRE_COPY in pair.watched[0].backend.flags
    for side, targets in (
        (pair.watched[:COUNT], [S.STOP_COPY if precopy else S.STOP]),
        (pair.watched[COUNT:], [S.RUNNING]),
    ):
        for each in side:
            left = dict.fromkeys(targets, 1)
            each.before = lambda target, left=left: meet(target, left)  # type: ignore[misc]
    report = migrate(pair.source, pair.destination)
    assert report.completed, report.error
    assert pair.destination.run_state is RunState.RUNNING
    for machine, arc in (("source", "* -> STOP_COPY" if precopy else "* -> STOP"), ("destination", "* -> RUNNING")):
        for one, other in (("vf0", "vf1"), ("vf1", "vf2")):
            assert_overlap(pair.recorder, f"{one}: {arc}", f"{other}: {arc}", machine=machine)


def test_serial_changes_are_one_after_another(pair_of: Callable[..., Pair], threads: str) -> None:
    pair = pair_of(COUNT, threads, parallel=False)
    report = migrate(pair.source, pair.destination)
    assert report.completed, report.error
    for machine, arc in (("source", "* -> STOP*"), ("destination", "* -> RUNNING")):
        for one, other in (("vf0", "vf1"), ("vf1", "vf2"), ("vf0", "vf2")):
            assert_disjoint(pair.recorder, f"{one}: {arc}", f"{other}: {arc}", machine=machine)
    assert_order(pair.recorder, "vf0: * -> RUNNING", "vf1: * -> RUNNING", "vf2: * -> RUNNING", machine="destination")


def test_an_arc_that_fails_leaves_the_source_running_and_nothing_half_loaded(
    pair_of: Callable[..., Pair], threads: str
) -> None:
    pair = pair_of(2, threads)

    def fail(target: DeviceState) -> None:
        if target is S.RUNNING:
            raise OSError(errno.EIO, "on purpose")

    pair.watched[3].before = fail
    report = migrate(pair.source, pair.destination)
    assert report.status == "failed"
    assert pair.source.run_state is RunState.RUNNING
    assert [each.backend.state for each in pair.watched[:2]] == [S.RUNNING, S.RUNNING]
    pair.watched[3].before = lambda _: None
    again = migrate(pair.source, pair.destination)
    assert again.completed, again.error
