from collections.abc import Sequence
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.machines import ARCS, BARE, FEATURES, NO_P2P, NO_PRECOPY, S

from vfio_migration.device.state_machine import ALL_FLAGS, DeviceState, MigrationFlags
from vfio_migration.plan.switchover import PLAIN, Bounds, PlannedDevice, PlannedHandler, plan_switchover
from vmstate import PassKind

# What the arcs of a switchover take, in seconds; any other one takes so long that it would show.
_SECONDS = {
    (S.PRE_COPY, S.PRE_COPY_P2P): 3,
    (S.PRE_COPY_P2P, S.STOP_COPY): 8,
    (S.PRE_COPY, S.STOP_COPY): 7,
    (S.RUNNING, S.RUNNING_P2P): 1,
    (S.RUNNING_P2P, S.STOP): 10,
    (S.RUNNING, S.STOP): 20,
    (S.STOP, S.STOP_COPY): 12,
    (S.RESUMING, S.STOP): 9,
    (S.STOP, S.RUNNING_P2P): 2,
    (S.STOP, S.RUNNING): 6,
    (S.RUNNING_P2P, S.RUNNING): 4,
}


def device(
    depth: int = 1, flags: MigrationFlags = ALL_FLAGS, *, parallel: bool = True, times: int = 1, name: str = "vf"
) -> PlannedDevice:
    """A device whose state takes 5 s; with all features 3 and 8 s on the source, 11 and 4 on the destination."""

    def arc_s(current: DeviceState, target: DeviceState) -> float:
        return times * _SECONDS.get((current, target), 1_000_000)

    return PlannedDevice(f"{name}{depth}{flags}{times}{parallel}", depth, flags, arc_s, 5, parallel)


def handler(depth: int = 1, stop_s: int = 5, start_s: int = 6, prepare_s: int = 0) -> PlannedHandler:
    return PlannedHandler("disk", depth, stop_s, start_s, prepare_s, prepare_s)


@pytest.mark.parametrize(
    ("devices", "handlers", "bounds"),
    [
        pytest.param([], [], (0, 0, 0), id="nothing"),
        pytest.param([device()], [], (31, 31, 31), id="one device"),
        pytest.param([device(), device(times=2)], [], (10 + 78, 10 + 52, 10 + 52), id="two of one depth"),
        pytest.param([device(1), device(2)], [], (62, 62, 36), id="two depths"),
        pytest.param([device()], [handler()], (42, 33, 33), id="a handler beside the device"),
        pytest.param([device()], [handler(PLAIN)], (42, 42, 33), id="a handler of a plain priority"),
        pytest.param([device()], [handler(2)], (42, 42, 33), id="a handler at another depth"),
        pytest.param([device()], [handler()] * 2, (53, 3 + 10 + 5 + 11 + 12, 41), id="handlers are never parallel"),
        pytest.param(
            [device()], [handler(), handler(2)], (53, 3 + (8 + 5) + 5 + 11 + (6 + 6), 41), id="handlers at two depths"
        ),
        pytest.param([device(parallel=False)], [], (31, 31, 31), id="a serial device"),
        pytest.param(
            [device(), device(parallel=False)], [handler()], (73, 3 + 13 + 10 + 11 + 10, 47), id="serial with handlers"
        ),
        pytest.param(
            [device(parallel=False), device(parallel=False, times=2)], [], (88, 88, 88), id="serial devices only"
        ),
        pytest.param([device(flags=NO_P2P)], [], (7 + 5 + 15,) * 3, id="no P2P"),
        pytest.param([device(flags=NO_PRECOPY)], [], (1 + 10 + 17 + 11 + 4,) * 3, id="no pre-copy"),
        pytest.param([device(flags=BARE)], [], (20 + 17 + 15,) * 3, id="neither"),
        pytest.param(
            [device(flags=NO_P2P)], [handler(prepare_s=2)], (42, 2 + 7 + 5 + 2 + 15, 31), id="prepare handlers"
        ),
        pytest.param([], [handler(PLAIN), handler(2)], (22, 22, 22), id="handlers only"),
    ],
)
def test_bounds_of_small_machines_are_those_computed_by_hand(
    devices: Sequence[PlannedDevice], handlers: Sequence[PlannedHandler], bounds: tuple[int, int, int]
) -> None:
    assert plan_switchover(devices, handlers).bounds == Bounds(*bounds)


