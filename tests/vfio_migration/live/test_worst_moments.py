"""G6, V2: failures where they do most harm: after the last word was sent, and in what brings devices back."""

import errno
import socket
import threading
from collections.abc import Callable

import pytest
from suite.machines import make_pair, statuses

from vfio_migration import (
    ALL_FLAGS,
    DeviceState,
    Link,
    Migration,
    MigrationFlags,
    MigrationParameters,
    MigrationRefusedError,
    MigrationStatus,
    Ram,
    TakeoverUnknownError,
    WrongStatusError,
)
from vfio_migration.testing import PairRig
from vmstate import DeadlockError, RealClock, RunState, VirtualClock
from vmstate.monitor import MonitorEvent

S = DeviceState


class Boom(BaseException):
    """What no handler of errors expects."""


class Failing(socket.socket):
    """The source's end of a connection whose host becomes unreachable when `now` says so."""

    fails = ""
    now: Callable[[], bool]

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self._perhaps("recv")
        return super().recv(size, flags)

    def send(self, data: "bytes | memoryview", flags: int = 0, /) -> int:  # type: ignore[override]
        self._perhaps("send")
        return super().send(data, flags)

    def _perhaps(self, call: str) -> None:
        if call == self.fails and self.now():
            raise OSError(errno.EHOSTUNREACH, "No route to host")


def unreachable_once_it_runs(pair: PairRig, call: str) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    made = Failing(fileno=ours.detach())
    made.fails, made.now = call, lambda: pair.destination.machine.run_state.live
    return made, theirs


def fail_with(pair_side: object, wrong: Callable[[S, S], BaseException | None]) -> None:
    """Have the device's arcs raise what is told for them."""
    mock = pair_side
    real = mock.set_arc  # type: ignore[attr-defined]

    def set_arc(target: S) -> None:
        error = wrong(mock.state, target)  # type: ignore[attr-defined]
        if error is not None:
            raise error
        real(target)

    mock.set_arc = set_arc  # type: ignore[attr-defined]


def test_a_connection_that_fails_before_the_answer_is_heard_leaves_one_side_running() -> None:
    pair = make_pair(clock=RealClock())
    report = pair.migrate(sockets=unreachable_once_it_runs(pair, "recv"))
    assert isinstance(report.error, TakeoverUnknownError)
    assert (report.source_state, report.destination_state) == (RunState.POSTMIGRATE, RunState.RUNNING)


def test_one_that_fails_for_the_thanks_changes_nothing() -> None:
    pair = make_pair(clock=RealClock())
    report = pair.migrate(sockets=unreachable_once_it_runs(pair, "send"))
    assert report.completed
    assert (report.source_state, report.destination_state) == (RunState.POSTMIGRATE, RunState.RUNNING)


def test_a_world_that_stands_still_while_the_answer_is_awaited_leaves_one_side_running() -> None:
    pair = make_pair(clock=VirtualClock())
    never = pair.clock.event("never")

    def wait(event: MonitorEvent) -> None:
        if event.data.get("status") == "completed":
            never.wait()

    over = threading.Event()

    def note(_: Migration, status: MigrationStatus) -> None:
        if status.over:
            over.set()

    pair.destination.machine.monitor.subscribe(wait)
    migration = Migration(pair.source.machine, pair.destination.machine, on_status=note)
    migration.start()
    with pytest.raises(DeadlockError):
        migration.wait()
    assert over.wait(60)
    assert isinstance(migration.error, TakeoverUnknownError)
    assert (pair.source.machine.run_state, pair.destination.machine.run_state) == (
        RunState.POSTMIGRATE,
        RunState.RUNNING,
    )


def test_what_was_sent_arrives_though_the_source_has_closed_its_end() -> None:
    """`qemu` asks nobody, so the source is done long before its destination has read everything."""
    pair = make_pair(["vf0"], state_size=1_000_000, rate=None)
    report = pair.migrate(takeover="qemu", link=Link(1e9))
    assert report.completed
    assert report.destination_state is RunState.RUNNING
    assert pair.source.state_hashes == pair.destination.state_hashes


def test_a_destination_that_cannot_say_that_it_has_loaded_everything_runs_all_the_same() -> None:
    pair = make_pair(clock=RealClock())
    ours, theirs = socket.socketpair()
    made = Failing(fileno=theirs.detach())
    made.fails, made.now = "send", lambda: True
    report = pair.migrate(takeover="qemu", parameters=MigrationParameters(return_path=True), sockets=(ours, made))
    assert isinstance(report.error, TakeoverUnknownError)
    assert (report.source_state, report.destination_state) == (RunState.POSTMIGRATE, RunState.RUNNING)


