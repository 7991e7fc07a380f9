"""Pre-copy: passes of all that is pending, without a limit, and what QEMU's monitor announces of them."""

import pytest
from suite.machines import make_pair, statuses, traced

from vfio_migration import DeviceState, MigrationStatus
from vfio_migration.testing import PairRig

S = DeviceState


def passes(pair: PairRig) -> list[int]:
    return [event.data["pass"] for event in pair.source.announced if event.name == "MIGRATION_PASS"]


def with_one(**mock: object) -> PairRig:
    pair = make_pair(())
    pair.add_device("vf0", **mock)
    return pair


def test_everything_that_pre_copy_can_send_is_sent_while_the_guest_runs() -> None:
    pair = with_one(rate=100e6, precopy_size=50_000_000, precopy_dirty=(), state_size=1_000_000)
    report = pair.migrate()
    assert report.transfer_s == pytest.approx(0.010)
    assert report.precopy_rounds == 1


def test_there_are_as_many_passes_as_the_guest_makes_necessary() -> None:
    pair = with_one(rate=100e6, precopy_size=100_000, precopy_dirty=[1000] * 60, state_size=0)
    report = pair.migrate()
    assert report.precopy_rounds == 61
    assert report.transfer_s == 0


def test_a_pass_is_what_was_pending_when_it_began() -> None:
    pair = with_one(precopy_size=3_000_000, precopy_dirty=(2_000_000, 500_000), rate=1e9)
    assert pair.migrate().precopy_rounds == 3


def test_the_exact_query_before_the_stop_is_announced_from_the_second_on() -> None:
    pair = make_pair()
    pair.migrate()
    assert passes(pair) == [2]
    names = [str(event.data.get("status", event.name)) for event in pair.source.announced]
    assert names.index("active") < names.index("MIGRATION_PASS") < names.index("STOP")


def test_the_destination_is_active_before_its_devices_resume_and_the_source_does_not_wait_for_them() -> None:
    pair = with_one(precopy_size=1_000_000, precopy_dirty=(), rate=10e6)
    pair.destination.mocks["vf0"].stall(S.STOP, S.RESUMING, seconds=5)
    report = pair.migrate()
    assert report.completed
    here = {event.data["status"]: event.time_ns for event in pair.source.announced if event.name == "MIGRATION"}
    there = {event.data["status"]: event.time_ns for event in pair.destination.announced if event.name == "MIGRATION"}
    asked = [e.time_ns for e in pair.recorder.select("vfio_migration_set_state", machine="destination")]
    assert there["active"] <= asked[0]
    assert here["active"] < 5e9
    # But it is not stopped for a destination that cannot receive.
    stop = next(event.time_ns for event in pair.source.announced if event.name == "STOP")
    assert stop >= 5e9
    assert report.source_stop_s == 0


def test_an_error_in_pre_copy_fails_from_active_and_the_machine_is_never_stopped() -> None:
    pair = make_pair()
    pair.source.mocks["vf1"].fail_read()
    report = pair.migrate()
    assert report.status is MigrationStatus.FAILED
    assert traced(pair.source, "migrate_set_state") == ["setup", "active", "failing", "failed"]
    assert not {"STOP", "RESUME"} & set(statuses(pair.source))


def test_a_set_up_that_fails_says_active_too() -> None:
    pair = make_pair()
    pair.source.mocks["vf0"].fail(S.RUNNING, S.PRE_COPY)
    pair.migrate()
    assert traced(pair.source, "migrate_set_state") == ["setup", "active", "failing", "failed"]
