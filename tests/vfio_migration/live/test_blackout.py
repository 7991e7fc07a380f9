"""B1 to B3, B6: memory, the link, the decision to switch over and loading, with figures worked out by hand."""

from typing import Any

import pytest
from suite.machines import for_the_test

from vfio_migration import Link, Migration, MigrationParameters, MigrationReport, MigrationStatus, Ram
from vfio_migration.testing import PairRig
from vmstate import RealClock, RunState

MB = 1_000_000
MIB = 1 << 20


def pair_with(ram: int = 0, dirty_rate: float = 0.0) -> PairRig:
    pair = for_the_test(PairRig())
    if ram:
        Ram(pair.source.machine, ram, dirty_rate=dirty_rate)
        Ram(pair.destination.machine, ram)
    return pair


def passes(pair: PairRig) -> int:
    return [event.name for event in pair.source.announced].count("MIGRATION_PASS")


def migrate(pair: PairRig, bandwidth: float = 1e9, **options: Any) -> MigrationReport:
    parameters = MigrationParameters(**{key: options.pop(key) for key in list(options) if key in PARAMETERS})
    return pair.migrate(link=Link(bandwidth), parameters=parameters, **options)


PARAMETERS = ("downtime_limit_s", "max_bandwidth", "switchover_bandwidth")


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=2e-6, rel=0)


def test_what_is_dirtied_is_known_when_it_is_asked_for_and_the_switchover_comes_in_the_middle_of_a_pass() -> None:
    pair = pair_with(1000 * MB, 50e6)
    report = migrate(pair)
    # Seven iterations of 100 ms leave 300 MB that are known, and 35 more in truth; one more leaves 235 and 5.
    assert report.completed
    assert passes(pair) == 2
    assert report.transfer_s == about(0.240)
    assert report.downtime_s == about(0.240)
    assert report.blackout_s == about(0.240)
    assert report.total_s == about(0.8 + 0.240)


def test_with_a_limit_of_10_ms_at_most_11_are_left() -> None:
    report = migrate(pair_with(1000 * MB, 50e6), downtime_limit_s=0.010)
    # After the whole pass of 1 s there are 50 MB, after these 2.5.
    assert report.transfer_s == about(0.0025)


@pytest.mark.slow
def test_a_guest_that_dirties_faster_than_the_link_sends_never_gets_there_until_it_is_cancelled() -> None:
    pair = pair_with(1000 * MB, 2e9)
    with pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine, link=Link(1e9))
        migration.start()
        pair.clock.sleep(3600)
        assert migration.status is MigrationStatus.ACTIVE
        assert migration.cancel()
        report = migration.wait()
    assert report.status is MigrationStatus.CANCELLED
    assert report.source_state is RunState.RUNNING


def test_or_until_the_limit_is_raised() -> None:
    pair = pair_with(1000 * MB, 2e9)
    with pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine, link=Link(1e9))
        migration.start()
        pair.clock.sleep(60)
        migration.set_parameters(downtime_limit_s=1.0)
        report = migration.wait()
        assert migration.parameters.downtime_limit_s == 1.0
    assert report.completed
    assert report.transfer_s == about(1.0)  # dirty memory is at most all of it


def test_a_parameter_that_there_is_not_is_refused() -> None:
    pair = pair_with()
    with pytest.raises(ValueError, match="'speed'"):
        Migration(pair.source.machine, pair.destination.machine).set_parameters(speed=1)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"downtime_limit_s": -1}, "downtime_limit_s"),
        ({"max_bandwidth": 0}, "max_bandwidth"),
        ({"switchover_bandwidth": float("inf")}, "switchover_bandwidth"),
        ({"multifd_channels": 1000}, "multifd_channels"),
        ({"switchover_ack": True}, "return_path"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        MigrationParameters(**values)
    with pytest.raises(ValueError, match="bandwidth"):
        Link(0)
    with pytest.raises(ValueError, match="latency_s"):
        Link(None, latency_s=-1)


def test_the_throttle_counts_until_the_switchover_is_decided_and_in_what_is_measured() -> None:
    pair = pair_with(100 * MB)
    report = migrate(pair, max_bandwidth=100e6, downtime_limit_s=0.3)
    # Three windows of 100 ms at 100 MB/s, then 30 MB... the threshold: 0.3 s x 100 MB/s.
    assert report.total_s == about(0.7 + 0.030)
    assert report.transfer_s == about(0.030)  # 30 MB at 1 GB/s


def test_a_bandwidth_that_is_given_takes_the_place_of_what_was_measured() -> None:
    report = migrate(pair_with(1000 * MB), switchover_bandwidth=4e9)
    assert report.total_s == about(1.0)  # 1.2 GB fit: nothing is sent before the stop
    assert report.transfer_s == about(1.0)


def test_before_the_first_window_only_nothing_fits() -> None:
    report = migrate(pair_with(50 * MB))
    assert report.transfer_s == 0
    assert report.total_s == about(0.050)


def test_devices_count_with_what_they_would_have_to_send_if_they_were_stopped() -> None:
    pair = pair_with(1000 * MB)
    pair.add_device("gpu0", state_size=500 * MB, precopy_size=0, precopy_dirty=(), contents="sizes")
    with pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine, link=Link(1e9))
        migration.start()
        pair.clock.sleep(60)
        assert migration.status is MigrationStatus.ACTIVE  # 500 MB never fit 0.3 s
        migration.set_parameters(downtime_limit_s=0.5)
        report = migration.wait()
    assert report.completed
    assert report.transfer_s == about(0.5)


