from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite.chunk_by_chunk import Dev, World
from suite.machines import NO_PRECOPY, S

from vfio_migration.device.state_machine import ALL_FLAGS, DeviceState
from vfio_migration.live.parameters import Link, MigrationParameters, Phases
from vfio_migration.plan.blackout import blackout_parts
from vfio_migration.plan.migration import MigrationPlan, plan_migration
from vfio_migration.plan.planned_state import PlannedState
from vfio_migration.plan.surroundings import PlannedRam, Surroundings
from vfio_migration.plan.switchover import PlannedDevice, plan_switchover

GB = 10**9
MS = 1e-3
NS = 1e-9
# What is not worked out by hand agrees with what is worked out chunk by chunk, to so much.
AGREES = 2e-6

Latency = dict[tuple[DeviceState, DeviceState], float]


def device(
    state: PlannedState | None = None, latency: Latency | None = None, *, precopy: bool = False, name: str = "vf0"
) -> PlannedDevice:
    """A device without pre-copy, unless asked for."""
    state = state or PlannedState()
    latency = latency or {}
    read_s = 0.0 if state.rate is None else state.size / state.rate
    flags = ALL_FLAGS if precopy else NO_PRECOPY
    return PlannedDevice(name, 1, flags, lambda a, b: latency.get((a, b), 0.0), read_s, True, state)


def plan(
    devices: Sequence[PlannedDevice] = (),
    *,
    ram: PlannedRam | None = None,
    link: Link | None = None,
    phases: Phases | None = None,
    **parameters: float,
) -> MigrationPlan:
    surroundings = Surroundings(ram, link, MigrationParameters(**parameters))  # type: ignore[arg-type]
    return plan_migration(plan_switchover(devices, [], phases or Phases()), devices, surroundings)


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=AGREES, rel=0)


# Worked out by hand.


def test_1_gb_dirtied_at_50_mb_leaves_what_the_limit_lets_it_leave() -> None:
    """
    Eight iterations of 100 MB leave 200 MB, and 0.8 s at 50 MB/s have dirtied 40 MB: 240 MB fit into 300 MB.

    With 10 ms nothing fits before all is sent: after 1 s, 50 MB are dirty; 50 ms later 2.5 MB, which fit 10 MB.
    """
    ram, link = PlannedRam(GB, 50e6), Link(1e9)
    found = plan(ram=ram, link=link)
    assert (found.precopy.decided_ns, found.precopy.ram_left) == (800_000_000, 240_000_000)
    assert 0.15 <= found.transfer_s <= 0.31
    assert plan(ram=ram, link=link, downtime_limit_s=0.010).transfer_s == about(0.0025)


def test_the_first_estimate_that_fits_is_not_yet_the_exact_one() -> None:
    """After 0.7 s 300 MB are known and fit exactly; those with the 35 MB dirtied meanwhile do not."""
    found = plan(ram=PlannedRam(GB, 50e6), link=Link(1e9))
    assert found.precopy.passes == 3
    assert found.precopy.iterations == 8


def test_a_guest_that_dirties_faster_than_the_link_sends_never_switches_over() -> None:
    found = plan(ram=PlannedRam(GB, 2e9), link=Link(1e9))
    assert "the guest dirties 2,000,000,000 bytes per second and the link sends 1,000,000,000" in found.never
    assert found.bounds.mechanism_s == found.transfer_s == float("inf")
    assert blackout_parts(found) == ()
    assert not plan(ram=PlannedRam(GB, 2e9), link=Link(1e9), downtime_limit_s=1.1).never


def test_devices_with_more_state_than_the_limit_allows_never_switch_over() -> None:
    found = plan([device(PlannedState(400_000_000))], ram=PlannedRam(GB), link=Link(1e9))
    assert "the devices have 400,000,000 bytes to send once they are stopped" in found.never
    assert not plan([device(PlannedState(300_000_000))], ram=PlannedRam(GB), link=Link(1e9)).never


