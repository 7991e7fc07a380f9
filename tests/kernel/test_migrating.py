"""K3: the same migrations as with mocks, of real devices: states intact, order and overlap as they are recorded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from suite.mtty import HookedSystem, S, got, put

from vfio_migration.kernel import KernelDevice, System
from vfio_migration.testing import PairRig, assert_disjoint, assert_order, assert_overlap
from vmstate import RealClock

Opening = Callable[..., KernelDevice]
CLOCK = RealClock()
CHANGE = "PRE_COPY_P2P -> STOP_COPY"
CHANGES = {
    "source": ("PRE_COPY -> PRE_COPY_P2P", CHANGE),
    "destination": ("STOP -> RUNNING_P2P", "RUNNING_P2P -> RUNNING"),
}


def content_of(number: int) -> bytes:
    return b"content-%04d" % number


@contextmanager
def real_pair(
    opened: Opening,
    count: int,
    system: System | None = None,
    depth: Callable[[int], int] = lambda _: 1,
    **options: object,
) -> Iterator[tuple[PairRig, list[KernelDevice], list[KernelDevice]]]:
    """A pair with so many real devices on either side; those of the source have a content."""
    devices: list[KernelDevice] = []

    def make() -> KernelDevice:
        devices.append(opened(system))
        return devices[-1]

    with PairRig(clock=CLOCK, **options) as pair:  # type: ignore[arg-type]
        for number in range(count):
            pair.add_device(f"vf{number}", backend=make, depth=depth(number))
        for number, device in enumerate(devices[::2]):
            put(device, content_of(number))
        yield pair, devices[::2], devices[1::2]


@pytest.mark.parametrize("count", [1, 4, 8])
@pytest.mark.parametrize("mode", ["serial", "per-change", "parked"])
def test_the_states_arrive_and_go_back(count: int, mode: str, opened: Opening) -> None:
    options = {"parallel": False} if mode == "serial" else {"threads": mode}
    with real_pair(opened, count, **options) as (pair, here, there):
        assert pair.migrate().completed
        assert {device.state for device in here} == {S.STOP}
        assert {device.state for device in there} == {S.RUNNING}
        for device in here:  # so that what comes back has to have come back
            put(device, b"")
        assert pair.migrate(back=True).completed
        assert {device.state for device in there} == {S.STOP}
        assert [got(device) for device in here] == [content_of(number) for number in range(count)]


def test_what_arrives_is_what_was_there(opened: Opening) -> None:
    with real_pair(opened, 4) as (pair, _, there):
        assert pair.migrate().completed
        assert [got(device) for device in there] == [content_of(number) for number in range(4)]


def slow(seconds: float = 0.02) -> HookedSystem:
    return HookedSystem(before=lambda _: CLOCK.sleep(seconds))


@pytest.mark.parametrize("side", CHANGES)
def test_devices_of_one_depth_change_together(side: str, threads: str, opened: Opening) -> None:
    with real_pair(opened, 4, slow(), threads=threads) as (pair, _, _):
        assert pair.migrate().completed
        for arc in CHANGES[side]:
            for number in range(1, 4):
                assert_overlap(pair.recorder, f"vf0: {arc}", f"vf{number}: {arc}", side=side)


@pytest.mark.parametrize("side", CHANGES)
def test_serial_devices_change_one_after_another(side: str, opened: Opening) -> None:
    with real_pair(opened, 4, slow(), parallel=False) as (pair, _, _):
        assert pair.migrate().completed
        for arc in CHANGES[side]:
            for one, other in pairwise(f"vf{number}: {arc}" for number in range(4)):
                assert_disjoint(pair.recorder, one, other, side=side)


def test_depths_change_one_after_another_and_the_passes_too(threads: str, opened: Opening) -> None:
    with real_pair(opened, 4, slow(), depth=lambda number: 1 + number // 2, threads=threads) as (pair, _, _):
        assert pair.migrate().completed
        assert_overlap(pair.recorder, f"vf0: {CHANGE}", f"vf1: {CHANGE}")
        for deep in (2, 3):
            for flat in (0, 1):
                assert_order(pair.recorder, f"vf{deep}: {CHANGE}", f"vf{flat}: {CHANGE}")
                for arc in CHANGES["destination"]:
                    assert_order(pair.recorder, f"vf{flat}: {arc}", f"vf{deep}: {arc}", side="destination")
        assert_order(pair.recorder, f"vf*: {CHANGES['source'][0]}", f"vf*: {CHANGE}", side="source")
