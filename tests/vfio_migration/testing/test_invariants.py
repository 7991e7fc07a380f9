from pathlib import Path

import pytest
from suite.machines import make_pair

from vfio_migration import DeviceState, MigrationReport
from vfio_migration.testing import (
    Invariants,
    InvariantViolationError,
    PairRig,
    count_descriptors,
    stream_cut_at,
)
from vmstate import RunState

S = DeviceState


def test_a_thread_that_waits_for_work_is_not_left_behind() -> None:
    pair = make_pair(())
    invariants = Invariants(pair.source.machine, pair.destination.machine)
    pair.add_device("late", threads="parked")
    invariants.check(pair.migrate())


def violation(pair: PairRig, invariants: Invariants, report: MigrationReport) -> str:
    with pytest.raises(InvariantViolationError) as caught:
        invariants.check(report)
    return str(caught.value)


def test_violations_are_seen() -> None:
    pair = make_pair()
    invariants = Invariants(pair.source.machine, pair.destination.machine)
    report = pair.migrate()
    pair.destination.mocks["vf0"].reset()  # its state is another now
    pair.source.machine.prepare_incoming()
    text = violation(pair, invariants, report)
    assert "the source is 'inmigrate', not 'postmigrate'" in text
    assert "device 'vf0' has another state than on the source" in text
    assert "vf1" not in text


def test_a_machine_that_nobody_runs_is_seen() -> None:
    pair = make_pair()
    invariants = Invariants(pair.source.machine, pair.destination.machine)
    report = pair.migrate()
    pair.destination.machine.stop()
    assert "nobody runs" in violation(pair, invariants, report)


def test_two_machines_that_run_are_seen() -> None:
    pair = make_pair()
    pair.source.mocks["vf0"].fail(S.PRE_COPY_P2P, S.STOP_COPY)
    invariants = Invariants(pair.source.machine, pair.destination.machine)
    report = pair.migrate()
    pair.destination.machine.set_run_state(RunState.RUNNING)
    pair.source.machine.stop()
    text = violation(pair, invariants, report)
    assert "the destination is 'running' too" in text
    assert "the source is 'paused', not 'running'" in text
    assert "device 'vf0' of the source is STOP" in text


def test_statuses_out_of_order_and_descriptors_left_open_are_seen() -> None:
    pair = make_pair()
    invariants = Invariants(pair.source.machine, pair.destination.machine)
    report = pair.migrate()
    pair.source.machine.announce("MIGRATION", status="active")
    left = stream_cut_at(0)
    text = violation(pair, invariants, report)
    assert "device completed active" in text
    assert "2 file descriptor(s) left open" in text
    for each in left:
        each.close()


@pytest.mark.parametrize("folders", [("/proc/self/fd", "/dev/fd"), ("/nowhere", "/dev/fd"), ("/nowhere",)])
def test_descriptors_are_counted_with_or_without_a_folder_that_lists_them(
    monkeypatch: pytest.MonkeyPatch, folders: tuple[str, ...]
) -> None:
    monkeypatch.setattr("vfio_migration.testing.invariants._DESCRIPTOR_FOLDERS", tuple(map(Path, folders)))
    before = count_descriptors()
    left = stream_cut_at(0)
    assert count_descriptors() == before + 2
    for each in left:
        each.close()
    assert count_descriptors() == before