def test_where_nothing_is_sent_before_the_stop_no_bandwidth_is_known() -> None:
    alone = [device(PlannedState(1000))]
    assert "give switchover_bandwidth" in plan(alone, link=Link(1e9)).never
    assert plan(alone, link=Link(1e9), switchover_bandwidth=1e9).transfer_s == about(1e-6)


def test_a_throttle_counts_before_the_switchover_and_not_in_it() -> None:
    """100 MB/s: the 30 MB that fit are what is left after 1 s, of which 100 ms are a whole iteration of 10 MB."""
    found = plan(ram=PlannedRam(130_000_000), link=Link(1e9), max_bandwidth=1e8)
    assert found.precopy.decided_ns == 1_000_000_000
    assert found.precopy.measured == 1e8
    assert found.precopy.ram_left == 30_000_000
    assert found.transfer_s == about(0.030)


def test_four_devices_of_a_tenth_of_a_second_each_transfer_in_four() -> None:
    devices = [device(PlannedState(10**8, 1e9), name=f"vf{number}") for number in range(4)]
    assert plan(devices).transfer_s == about(0.4)


def test_what_is_read_waits_for_the_link_and_the_link_for_what_is_read() -> None:
    """Four times 100 MB are read in 0.1 s each and sent in 0.05 s each: 0.6 s; in one thread nothing overlaps."""
    devices = [device(PlannedState(10**8, 1e9), name=f"vf{number}") for number in range(4)]
    found = plan(devices, link=Link(2e9), switchover_bandwidth=1e12)
    assert found.transfer_s == about(0.6)
    assert [step.seconds for step in found.transfers] == [about(0.15)] * 4


def test_a_slow_write_is_loaded_after_the_last_byte() -> None:
    """
    100 chunks of 1 MiB, each read in 1 ms, sent in 2 ms, written in 5 ms; the latency is 10 ms.

    The first arrives after 3 + 10 ms and from then on the destination is busy: 13 + 500 ms; the source is done at 300.
    """
    mib = 1024 * 1024
    state = PlannedState(100 * mib, mib / MS, write_rate=mib / (5 * MS), config_load_s=0.007)
    found = plan([device(state)], link=Link(mib / (2 * MS), 10 * MS), switchover_bandwidth=1e12)
    assert found.transfer_s == about(0.300)
    assert found.destination_start_s == about(0.213 + 0.007)


def test_a_write_that_keeps_up_costs_its_last_chunk() -> None:
    """Each chunk is written in 1 ms and comes every 3 ms: the last is there at 300 + 10, and loaded 1 ms later."""
    mib = 1024 * 1024
    state = PlannedState(100 * mib, mib / MS, write_rate=mib / MS)
    found = plan([device(state)], link=Link(mib / (2 * MS), 10 * MS), switchover_bandwidth=1e12)
    assert found.destination_start_s == about(0.011)


def test_what_pre_copy_sent_may_still_have_to_be_loaded_in_the_blackout() -> None:
    """1 GB is sent in 1 s, and written in 2 s; the switchover comes at once, with nothing left, and waits for it."""
    state = PlannedState(0, None, precopy_size=GB, write_rate=5e8)
    found = plan([device(state, precopy=True)], link=Link(1e9), downtime_limit_s=0)
    assert found.precopy.decided_ns == about(GB)
    assert found.transfer_s == 0
    # The first chunk arrives after 1.05 ms, and 2 s of writing begin.
    assert found.destination_start_s == pytest.approx(1.0 + 1024**2 / GB, abs=AGREES)
    slow = plan([device(state, precopy=True)], link=Link(1e9), downtime_limit_s=0, phases=Phases(pause_vcpus_s=0.9))
    assert slow.destination_start_s == pytest.approx(0.1 + 1024**2 / GB, abs=AGREES)


