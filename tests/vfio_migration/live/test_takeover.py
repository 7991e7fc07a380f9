"""G6: who runs in the end, with either kind of takeover, and what the report says of it."""

import socket

import pytest
from suite.machines import make_pair, traced

from vfio_migration import DeviceState, Migration, MigrationStatus, migrate
from vfio_migration.testing import PairRig
from vmstate import Machine, RunState, VirtualClock

S = DeviceState


class Losing(socket.socket):
    """The source's end of a connection that takes all bytes, and makes zeros of those after `size`."""

    size = 0
    sent = 0

    def send(self, data: "bytes | memoryview", flags: int = 0, /) -> int:  # type: ignore[override]
        left = max(0, self.size - self.sent)
        sent = super().send(bytes(data)[:left].ljust(len(data), b"\0"), flags)
        self.sent += sent
        return sent


def losing(size: int) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    made = Losing(fileno=ours.detach())
    made.size = size
    return made, theirs


def who_runs(pair: PairRig) -> list[str]:
    return [rig.machine.name for rig in (pair.source, pair.destination) if rig.machine.run_state.live]


def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="'confirmed', 'qemu'"):
        migrate(Machine(), Machine(), takeover="both")  # type: ignore[arg-type]


def test_confirmed_a_destination_whose_device_fails_while_it_starts_is_stopped_and_the_source_goes_on() -> None:
    pair = make_pair()
    pair.destination.mocks["vf0"].fail(S.RUNNING_P2P, S.RUNNING)
    report = pair.migrate()
    assert (report.status, report.destination_status) == (MigrationStatus.FAILED, MigrationStatus.FAILED)
    assert report.destination_reset_devices == ("vf0",)
    assert report.reset_devices == ()
    assert who_runs(pair) == ["source"]


def test_qemu_a_destination_whose_device_fails_while_it_starts_runs_on_with_the_device_reset() -> None:
    pair = make_pair()
    pair.destination.mocks["vf0"].fail(S.RUNNING_P2P, S.RUNNING)
    report = pair.migrate(takeover="qemu")
    assert (report.status, report.destination_status) == (MigrationStatus.COMPLETED, MigrationStatus.COMPLETED)
    assert report.destination_reset_devices == ("vf0",)
    assert who_runs(pair) == ["destination"]


def test_qemu_a_cancel_after_the_end_of_the_stream_starts_the_source_beside_the_destination() -> None:
    pair = make_pair(("vf0",))
    pair.source.mocks["vf0"].stall(S.PRE_COPY_P2P, S.STOP_COPY, seconds=5)
    threads = []

    def steer(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.ACTIVE:

            def cancel() -> None:
                pair.clock.sleep(1)
                assert migration.cancel()  # it waits for the big lock, and gets it when all is sent

            threads.append(pair.clock.start_thread(cancel, "qmp"))

    with pair.clock.taking_part():
        report = pair.migrate(takeover="qemu", on_status=steer)
        pair.clock.join(threads[0])
    assert report.status is MigrationStatus.CANCELLED
    assert report.destination_status is MigrationStatus.COMPLETED
    assert who_runs(pair) == ["source", "destination"]
    assert (report.source_state, report.destination_state) == (RunState.RUNNING, RunState.RUNNING)


def test_qemu_a_last_message_that_is_lost_leaves_nobody_running() -> None:
    sent = make_pair(("vf0",)).migrate(takeover="qemu").bytes_sent
    for lost in range(1, 10):
        pair = make_pair(("vf0",))
        # The kernel takes the last bytes, and the connection breaks on their way.
        report = pair.migrate(takeover="qemu", sockets=losing(sent - lost))
        assert report.status is MigrationStatus.COMPLETED, lost
        assert report.destination_status is MigrationStatus.FAILED, lost
        assert who_runs(pair) == []
        assert report.destination_state is RunState.INMIGRATE


def test_confirmed_a_last_message_that_is_altered_leaves_the_source_running() -> None:
    sent = make_pair(("vf0",)).migrate().bytes_sent
    for lost in range(1, 10):
        pair = make_pair(("vf0",))
        report = pair.migrate(sockets=losing(sent - lost))
        assert report.status is MigrationStatus.FAILED, lost
        assert who_runs(pair) == ["source"]


@pytest.mark.parametrize("takeover", ["confirmed", "qemu"])
def test_the_source_s_steps_come_in_the_same_order(takeover: str) -> None:
    pair = make_pair()
    assert pair.migrate(takeover=takeover).completed
    assert traced(pair.source, "migrate_set_state") == ["setup", "active", "device", "completed"]
    assert traced(pair.source, "vmstate_downtime_checkpoint") == [
        "src-downtime-start",
        "src-vm-stopped",
        "src-iterable-saved",
        "src-non-iterable-saved",
        "src-downtime-end",
    ]


def test_a_device_that_was_recovered_by_a_reset_is_named_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    pair = make_pair()
    pair.source.mocks["vf1"].fail(S.PRE_COPY_P2P, S.STOP_COPY)
    report = pair.migrate()
    assert report.reset_devices == ("vf1",)
    assert "'vf1'" in str(report.error)
    assert [event.fields["name"] for event in pair.recorder.select("vfio_device_reset")] == ["vf1"]
    assert any("guest's state is lost" in record.message and "vf1" in record.message for record in caplog.records)


def test_an_ordinary_stop_says_so_too(caplog: pytest.LogCaptureFixture) -> None:
    pair = make_pair(clock=VirtualClock())
    pair.source.mocks["vf0"].fail(S.RUNNING_P2P, S.STOP)
    pair.source.machine.stop()
    assert any("guest's state is lost" in record.message and "vf0" in record.message for record in caplog.records)
