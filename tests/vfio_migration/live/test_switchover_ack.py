"""B4: a running source is not stopped before the destination has what devices have to send first."""

from typing import Any

import pytest
from suite.machines import NO_PRECOPY, S, for_the_test

from vfio_migration import Link, Migration, MigrationParameters, MigrationReport, MigrationStatus, Ram
from vfio_migration.testing import PairRig
from vmstate import RunState

MB = 1_000_000
MIB = 1 << 20
ACK = MigrationParameters(return_path=True, switchover_ack=True)


def pair_with(*devices: dict[str, Any], ram: int = 0, dirty_rate: float = 0.0, **options: Any) -> PairRig:
    pair = for_the_test(PairRig(**options))
    if ram:
        Ram(pair.source.machine, ram, dirty_rate=dirty_rate)
        Ram(pair.destination.machine, ram)
    for number, device in enumerate(devices):
        pair.add_device(f"vf{number}", contents="sizes", precopy_dirty=(), state_size=MIB, **device)
    return pair


def decided_s(pair: PairRig) -> float:
    """When the source was told to stop, in seconds."""
    [event] = [e for e in pair.recorder.events if e.fields.get("checkpoint") == "src-downtime-start"]
    return event.time_ns / 1e9


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=2e-6, rel=0)


def migrate(pair: PairRig, parameters: MigrationParameters = ACK, **options: Any) -> MigrationReport:
    return pair.migrate(parameters=parameters, **options)


SLOW = {"initial_size": 100 * MB, "precopy_size": 100 * MB, "write_rate": 100e6}


@pytest.mark.parametrize("takeover", ["confirmed", "qemu"])
def test_the_source_waits_until_the_initial_bytes_are_loaded(takeover: str) -> None:
    without = pair_with(SLOW, SLOW)
    assert migrate(without, MigrationParameters(return_path=True), takeover=takeover).completed
    assert decided_s(without) == about(0.0)  # all was sent in no time
    pair = pair_with(SLOW, SLOW)
    assert migrate(pair, takeover=takeover).completed
    assert decided_s(pair) == about(2.0)  # a second of writing each


def test_over_a_link_an_iteration_that_sends_nothing_waits_for_the_end_of_its_window() -> None:
    pair = pair_with(SLOW, ram=100 * MB)
    assert migrate(pair, link=Link(1e9, 0.010)).completed
    # All is sent after 0.2 s; loaded a second after the first chunk has arrived, and 10 ms later it is known.
    known = 0.1 + MIB / 1e9 + 0.010 + 1.0 + 0.010
    assert known < decided_s(pair) <= known + 0.1


def test_a_device_without_initial_bytes_is_acknowledged_at_once() -> None:
    pair = pair_with({"precopy_size": 0}, {"precopy_size": 4096})
    assert migrate(pair).completed


def test_devices_without_precopy_need_none() -> None:
    pair = pair_with({"flags": NO_PRECOPY}, {"flags": NO_PRECOPY})
    assert migrate(pair).completed


def test_a_machine_that_does_not_run_never_waits() -> None:
    pair = pair_with(SLOW, run_state=RunState.PAUSED)
    report = migrate(pair)
    assert report.completed
    assert decided_s(pair) < 1.0


def test_what_a_device_asks_for_again_is_sent_and_acknowledged_again() -> None:
    pair = pair_with(SLOW)
    with pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine, parameters=ACK)
        migration.start()
        pair.clock.sleep(0.5)
        pair.source.mocks["vf0"].ask_again(50 * MB)
        assert migration.wait().completed
    assert decided_s(pair) == about(1.5)


def test_asking_again_during_the_switchover_fails_the_migration() -> None:
    pair = pair_with({"precopy_size": 4096})
    mock = pair.source.mocks["vf0"]
    pair.source.machine.handlers.add(lambda running, state: None if running else mock.ask_again(1), priority=0)
    report = migrate(pair)
    assert report.status is MigrationStatus.FAILED
    assert "'vf0' asks for another switchover acknowledgement during the switchover" in str(report.error)
    assert report.source_state is RunState.RUNNING
    assert pair.source.device_states == {"vf0": S.RUNNING}


def test_without_the_capability_nobody_minds() -> None:
    pair = pair_with({"precopy_size": 4096})
    mock = pair.source.mocks["vf0"]
    pair.source.machine.handlers.add(lambda running, state: None if running else mock.ask_again(1), priority=0)
    assert migrate(pair, MigrationParameters(return_path=True)).completed


def test_it_waits_for_ever_but_can_be_cancelled() -> None:
    pair = pair_with(SLOW)
    pair.destination.mocks["vf0"].stall(S.RUNNING, S.RUNNING_P2P)
    with pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine, parameters=ACK)
        migration.start()
        pair.clock.sleep(0.5)
        assert migration.status is MigrationStatus.ACTIVE
        assert migration.cancel()
        pair.destination.mocks["vf0"].release()
        report = migration.wait()
    assert report.status is MigrationStatus.CANCELLED
    assert report.source_state is RunState.RUNNING
