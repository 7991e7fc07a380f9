"""Ctrl-C, real signals in real time: brackets are closed, threads joined, the source runs again."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from suite.machines import LIMIT, NO_PRECOPY, SMALL, make_machine, make_pair
from suite.signals import press_ctrl_c

from vfio_migration import DeviceState, Migration, MigrationParameters, MigrationStatus, MockDevice, migrate
from vfio_migration.testing import our_threads
from vmstate import BigLockError, Clock, RealClock, RunState, interrupts

S = DeviceState
pytestmark = pytest.mark.usefixtures("ctrl_c")


def test_the_first_ctrl_c_cancels_the_migration(clock: Clock, threads: str) -> None:
    pair = make_pair(latency=0.001, rate=None, clock=clock, threads=threads)

    def interrupt(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.PRE_SWITCHOVER:
            press_ctrl_c()  # the main thread waits for the migration, and gets it

    machines = pair.source.machine, pair.destination.machine
    report = migrate(*machines, pause_before_switchover=True, on_status=interrupt)
    assert report.interrupted
    assert report.status is MigrationStatus.CANCELLED
    assert pair.migrate().completed


def test_ctrl_c_in_a_test_ends_the_session_and_is_no_result_of_the_test(clock: Clock, threads: str) -> None:
    pair = make_pair(latency=0.001, rate=None, clock=clock, threads=threads)

    def interrupt(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.PRE_SWITCHOVER:
            press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        pair.migrate(pause_before_switchover=True, on_status=interrupt)
    assert pair.source.machine.run_state is RunState.RUNNING
    assert pair.migrate().completed


def test_a_second_ctrl_c_leaves_at_once_and_the_first_still_cancels(
    threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, asked = Migration.cancel, threading.Event()

    def cancel_and_tell(migration: Migration) -> bool:
        asked.set()
        return cancel(migration)

    monkeypatch.setattr(Migration, "cancel", cancel_and_tell)
    pair = make_pair(latency=0.001, rate=None, clock=RealClock(), threads=threads)  # real: signals are
    mock = pair.source.mocks["vf0"]
    mock.stall(S.RUNNING, S.PRE_COPY)

    def interrupt_twice() -> None:
        while not mock.stalled:
            threading.Event().wait(0.001)
        press_ctrl_c()
        assert asked.wait(LIMIT)  # which waits for the big lock, as the set-up holds it
        press_ctrl_c()

    thread = threading.Thread(target=interrupt_twice)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pair.migrate(pause_before_switchover=True)  # where the lock is free
    assert mock.stalled  # it did not wait for that
    mock.release()
    thread.join(LIMIT)
    for each in our_threads():
        if each.name.startswith("mig/"):
            each.join(LIMIT)
    assert pair.source.machine.run_state is RunState.RUNNING
    assert pair.migrate().completed


def test_ctrl_c_while_devices_are_saved_side_by_side_comes_too_late_and_leaves_nothing_behind(
    threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, asked = Migration.cancel, threading.Event()

    def cancel_and_tell(migration: Migration) -> bool:
        asked.set()
        return cancel(migration)

    monkeypatch.setattr(Migration, "cancel", cancel_and_tell)
    pair = make_pair(("vf0", "vf1", "vf2"), flags=NO_PRECOPY, latency=0.001, clock=RealClock(), threads=threads)
    mock = pair.source.mocks["vf1"]
    mock.stall(S.STOP, S.STOP_COPY)  # in its save thread

    def interrupt() -> None:
        while not mock.stalled:
            threading.Event().wait(0.001)
        press_ctrl_c()
        assert asked.wait(LIMIT)  # which waits for the big lock, as saving holds it
        mock.release()

    thread = threading.Thread(target=interrupt)
    thread.start()
    parameters = MigrationParameters(multifd_channels=2)
    report = migrate(pair.source.machine, pair.destination.machine, parameters=parameters)
    thread.join(LIMIT)
    assert report.completed
    assert report.interrupted
    assert our_threads() == [] or threads == "parked"
    assert pair.destination.machine.run_state is RunState.RUNNING


def test_a_second_ctrl_c_leaves_a_thread_that_is_joined_and_its_device_is_lost(threads: str) -> None:
    rig = make_machine(threads, RealClock())  # real: signals are
    devices = [rig.add_device("vf0", stall="RUNNING_P2P -> STOP"), rig.add_device("vf1")]
    machine, mock = rig.machine, rig.mocks["vf0"]
    machine.start()

    def interrupt_twice() -> None:
        while not mock.stalled:
            threading.Event().wait(0.001)
        press_ctrl_c()
        while not interrupts._main.noted:  # two that come before one is handled are one
            threading.Event().wait(0.001)
        press_ctrl_c()

    thread = threading.Thread(target=interrupt_twice)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        machine.stop()
    thread.join(LIMIT)
    assert mock.stalled  # it did not wait for that
    assert devices[0].device_state is S.ERROR
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with machine.big_lock:
        assert machine.big_lock.held
    mock.release()


def test_ctrl_c_in_the_command_says_that_the_source_runs_again(tmp_path: Path) -> None:
    scenario = tmp_path / "small.toml"
    scenario.write_text(SMALL, encoding="utf-8")
    # The command's own code, interrupted when a device is read in pre-copy, which ends when that has been heard.
    code = (
        "import signal, threading\n"
        "from vfio_migration import Migration, MockDevice\n"
        "read, cancel, heard = MockDevice.read, Migration.cancel, threading.Event()\n"
        "def interrupted_read(self, size):\n"
        "    if self.state.name == 'PRE_COPY' and not heard.is_set():\n"
        "        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)\n"
        "        heard.wait()\n"
        "    return read(self, size)\n"
        "def note_cancel(self):\n"
        "    cancelled = cancel(self)\n"
        "    heard.set()\n"
        "    return cancelled\n"
        "MockDevice.read, Migration.cancel = interrupted_read, note_cancel\n"
        "from vfio_migration.cli.main import app\n"
        "app()\n"
    )
    command = [sys.executable, "-c", code, "run", str(scenario), "--runs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 130, done.stderr
    assert "the migration under way was cancelled, and its source runs again" in done.stderr


# Why a state-change thread must not take the big lock (M4):


def test_without_the_check_the_holder_of_the_lock_and_its_thread_would_wait_for_each_other() -> None:
    lock, got = threading.Lock(), []
    with lock:  # as the one who stops the machine
        thread = threading.Thread(target=lambda: got.append(lock.acquire(timeout=0.05)))
        thread.start()
        thread.join(LIMIT)  # a limit is all that ends it
    assert got == [False]


def test_with_the_check_it_is_an_error_at_once(threads: str) -> None:
    rig = make_machine(threads)
    machine = rig.machine
    errors: list[str] = []

    class Naive(MockDevice):
        def set_arc(self, target: DeviceState) -> None:
            for attempt in (machine.big_lock.acquire, machine.start, machine.stop, machine.shutdown):
                with pytest.raises(BigLockError) as caught:
                    attempt()
                errors.append(str(caught.value))
            with pytest.raises(BigLockError) as caught:
                machine.handlers.notify(False, RunState.PAUSED)
            errors.append(str(caught.value))
            super().set_arc(target)

    rig.add_device("vf0", backend=Naive)
    machine.start()
    assert len(errors) == 2 * 5
    assert all("vfio_vmstate_change" in text and "would wait forever" in text for text in errors)
    assert rig.clock.now() == 0