def test_reading_and_sending_take_turns_and_loading_goes_beside_them() -> None:
    pair = pair_with()
    pair.add_device(
        "gpu0", state_size=4 * MIB, precopy_size=0, precopy_dirty=(), rate=MIB / 0.010, write_rate=MIB / 0.030
    )
    report = migrate(pair, MIB / 0.020, downtime_limit_s=10, switchover_bandwidth=1e9)
    # A piece of 1 MiB is read in 10 ms, then sent in 20: 30 each, 120 in all. Loading takes 30 each and keeps up.
    assert report.transfer_s == about(0.120)
    assert report.destination_start_s == about(0.030)


def test_loading_that_is_slower_than_all_else_is_waited_for_after_the_last_byte() -> None:
    pair = pair_with()
    pair.add_device("gpu0", state_size=4 * MIB, precopy_size=0, precopy_dirty=(), write_rate=MIB / 0.050)
    report = migrate(pair, MIB / 0.020, downtime_limit_s=10, switchover_bandwidth=1e9)
    # The first piece arrives after 20 ms, and then four of 50 are loaded: 220 in all, 80 of them sent.
    assert report.transfer_s == about(0.080)
    assert report.destination_start_s == about(0.140)


def test_the_configuration_is_loaded_in_turn_before_the_machine_starts() -> None:
    pair = pair_with()
    for name in ("vf0", "vf1"):
        pair.add_device(name, config_load=0.015)
    report = pair.migrate()
    assert report.destination_start_s == about(0.030)
    assert report.transfer_s == 0


def test_what_is_sent_arrives_a_latency_later() -> None:
    pair = pair_with(10 * MB)
    report = pair.migrate(link=Link(1e9, latency_s=0.025))
    assert report.completed
    assert report.downtime_s == 0
    assert report.blackout_s == about(0.025)


def test_without_a_link_memory_takes_no_time_and_its_stop_neither() -> None:
    report = pair_with(1000 * MB, 50e6).migrate()
    assert (report.completed, report.total_s, report.precopy_rounds) == (True, 0, 1)


def test_memory_is_the_first_to_be_saved_whenever_it_was_made() -> None:
    pair = pair_with()
    pair.add_device("vf0")
    Ram(pair.source.machine, 5)
    assert [each.id for each in pair.source.machine.migratables] == ["ram", "vf0"]


def test_a_paused_guest_dirties_nothing() -> None:
    pair = pair_with(100 * MB, 50e6)
    pair.source.machine.stop()
    report = migrate(pair, downtime_limit_s=0)
    assert report.transfer_s == 0
    assert report.destination_state is RunState.PAUSED
    assert report.blackout_s is None  # nobody has started it


@pytest.mark.parametrize("size", [-1, 1.5, True])
def test_a_size_of_memory_is_bytes(size: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        Ram(pair_with().source.machine, size)


@pytest.mark.parametrize("takeover", ["confirmed", "qemu"])
@pytest.mark.parametrize("return_path", [True, False])
def test_b8_with_a_return_path_the_downtime_lasts_until_the_destination_has_answered(
    takeover: str, return_path: bool
) -> None:
    pair = pair_with(10 * MB)
    pair.add_device("vf0", config_load=0.015, state_size=0, precopy_size=0, precopy_dirty=())
    pair.add_handler("start", seconds=0.005)
    parameters = MigrationParameters(return_path=return_path)
    report = pair.migrate(link=Link(1e9), parameters=parameters, takeover=takeover)
    stop = 0.005
    answered = 0.015 + (0.005 if takeover == "confirmed" else 0)  # loaded, or started as well
    assert report.downtime_s == about(stop + (answered if return_path else 0))
    assert report.blackout_s == about(stop + 0.015 + 0.005)


def test_b8_a_qemu_source_with_a_return_path_hears_of_a_destination_that_cannot_load() -> None:
    pair = pair_with()
    pair.add_device("vf0")
    pair.destination.mocks["vf0"].fail_write()
    report = pair.migrate(takeover="qemu", parameters=MigrationParameters(return_path=True))
    assert report.status is MigrationStatus.FAILED
    assert report.source_state is RunState.RUNNING


def test_info_says_how_a_migration_stands() -> None:
    pair = pair_with(1000 * MB, 50e6)
    pair.add_device("vf0", state_size=5 * MB, precopy_size=MB, precopy_dirty=(), contents="sizes")
    with pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine, link=Link(1e9))
        assert migration.info().status is MigrationStatus.NONE
        migration.start()
        pair.clock.sleep(0.25)
        info = migration.info()
        assert (info.status, info.bandwidth) == (MigrationStatus.ACTIVE, 1e9)
        assert info.ram is not None
        assert (info.ram.total, info.ram.transferred, info.ram.remaining) == (1000 * MB, 200 * MB, 800 * MB)
        assert info.expected_downtime_s == about(0.801)
        assert info.downtime_s is None
        report = migration.wait()
        info = migration.info()
    assert info.status is MigrationStatus.COMPLETED
    assert info.downtime_s == report.downtime_s
    assert info.total_s == report.total_s
    assert info.vfio_transferred == 6 * MB
    assert info.expected_downtime_s is None


def test_without_a_link_a_guest_that_dirties_its_memory_gets_there_in_real_time_too() -> None:
    pair = for_the_test(PairRig(clock=RealClock()))
    Ram(pair.source.machine, 5 * MB, dirty_rate=1e9)
    Ram(pair.destination.machine, 5 * MB)
    pair.add_device("vf0")
    assert pair.migrate().completed