def test_passes_go_up_the_tree_on_the_source_and_down_on_the_destination() -> None:
    plan = plan_switchover([device(3), device(1)], [handler(PLAIN), handler(2)])
    assert [(each.side, each.kind, [depth.depth for depth in each.depths]) for each in plan.passes] == [
        (side, kind, [3, 2, 1, PLAIN] if side == "source" else [PLAIN, 1, 2, 3])
        for side, kind in product(("source", "destination"), PassKind)
    ]


_P2P_DESTINATION = ["RESUMING STOP RUNNING_P2P", "RUNNING_P2P RUNNING"]


@pytest.mark.parametrize(
    ("flags", "arcs"),
    [
        (ALL_FLAGS, ["PRE_COPY PRE_COPY_P2P", "PRE_COPY_P2P STOP_COPY", "", *_P2P_DESTINATION]),
        (NO_PRECOPY, ["RUNNING RUNNING_P2P", "RUNNING_P2P STOP", "STOP STOP_COPY", *_P2P_DESTINATION]),
        (NO_P2P, ["", "PRE_COPY STOP_COPY", "", "", "RESUMING STOP RUNNING"]),
        (BARE, ["", "RUNNING STOP", "STOP STOP_COPY", "", "RESUMING STOP RUNNING"]),
    ],
)
def test_each_pass_holds_the_arcs_that_a_device_makes_in_it(flags: MigrationFlags, arcs: list[str]) -> None:
    plan = plan_switchover([device(flags=flags)])
    source, destination = plan.passes[:2], plan.passes[2:]
    steps = [each.depths[0].threads[0] for each in source]
    steps += plan.transfers
    steps += [each.depths[0].threads[0] for each in destination]
    for step, names in zip(steps, arcs, strict=True):
        assert step.arcs == tuple(pairwise(DeviceState[name] for name in names.split()))


times = st.integers(0, 1000)
devices_at = st.builds(
    lambda number, depth, flags, seconds, transfer, parallel: PlannedDevice(
        f"vf{number}", depth, flags, lambda a, b: seconds[a * 8 + b], transfer, parallel
    ),
    st.integers(0, 10**9),
    st.integers(0, 3),
    st.sampled_from(FEATURES),
    st.lists(times, min_size=64, max_size=64),
    times,
    st.booleans(),
)
handlers_at = st.builds(PlannedHandler, st.just("h"), st.integers(PLAIN, 3), times, times, times, times)


@given(st.lists(devices_at, max_size=6, unique_by=lambda each: each.id), st.lists(handlers_at, max_size=6))
def test_ideal_is_at_most_mechanism_is_at_most_serial(
    devices: list[PlannedDevice], handlers: list[PlannedHandler]
) -> None:
    plan = plan_switchover(devices, handlers)
    bounds = plan.bounds
    assert 0 <= plan.transfer_s <= bounds.ideal_s <= bounds.mechanism_s <= bounds.serial_s
    for each in plan.passes:
        assert each.ideal_s <= each.mechanism_s <= each.serial_s
    if not any(each.parallel for each in devices):
        assert bounds.mechanism_s == bounds.serial_s
    if len({each.depth for each in devices} | {each.depth for each in handlers}) <= 1:
        assert bounds.ideal_s == bounds.mechanism_s


def test_the_arcs_of_the_bounds_are_arcs_of_the_kernel() -> None:
    plan = plan_switchover([device()])
    steps = [step for each in plan.passes for step in each.depths[0].threads]
    assert {arc for step in steps for arc in step.arcs} < ARCS