def test_the_source_is_not_stopped_before_the_destination_can_receive() -> None:
    """
    Its devices go to RESUMING in turn, 3 s each; memory of 1 GB is sent after 1 s, and dirtied at 10 MB/s meanwhile.

    After 0.9 s 100 MB are left, and fit, but not with the 9 MB dirtied by then; after 1 s it is 10 MB, which fit, and
    wait; 5 s later there are 50 MB more, which still fit.
    """
    latency = {(S.STOP, S.RESUMING): 3.0}
    devices = [device(None, latency, name=f"vf{number}") for number in range(2)]
    found = plan(devices, ram=PlannedRam(GB, 10e6), link=Link(1e9), downtime_limit_s=0.1)
    assert found.precopy.decided_ns == 6_000_000_000
    assert found.precopy.ram_left == 60_000_000
    assert found.precopy.passes == 4


def test_the_set_up_of_the_source_comes_first_and_takes_one_after_another() -> None:
    latency = {(S.RUNNING, S.PRE_COPY): 0.5}
    devices = [device(None, latency, precopy=True, name=f"vf{number}") for number in range(2)]
    found = plan(devices)
    assert (found.precopy.setup_ns, found.precopy.decided_ns) == (10**9, 10**9)


def test_an_arc_of_a_device_without_pre_copy_is_part_of_the_transfer_with_a_link_too() -> None:
    latency = {(S.STOP, S.STOP_COPY): 0.020}
    found = plan([device(PlannedState(10**8), latency)], link=Link(1e9), switchover_bandwidth=1e12)
    assert found.transfer_s == about(0.120)


def test_every_phase_is_in_the_part_that_it_belongs_to() -> None:
    phases = Phases(
        pause_vcpus_s=0.001,
        flush_block_s=0.002,
        final_query_s=0.004,
        other_state_s=0.008,
        load_state_s=0.016,
        activate_block_s=0.032,
    )
    for link in (None, Link(1e9, 0.064)):
        found = plan([device(PlannedState(10**8))], link=link, phases=phases, switchover_bandwidth=1e12)
        sent = 0.0 if link is None else 0.1
        assert found.source_stop_s == about(0.003)
        assert found.transfer_s == about(0.012 + sent)
        assert found.destination_start_s == about(0.048 + (0.064 if link else 0))


def test_launches_and_joins_are_made_in_turn() -> None:
    """
    Stopping, main: three threads of 10, 20 and 100 ms, launched last registered first, 5 ms apart.

    The first, of 100 ms, is launched at 5 and ends at 105; joined at 107; then two joins more, of 2 ms each: 111.
    Starting, main: launched first registered first, the one of 100 ms last, at 15: it ends at 115, and is joined last.
    """
    phases = Phases(launch_s=0.005, join_s=0.002)
    devices = [
        device(None, {(S.RUNNING_P2P, S.STOP): seconds, (S.RUNNING_P2P, S.RUNNING): seconds}, name=f"vf{number}")
        for number, seconds in enumerate((0.010, 0.020, 0.100))
    ]
    idle = 3 * 0.005 + 3 * 0.002  # prepare
    found = plan(devices, phases=phases)
    assert found.source_stop_s == about(idle + 0.111)
    assert found.destination_start_s == about(idle + 0.117)
    serial = [replace(each, parallel=False) for each in devices]
    assert plan(serial, phases=phases).bounds.mechanism_s == about(0.260)


# Against the same, chunk by chunk.

rates = st.one_of(st.none(), st.floats(1e6, 1e11))
states = st.builds(
    PlannedState,
    st.integers(0, 40_000_000),
    rates,
    st.integers(0, 20_000_000),
    st.lists(st.integers(0, 10_000_000), max_size=2).map(tuple),
    rates,
)
links = st.builds(Link, st.floats(1e7, 1e11), st.sampled_from([0.0, 0.0005, 0.03]))
limits = st.builds(
    MigrationParameters,
    downtime_limit_s=st.sampled_from([0.0, 0.01, 0.3, 5.0]),
    max_bandwidth=st.one_of(st.none(), st.floats(1e7, 1e10)),
    switchover_bandwidth=st.one_of(st.none(), st.floats(1e6, 1e11)),
)
rams = st.builds(PlannedRam, st.integers(0, 10**9), st.sampled_from([0.0, 1e3, 1e6, 5e7]))