def test_qemu_cancelled_while_the_source_waits_brings_it_back() -> None:
    pair = make_pair(config_load=1.0)

    def cancel_in_a_while(migration: Migration) -> None:
        pair.clock.sleep(0.5)
        migration.cancel()

    def cancel_later(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.DEVICE:
            pair.clock.start_thread(lambda: cancel_in_a_while(migration), "steering")

    report = pair.migrate(takeover="qemu", parameters=MigrationParameters(return_path=True), on_status=cancel_later)
    assert report.status is MigrationStatus.CANCELLED
    assert report.source_state is RunState.RUNNING


@pytest.mark.parametrize("link", [None, Link(1e6)])
def test_a_device_that_fails_in_a_stop_before_the_switchover_fails_the_migration_at_once(link: Link | None) -> None:
    pair = make_pair(["vf0"])
    if link is not None:  # which would go on for ever
        Ram(pair.source.machine, 10_000_000, dirty_rate=5e6)
        Ram(pair.destination.machine, 10_000_000)

    def stop(_: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.ACTIVE:
            pair.source.mocks["vf0"].fail(S.PRE_COPY, S.PRE_COPY_P2P)
            pair.source.machine.stop()
            pair.source.machine.start()

    report = pair.migrate(link=link, on_status=stop)
    assert report.status is MigrationStatus.FAILED
    assert report.reset_devices == ("vf0",)
    assert "device" not in statuses(pair.source)
    assert report.source_state is RunState.RUNNING


def test_a_fatal_error_of_the_clean_up_leaves_no_device_running() -> None:
    pair = make_pair(["vf0"])
    fail_with(pair.source.mocks["vf0"], lambda now, to: Boom() if (now, to) == (S.STOP_COPY, S.STOP) else None)
    migration = Migration(pair.source.machine, pair.destination.machine)
    migration.start()
    with pytest.raises(Boom):
        migration.wait()
    assert migration.wait().completed
    assert pair.source.device_states["vf0"] is S.STOP
    assert pair.source.mocks["vf0"].state is S.STOP


def test_a_fatal_error_of_recovering_leads_to_the_reset() -> None:
    pair = make_pair(["vf0"])
    errors = {(S.STOP, S.RESUMING): OSError(errno.EIO, "first"), (S.STOP, S.RUNNING_P2P): Boom()}
    fail_with(pair.destination.mocks["vf0"], lambda now, to: errors.get((now, to)))
    migration = Migration(pair.source.machine, pair.destination.machine)
    migration.start()
    with pytest.raises(Boom):
        migration.wait()
    assert migration.wait().destination_reset_devices == ("vf0",)
    assert pair.destination.device_states["vf0"] is pair.destination.mocks["vf0"].state is S.RUNNING


def test_a_fatal_error_of_one_device_s_reset_leaves_the_others_reset() -> None:
    pair = make_pair()
    rig = pair.source

    def boom() -> None:
        raise Boom

    rig.mocks["vf0"].reset = boom  # type: ignore[method-assign]
    rig.machine.stop()
    with pytest.raises(Boom):
        rig.machine.reset()
    assert rig.device_states["vf0"] is S.ERROR
    assert rig.mocks["vf1"].state is S.RUNNING
    assert rig.machine.run_state is RunState.PRELAUNCH
    assert statuses(rig)[-1] == "RESET"


def test_a_start_for_which_there_are_no_threads_is_as_if_it_had_never_been(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair()
    migration = Migration(pair.source.machine, pair.destination.machine)
    start_thread = type(pair.clock).start_thread

    def scarce(clock: VirtualClock, target: Callable[[], object], name: str) -> object:
        if name == "mig/src/main":
            raise RuntimeError("can't start new thread")
        return start_thread(clock, target, name)

    with monkeypatch.context() as patched:
        patched.setattr(type(pair.clock), "start_thread", scarce)
        with pytest.raises(RuntimeError, match="new thread"):
            migration.start()
    assert migration.status is MigrationStatus.NONE
    assert not migration.cancel()
    migration.start()
    assert migration.wait().completed


def test_the_slowest_link_still_gets_there() -> None:
    pair = make_pair(["vf0"], state_size=0, rate=None, precopy_dirty=())
    assert pair.migrate(link=Link(5.0), parameters=MigrationParameters(downtime_limit_s=1000)).completed


def test_capabilities_are_settled_when_it_starts() -> None:
    pair = make_pair()
    migration = Migration(pair.source.machine, pair.destination.machine)
    migration.set_parameters(return_path=True)
    migration.start()
    with pytest.raises(WrongStatusError, match="'return_path' cannot be changed"):
        migration.set_parameters(return_path=False)
    assert migration.wait().completed


def test_a_destination_s_reason_is_heard_though_nobody_asked_whether_it_is_ready() -> None:
    pair = make_pair(["vf0"], state_size=5_000_000, precopy_size=5_000_000, rate=None)
    pair.destination.mocks["vf0"].fail_write()
    report = pair.migrate()
    assert "refused the data" in str(report.error)


def test_s8_a_device_that_a_failed_prepare_has_reset_is_not_sent_as_good() -> None:
    """The guest shuts down in pre-copy, of which a device's error goes into the log only; its state is gone."""
    pair = PairRig(clock=VirtualClock())
    for name in ("vf0", "slow"):
        pair.add_device(name, flags=ALL_FLAGS & ~MigrationFlags.PRE_COPY if name == "vf0" else ALL_FLAGS, rate=1000.0)
    pair.source.mocks["vf0"].fail(S.RUNNING, S.RUNNING_P2P)
    with pair, pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine)
        migration.start()
        pair.clock.sleep(0.001)
        pair.source.machine.shutdown()
        report = migration.wait()
    assert report.status is MigrationStatus.FAILED
    assert "'vf0' was reset after its guest had stopped" in str(report.error)
    assert report.source_state is RunState.SHUTDOWN


@pytest.mark.parametrize("channels", [0, 2])
def test_s8_a_device_that_is_reset_in_the_pause_before_the_switchover_is_not_sent_as_good(channels: int) -> None:
    pair = PairRig(clock=VirtualClock())
    pair.add_device("vf0", flags=ALL_FLAGS & ~MigrationFlags.PRE_COPY)

    def steer(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.PRE_SWITCHOVER:
            pair.source.machine.reset()
            migration.continue_()

    with pair:
        parameters = MigrationParameters(multifd_channels=channels)
        report = pair.migrate(pause_before_switchover=True, on_status=steer, parameters=parameters)
        assert report.status is MigrationStatus.FAILED
        assert "'vf0' was reset after its guest had stopped" in str(report.error)
        assert report.source_state is RunState.RUNNING
        assert pair.migrate(parameters=parameters).completed  # it has run since


def test_s8_a_guest_that_boots_anew_in_pre_copy_takes_its_device_with_it() -> None:
    pair = PairRig(clock=VirtualClock())
    pair.add_device("vf0", flags=ALL_FLAGS & ~MigrationFlags.PRE_COPY)

    def steer(_: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.ACTIVE:
            pair.source.machine.reset()

    with pair:
        assert pair.migrate(on_status=steer).completed


@pytest.mark.parametrize(("times", "state"), [(2, S.STOP), (3, S.STOP), (4, S.ERROR)])
def test_v2_a_destination_that_is_stopped_again_keeps_no_running_device(times: int, state: S) -> None:
    """One device fails while it starts; the other fails in both passes of the stop, and perhaps once or twice more."""
    pair = PairRig(clock=VirtualClock())
    for name in ("vf0", "vf1"):
        pair.add_device(name)
    pair.destination.mocks["vf0"].fail(S.RUNNING_P2P, S.RUNNING)

    def arrange(event: MonitorEvent) -> None:
        if event.name == "RESUME":
            pair.destination.mocks["vf1"].fail(S.RUNNING, S.RUNNING_P2P, times=times)

    pair.destination.machine.monitor.subscribe(arrange)
    with pair:
        report = pair.migrate(check=False)
        assert report.status is MigrationStatus.FAILED
        assert report.destination_state is RunState.PAUSED
        assert pair.destination.device_states["vf1"] is state


def test_a_wait_in_one_of_its_own_threads_is_refused() -> None:
    pair = PairRig(clock=VirtualClock())
    pair.add_device("vf0")
    met: list[str] = []

    def wait(migration: Migration, _: MigrationStatus) -> None:
        try:
            migration.wait()
        except MigrationRefusedError as error:
            met.append(str(error))

    with pair:
        assert pair.migrate(on_status=wait).completed
    assert met
    assert all("would wait for itself" in text for text in met)
