"""What two threads may do to a migration at once, in many schedules: nothing is lost, nothing is done twice."""

from collections.abc import Callable
from types import ModuleType

import pytest

import vfio_migration.live.migration
import vfio_migration.live.ram
import vfio_migration.live.sending
import vfio_migration.live.steered
from vfio_migration import Link, Migration, MigrationParameters, Ram
from vfio_migration.errors import MigrationRefusedError
from vfio_migration.testing import PairRig
from vmstate import VirtualClock
from vmstate.exploring import explore

Test = Callable[[VirtualClock], None]


def steered_twice(clock: VirtualClock) -> None:
    """Two change parameters, each another one."""
    with PairRig(clock=clock) as pair:
        pair.add_device("vf0", latency=0.01, state_size=64)
        migration = Migration(pair.source.machine, pair.destination.machine)
        one = clock.start_thread(lambda: migration.set_parameters(downtime_limit_s=0.5), "one")
        other = clock.start_thread(lambda: migration.set_parameters(max_bandwidth=1e9), "other")
        migration.start()
        for thread in (one, other):
            clock.join(thread)
        assert migration.parameters.downtime_limit_s == 0.5
        assert migration.parameters.max_bandwidth == 1e9
        assert migration.wait().completed


def started_twice(clock: VirtualClock) -> None:
    """Two start the same migration: one of them does."""
    with PairRig(clock=clock) as pair:
        pair.add_device("vf0", latency=0.01, state_size=64)
        migration = Migration(pair.source.machine, pair.destination.machine)
        refused: list[MigrationRefusedError] = []

        def start() -> None:
            try:
                migration.start()
            except MigrationRefusedError as error:
                refused.append(error)

        threads = [clock.start_thread(start, name) for name in ("one", "other")]
        for thread in threads:
            clock.join(thread)
        assert migration.wait().completed
        assert ["started once" in str(error) for error in refused] == [True]


def stopped_in_precopy(clock: VirtualClock) -> None:
    """A guest that dirties its memory is stopped, and started, while pre-copy asks how much that is."""
    with PairRig(clock=clock) as pair:
        pair.add_device("vf0", latency=0.001, state_size=64)
        rams = [Ram(rig.machine, 1_000_000, dirty_rate=2e6) for rig in (pair.source, pair.destination)]
        migration = Migration(
            pair.source.machine,
            pair.destination.machine,
            link=Link(10e6),
            parameters=MigrationParameters(downtime_limit_s=0.01),
        )

        def stop_and_start() -> None:
            clock.sleep(0.05)
            pair.source.machine.stop()
            clock.sleep(0.02)
            pair.source.machine.start()

        thread = clock.start_thread(stop_and_start, "stop and start")
        migration.start()
        report = migration.wait()
        clock.join(thread)
        assert report.status in ("completed", "failed"), report.error
        assert "device" in str(report.error or "device"), report.error  # that vf0 was stopped in pre-copy, or nothing
        assert all(0 <= ram.pending() <= ram.size for ram in rams)


TESTS: dict[Test, tuple[ModuleType, ...]] = {
    steered_twice: (vfio_migration.live.sending,),
    started_twice: (vfio_migration.live.migration, vfio_migration.live.steered),
    stopped_in_precopy: (vfio_migration.live.ram,),
}


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__)
@pytest.mark.parametrize("policy", ["pct", pytest.param("random", marks=pytest.mark.slow)])
def test_between_any_two_lines(test: Test, policy: str) -> None:
    schedules = 10 if policy == "pct" else 150
    explore(test, policy=policy, timing="any", schedules=schedules, preempt=TESTS[test]).check()