@settings(max_examples=300)
@given(st.lists(st.tuples(states, st.booleans()), max_size=3), rams, links, limits, st.sampled_from([0.0, 0.2]))
def test_it_is_the_same_as_chunk_by_chunk(
    drawn: list[tuple[PlannedState, bool]], ram: PlannedRam, link: Link, parameters: MigrationParameters, stop: float
) -> None:
    arcs = {(S.RUNNING, S.PRE_COPY): 0.01, (S.STOP, S.RESUMING): 0.05, (S.STOP, S.STOP_COPY): 0.003}
    devices = [
        device(state, arcs, precopy=precopy, name=f"vf{number}") for number, (state, precopy) in enumerate(drawn)
    ]
    phases = Phases(pause_vcpus_s=stop, final_query_s=0.001, other_state_s=0.002)
    found = plan_migration(plan_switchover(devices, [], phases), devices, Surroundings(ram, link, parameters))
    setup = sum(10_000_000 for _, precopy in drawn if precopy)
    world = World(
        [
            Dev(
                state.size,
                state.rate,
                state.write_rate,
                state.precopy_runs if precopy else (),
                0 if precopy else 3_000_000,
            )
            for state, precopy in drawn
        ],
        ram.size,
        ram.dirty_rate,
        link,
        parameters,
        now=setup,
        began=setup,
        ready=50_000_000 * len(drawn) + 2 * round(link.latency_s * 1e9),
        done=50_000_000 * len(drawn) + round(link.latency_s * 1e9),
    )
    iterations = found.precopy.iterations
    decided = world.precopy(most=min(iterations + (not found.never), 5_000))
    assert decided == (not found.never) or iterations > 5_000
    if decided:
        assert found.precopy.decided_ns == pytest.approx(world.now, abs=2000)
        assert found.precopy.passes == world.passes
        transfer, late = world.switchover(round(stop * 1e9), 1_000_000, 2_000_000)
        assert found.transfer_s == about(transfer * NS)
        assert found.behind_s == about(late * NS)


@settings(max_examples=100)
@given(rams, links, st.lists(st.floats(0.001, 10), min_size=2, max_size=2))
def test_a_larger_limit_never_decides_later(ram: PlannedRam, link: Link, drawn: list[float]) -> None:
    small, large = (plan(ram=ram, link=link, downtime_limit_s=each) for each in sorted(drawn))
    assert bool(large.never) <= bool(small.never)
    if not small.never:
        assert large.precopy.decided_ns <= small.precopy.decided_ns
        assert small.transfer_s <= min(drawn) * (1 + 1e-6)


@settings(max_examples=100)
@given(st.lists(states, max_size=3), links)
def test_the_parts_of_the_blackout_add_up_to_the_switchover(drawn: list[PlannedState], link: Link) -> None:
    phases = Phases(pause_vcpus_s=0.001, final_query_s=0.002, other_state_s=0.004, activate_block_s=0.008, join_s=0.1)
    devices = [device(replace(each, config_load_s=0.01), name=f"vf{number}") for number, each in enumerate(drawn)]
    found = plan(devices, link=link, phases=phases, switchover_bandwidth=1e15, ram=PlannedRam(10**6))
    parts = blackout_parts(found)
    assert sum(each.seconds for each in parts) == about(found.bounds.mechanism_s)
    for part in ("source_stop_s", "transfer_s", "destination_start_s"):
        assert sum(each.seconds for each in parts if each.part == part) == about(getattr(found, part))
    bounds = found.bounds
    assert bounds.ideal_s <= bounds.mechanism_s


def test_a_long_pass_is_planned_at_once() -> None:
    """9 EB at 100 GB/s take 90 million seconds, which nobody wants to step through."""
    found = plan(ram=PlannedRam(9 * 10**18), link=Link(1e11))
    assert found.precopy.iterations == 899_999_997
    assert found.precopy.ram_left == 30_000_000_000
    assert found.transfer_s == about(0.3)
