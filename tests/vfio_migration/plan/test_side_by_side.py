"""B5 as a plan: devices side by side, with figures worked out by hand."""

import pytest

from vfio_migration.device.backend import CHUNK
from vfio_migration.live.parameters import Link, MigrationParameters
from vfio_migration.plan.planned_saving import PlannedSaving
from vfio_migration.plan.planned_state import PlannedState
from vfio_migration.plan.side_by_side import SideBySidePlan, plan_alone, plan_side_by_side
from vfio_migration.plan.surroundings import Surroundings

MS = 1_000_000
MIB_A_MS = CHUNK * 1000.0  # bytes per second
LONG_AGO = -(10**18)


def plan(
    *savings: PlannedSaving, link: Link | None = None, channels: int = 8, ram: int = 0, pieces: int = 2**18
) -> SideBySidePlan:
    around = Surroundings(None, link, MigrationParameters(multifd_channels=channels))
    return plan_side_by_side(savings, ram, around, 0, 0, most_pieces=pieces)


def saving(
    chunks: int, *, read: float | None = None, write: float | None = None, arcs: int = 0, config: float = 0.0
) -> PlannedSaving:
    return PlannedSaving(PlannedState(chunks * CHUNK, read, 0, (), write, config), arcs, in_thread=True)


def test_without_a_link_each_is_by_itself() -> None:
    found = plan(saving(100, read=MIB_A_MS), saving(50, read=MIB_A_MS, arcs=20 * MS))
    assert found.devices == (100 * MS, 70 * MS)
    assert found.sending == 100 * MS


def test_what_all_send_takes_what_the_link_takes_behind_the_first_chunk() -> None:
    found = plan(*[saving(10, read=MIB_A_MS)] * 4, link=Link(MIB_A_MS))
    assert found.sending == 41 * MS


def test_one_channel_makes_others_wait_but_not_the_link() -> None:
    """Read and sent in a millisecond each: with one channel a device reads while the other sends."""
    found = plan(saving(10, read=MIB_A_MS), saving(10, read=MIB_A_MS), link=Link(MIB_A_MS), channels=1)
    assert found.sending == 21 * MS


def test_memory_takes_turns_with_devices_and_with_one_channel_no_less() -> None:
    for channels in (1, 4):
        found = plan(*[saving(10)] * 4, link=Link(MIB_A_MS), ram=10 * CHUNK, channels=channels)
        assert found.sending == 50 * MS
        # Behind one chunk of each device in turn; with one channel, behind one chunk of one.
        assert found.ram_ns == {4: 46, 1: 19}[channels] * MS


def test_one_in_turn_is_beside_those_in_threads() -> None:
    alone = PlannedSaving(PlannedState(30 * CHUNK, MIB_A_MS))
    found = plan(saving(20, read=MIB_A_MS), alone, saving(10, read=MIB_A_MS))
    assert found.devices == (20 * MS, 30 * MS, 10 * MS)
    assert found.sending == 30 * MS


def test_loading_is_side_by_side_and_configurations_are_in_turn() -> None:
    """All is there at once; the first is loaded after 10 ms, the second after 30: its configuration comes behind."""
    found = plan(saving(10, write=MIB_A_MS, config=0.025), saving(30, write=MIB_A_MS, config=0.004))
    assert found.sending == 0
    assert found.behind_ns(LONG_AGO) == 30 * MS
    assert found.config_ns(LONG_AGO) == 9 * MS  # 10 + 25, then 4
    # What came before is loaded after 100 ms only, and then both begin.
    assert found.behind_ns(100 * MS) == 130 * MS
    assert found.config_ns(100 * MS) == 9 * MS


def test_in_larger_pieces_it_is_the_same_to_one_of_them() -> None:
    savings = [saving(64, read=MIB_A_MS)] * 4
    exact, coarse = (plan(*savings, link=Link(MIB_A_MS), pieces=pieces).sending for pieces in (2**18, 64))
    assert exact == 257 * MS
    assert exact < coarse <= exact + 4 * MS


def test_nothing_to_send_is_nothing_to_wait_for() -> None:
    found = plan(saving(0), link=Link(1.0), channels=1)
    assert (found.sending, found.behind_ns(LONG_AGO), found.config_ns(LONG_AGO)) == (0, 0, 0)
    assert plan().sending == 0


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_more_channels_are_never_slower_where_all_are_alike(channels: int) -> None:
    savings = [saving(5, read=MIB_A_MS / 3, arcs=2 * MS)] * 5
    few, more = (plan(*savings, link=Link(MIB_A_MS), channels=count).sending for count in (channels, channels + 1))
    assert more <= few


@pytest.mark.parametrize("link", [None, Link(MIB_A_MS), Link(MIB_A_MS * 3, 0.001)])
@pytest.mark.parametrize("write", [None, MIB_A_MS / 2, MIB_A_MS * 7])
def test_one_alone_is_the_same_without_going_through_it(link: Link | None, write: float | None) -> None:
    one = saving(25, read=MIB_A_MS * 2, write=write, arcs=MS, config=0.003)
    around = Surroundings(None, link, MigrationParameters(multifd_channels=1))
    sending, loader = plan_alone(one, around, 0)
    whole = plan(one, link=link)
    assert sending == pytest.approx(whole.sending, abs=25)
    assert (loader.loading, loader.config) == (whole.loaders[0].loading, whole.loaders[0].config)
    assert loader.following == pytest.approx(whole.loaders[0].following, abs=25)
