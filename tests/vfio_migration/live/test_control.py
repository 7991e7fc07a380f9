"""Steering a migration: commands wait for the big lock, come too late, and what callbacks raise surfaces at the end."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from suite.machines import make_pair, statuses

from vfio_migration import DeviceState, Migration, MigrationStatus, Outgoing, WrongStatusError
from vfio_migration.live.connection import Connection
from vfio_migration.testing import PairRig
from vmstate import MonitorEvent, RunState

S = DeviceState


def in_the_stop(pair: PairRig, command: Callable[[Migration], object]) -> list[float]:
    """Give a command one second after the source is active, while it stops for five; says when it was answered."""
    pair.source.mocks["vf0"].stall(S.PRE_COPY_P2P, S.STOP_COPY, seconds=5)
    answered: list[float] = []
    threads: list[threading.Thread] = []

    def monitor(migration: Migration) -> None:
        pair.clock.sleep(1)
        command(migration)
        answered.append(pair.clock.now() / 1e9)

    def steer(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.ACTIVE:
            threads.append(pair.clock.start_thread(lambda: monitor(migration), "qmp"))

    with pair.clock.taking_part():
        report = pair.migrate(on_status=steer)
        pair.clock.join(threads[0])
    assert report.completed
    return answered


def test_g8_a_cancel_waits_for_the_stop_and_the_saving_and_comes_too_late(threads: str) -> None:
    pair = make_pair(("vf0",), threads=threads, latency=0.0)
    told: list[bool] = []
    assert in_the_stop(pair, lambda migration: told.append(migration.cancel()))[0] >= 5
    assert told == [False]
    assert "cancelling" not in statuses(pair.source)


@pytest.mark.parametrize("command", ["stop", "start", "reset"])
def test_g8_whoever_steers_the_machine_waits_as_long(command: str) -> None:
    pair = make_pair(("vf0",), latency=0.0)

    def steer(migration: Migration) -> None:
        if command == "start":
            with pytest.raises(Exception, match="not finalized yet"):
                pair.source.machine.start()
        else:
            getattr(pair.source.machine, command)()

    assert in_the_stop(pair, steer)[0] >= 5
    assert pair.source.machine.run_state is RunState.POSTMIGRATE  # it came too late


@pytest.mark.parametrize("when", ["setup", "active", "device", "completed"])
def test_a_continue_at_a_wrong_moment_gets_what_qemu_says_and_is_not_remembered(when: str) -> None:
    pair = make_pair()
    said: list[str] = []

    def steer(migration: Migration, status: MigrationStatus) -> None:
        if status == when:
            with pytest.raises(WrongStatusError) as caught:
                migration.continue_()
            said.append(str(caught.value))
        if status is MigrationStatus.PRE_SWITCHOVER:
            migration.continue_()
            with pytest.raises(WrongStatusError, match="expected state: device"):
                migration.continue_()

    assert pair.migrate(on_status=steer, pause_before_switchover=True).completed
    assert [text.split(";")[0] for text in said] == [f"Migration not in expected state: {when}"]


def test_a_continue_before_the_start_is_refused() -> None:
    pair = make_pair()
    with pytest.raises(WrongStatusError, match="expected state: none"):
        Migration(pair.source.machine, pair.destination.machine).continue_()


def test_nothing_is_announced_after_wait_has_returned() -> None:
    pair = make_pair()
    heard: list[str] = []

    def slow(event: MonitorEvent) -> None:
        if event.name == "MIGRATION":
            if event.data["status"] == "cancelling":
                pair.clock.sleep(10)
            heard.append(event.data["status"])

    pair.source.machine.monitor.subscribe(slow)
    with pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine, pause_before_switchover=True)
        migration.start()
        while migration.status is not MigrationStatus.PRE_SWITCHOVER:
            pair.clock.sleep(0.001)
        thread = pair.clock.start_thread(migration.cancel, "qmp")
        report = migration.wait()
        assert report.status is MigrationStatus.CANCELLED
        assert heard[-2:] == ["cancelling", "cancelled"]
        pair.clock.join(thread)


class Impatient(BaseException):
    """No Exception."""


RAISED: dict[str, BaseException] = {
    "assertion": AssertionError("as tests do"),
    "error": ValueError("a bug"),
    "base": Impatient("no Exception"),
    "pytest.fail": pytest.fail.Exception("as tests do"),
    "cancelled": asyncio.CancelledError("as tasks are"),
    "exit": SystemExit(3),
}


@pytest.mark.parametrize("error", RAISED.values(), ids=RAISED)
@pytest.mark.parametrize("at", ["setup", "active", "device", "failing", "failed"])
@pytest.mark.parametrize("where", ["on_status", "subscriber"])
def test_what_a_callback_raises_surfaces_at_the_end_and_decides_nothing(
    where: str, at: str, error: BaseException
) -> None:
    pair = make_pair()
    pair.destination.mocks["vf0"].fail(S.RESUMING, S.STOP)

    def raise_at(status: object) -> bool:
        if status == at:
            raise error
        return True

    subscription = pair.source.machine.monitor.subscribe(
        lambda event: where == "subscriber" and raise_at(event.data.get("status"))
    )
    with pytest.raises(type(error)) as caught:
        pair.migrate(on_status=lambda migration, status: where == "on_status" and raise_at(status))
    subscription.cancel()
    assert caught.value is error
    assert pair.source.machine.run_state is RunState.RUNNING
    assert pair.source.machine.attempt is None
    assert pair.migrate().completed


@pytest.mark.parametrize("name", ["assertion", "base", "pytest.fail", "cancelled", "exit"])
@pytest.mark.parametrize("where", ["handler", "backend", "sink"])
def test_what_is_meant_for_a_test_surfaces_from_anywhere(
    where: str, name: str, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RAISED[name]
    pair = make_pair(threads=threads)
    machine, left = pair.source.machine, [1]

    def fail(*arguments: object, **options: object) -> None:
        if left and machine.run_state is RunState.FINISH_MIGRATE:
            left.pop()
            raise error

    if where == "handler":
        machine.handlers.add(fail)
    elif where == "backend":
        real = pair.source.mocks["vf0"].set_arc
        monkeypatch.setattr(pair.source.mocks["vf0"], "set_arc", lambda target: fail() or real(target))  # type: ignore[func-returns-value]
    else:
        real_sink = machine._trace
        assert real_sink is not None
        monkeypatch.setattr(machine, "_trace", lambda event: real_sink(event) or fail())  # type: ignore[func-returns-value]
    with pytest.raises(type(error)) as caught:
        pair.migrate()
    assert caught.value is error
    ours, theirs = machine.run_state, pair.destination.machine.run_state
    assert (ours is RunState.RUNNING) != (theirs is RunState.RUNNING)
    assert (theirs is RunState.RUNNING) == (where == "sink")  # nothing depends on who watches


def test_several_callbacks_that_raise_are_one_error_with_notes() -> None:
    pair = make_pair()

    def watch(migration: Migration, status: MigrationStatus) -> None:
        raise ValueError(str(status))

    with pytest.raises(ValueError, match="setup") as caught:
        pair.migrate(on_status=watch)
    assert [note.split("'")[1] for note in caught.value.__notes__] == ["active", "device", "completed"]


def test_a_notifier_that_raises_does_not_keep_the_source_from_coming_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair()
    pair.source.mocks["vf1"].fail_read()

    def broken(event: object) -> None:
        raise RuntimeError("a notifier of somebody")

    monkeypatch.setattr(pair.source.devices["vf1"], "notify", broken)
    with pytest.raises(RuntimeError, match="of somebody"):
        pair.migrate(check=False)
    assert pair.source.machine.run_state is RunState.RUNNING
    assert pair.source.device_states["vf0"] is S.RUNNING


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("fails", [False, True], ids=["completed", "failed"])
def test_who_hears_of_the_end_may_have_the_machine_migrate_again_at_once(
    fails: bool, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As QEMU's client may that has seen the event: found by a recorded dialogue that was played without a pause."""
    pair = make_pair()
    close = Connection.close

    def close_later(connection: Connection) -> None:
        pair.clock.sleep(1)
        close(connection)

    monkeypatch.setattr(Connection, "close", close_later)
    if fails:
        pair.destination.mocks["vf0"].fail(S.RESUMING, S.STOP)
    machine = getattr(pair, side).machine
    heard = machine.clock.event("the end")
    tied: list[object] = []

    def note(event: MonitorEvent) -> None:
        if event.name == "MIGRATION" and MigrationStatus(event.data["status"]).over:
            heard.set()

    def look() -> None:
        heard.wait()
        with machine.big_lock:
            tied.append(machine.attempt)

    machine.monitor.subscribe(note)
    with machine.clock.taking_part():
        thread = machine.clock.start_thread(look, "client")
        pair.migrate()
        machine.clock.join(thread)
    assert tied == [None]


def test_who_hears_that_nobody_was_there_may_migrate_again_at_once() -> None:
    pair = make_pair()
    tied: list[object] = []
    source = pair.source.machine
    outgoing = Outgoing(source, "unix:nobody", on_status=lambda _, status: tied.append((status, source.attempt)))
    outgoing.start()
    assert outgoing.wait().status is MigrationStatus.FAILED
    assert tied[-1] == ("failed", None)
    assert tied[0] != ("setup", None)
