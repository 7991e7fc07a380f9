"""The source's side of a migration (QEMU's `migration_thread`)."""

from collections.abc import Callable

from vfio_migration.errors import MigrationFailedError, StreamError
from vfio_migration.live.control import Control
from vfio_migration.live.destination import Destination
from vfio_migration.live.reply import ReplyKind, receive_reply
from vfio_migration.live.status import MigrationStatus
from vfio_migration.live.stream import Header, StreamWriter
from vmstate import Channel, ChannelClosedError, Machine, MigrationEvent, RunState, get_logger

MAX_PRECOPY_ROUNDS = 30


class Source:
    """
    Sends the machine: setup, pre-copy rounds, switchover, and the way back if any of it fails.

    Guarantees:
    - The machine ends in `postmigrate` with its devices stopped if the destination said that it runs, and
      otherwise in the state that it had, with its devices RUNNING; devices that are lost aside.
    - Devices keep their state in STOP_COPY until the destination has said that it runs.

    Lives in a thread of its own; what it found out is read after that thread has ended.
    """

    def __init__(
        self, machine: Machine, channel: Channel, control: Control, destination: Destination, *, pause: bool
    ) -> None:
        self._machine = machine
        self._channel = channel
        self._control = control
        self._destination = destination
        self._pause = pause
        self._writer = StreamWriter(channel)
        self._run_state_before = machine.run_state
        self._stopped = False
        self.precopy_rounds = 0
        self.stop_told_ns: int | None = None
        self.saving_ns: int | None = None

    @property
    def bytes_sent(self) -> int:
        """How many bytes of stream were sent."""
        return self._writer.bytes_sent

    @property
    def stream_sha256(self) -> str:
        """SHA-256 of these bytes."""
        return self._writer.sha256

    def run(self) -> None:
        """Send the migration, in the source's thread."""
        try:
            self._setup()
            self._control.advance(MigrationStatus.ACTIVE)
            self._precopy()
            with self._machine.big_lock:
                self._stop()
                if self._pause:
                    self._wait_for_continue()
                self._control.advance(MigrationStatus.DEVICE)
                self.saving_ns = self._machine.clock.now()
                self._save()
            self._await_takeover()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the machine has to come back
            self._fail(error)
        else:
            self._complete()
        finally:
            self._channel.close()
            self._machine.end_attempt()

    def _setup(self) -> None:
        machine = self._machine
        self._control.advance(MigrationStatus.SETUP)
        with machine.big_lock:
            self._notify(MigrationEvent.SETUP)
            self._run_state_before = machine.run_state
            self._writer.header(Header(machine.run_state, machine.was_suspended))
            for index, migratable in enumerate(machine.migratables):
                self._control.check()
                self._writer.section(index, migratable, migratable.save_setup)
        reply = receive_reply(self._channel)
        if reply.kind is not ReplyKind.READY:
            raise MigrationFailedError(f"the destination failed: {reply.text}")

    def _precopy(self) -> None:
        """Send what devices can give while the machine runs, until there is nothing left or it never ends."""
        machine = self._machine
        while self.precopy_rounds < MAX_PRECOPY_ROUNDS:
            dirty = [(i, each) for i, each in enumerate(machine.migratables) if each.pending()]
            if not dirty:
                break
            self.precopy_rounds += 1
            for index, migratable in dirty:
                self._control.check()
                self._writer.section(index, migratable, migratable.save_iterate)
        machine.emit("migration_thread_low_pending", pending=sum(each.pending() for each in machine.migratables))

    def _stop(self) -> None:
        machine = self._machine
        self._control.check()
        self._checkpoint("src-downtime-start")
        self.stop_told_ns = machine.clock.now()
        self._stopped = True
        result = machine.force_stop(RunState.FINISH_MIGRATE)
        self._checkpoint("src-vm-stopped")
        machine.emit("migration_completion_vm_stop", ret=result)
        if result < 0:
            raise MigrationFailedError(f"a handler refused to stop: the machine's stop returned {result}")

    def _wait_for_continue(self) -> None:
        """Let go of the big lock until somebody continues or cancels."""
        self._control.advance(MigrationStatus.PRE_SWITCHOVER)
        self._machine.big_lock.release()
        try:
            self._control.wait_for_continue()
        finally:
            self._machine.big_lock.acquire()

    def _save(self) -> None:
        if self._control.error is not None:
            raise self._control.error
        migratables = self._machine.migratables
        for index, migratable in enumerate(migratables):
            self._control.check()
            self._writer.section(index, migratable, migratable.save_complete)
        self._checkpoint("src-iterable-saved")
        for index, migratable in enumerate(migratables):
            self._writer.section(index, migratable, migratable.save_state)
        self._checkpoint("src-non-iterable-saved")
        self._control.commit()
        self._writer.end()
        self._checkpoint("src-downtime-end")

    def _await_takeover(self) -> None:
        """Wait until the destination runs, or has said or shown that it never will."""
        try:
            reply = receive_reply(self._channel)
        except BaseException:
            self._channel.abort()
            self._control.join_destination()
            if self._destination.status is MigrationStatus.COMPLETED:
                return  # it runs, whatever has happened to its answer
            raise
        if reply.kind is not ReplyKind.RUNNING:
            raise self._destination.failure()

    def _complete(self) -> None:
        """Finish. The destination runs, so nothing that goes wrong here may bring this machine back."""
        machine = self._machine
        self._insist(lambda: self._control.advance(MigrationStatus.COMPLETED))
        with machine.big_lock:
            self._insist(lambda: machine.set_run_state(RunState.POSTMIGRATE))
            for migratable in machine.migratables:
                self._insist(migratable.save_cleanup)
            self._insist(lambda: self._notify(MigrationEvent.DONE))

    def _insist(self, step: Callable[[], object]) -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - logged; the next steps have to be made all the same
            _log.error("finishing failed in part", machine=self._machine.name, error=repr(error))

    def _fail(self, error: BaseException) -> None:
        """Bring the machine back to what it was."""
        machine = self._machine
        if isinstance(error, (ChannelClosedError, StreamError)):
            error = self._reason_of_cut(error)
        cancelled = self._control.fail(error)
        if not cancelled:
            _log.error("migration failed, the source goes back", machine=machine.name, error=str(error))
        self._channel.abort()
        with machine.big_lock:
            self._notify(MigrationEvent.FAILED)
            if self._stopped:
                try:
                    if self._run_state_before.live:
                        machine.resume()
                    else:
                        machine.set_run_state(self._run_state_before)
                except BaseException as second:  # noqa: BLE001 - handlers raised; the machine is back all the same
                    _log.error("going back failed in part", machine=machine.name, error=str(second))
                    error.add_note(f"while the source went back: {second!r}")
        self._control.advance(MigrationStatus.CANCELLED if cancelled else MigrationStatus.FAILED)

    def _reason_of_cut(self, error: BaseException) -> BaseException:
        """Look behind a connection that was cut: mostly the destination did it, and its own error says more."""
        if self._control.cancelled:
            return error
        self._channel.abort()
        self._control.join_destination()
        return self._destination.failure() if self._destination.error is not None else error

    def _notify(self, event: MigrationEvent) -> None:
        """Tell all that migrates; of a failure, the last registered first."""
        machine = self._machine
        machine.emit("migration_call_notifiers", type=int(event))
        order = machine.migratables
        for migratable in reversed(order) if event is MigrationEvent.FAILED else order:
            migratable.notify(event)

    def _checkpoint(self, name: str) -> None:
        self._machine.emit("vmstate_downtime_checkpoint", checkpoint=name)


_log = get_logger("vfio_migration.live.source")
