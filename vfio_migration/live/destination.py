"""The destination's side of a migration (QEMU's `qemu_loadvm_state`, `process_incoming_migration_bh`)."""

import threading

from vfio_migration.errors import MigrationFailedError, described
from vfio_migration.live.reply import Reply, ReplyKind, send_reply
from vfio_migration.live.status import MigrationStatus
from vfio_migration.live.stream import Header, StreamReader
from vmstate import Channel, ChannelClosedError, Machine, RunState, get_logger


class Destination:
    """
    Loads what the source sends, and takes over.

    Guarantees:
    - The machine is only started when everything has arrived intact.
    - It runs on only if nothing failed while it was started; otherwise it is stopped again before the source
      hears of it.
    - Whatever happens, the source gets an answer or sees the connection end.

    Lives in a thread of its own; `error` and the times are read after that thread has ended.
    """

    def __init__(self, machine: Machine, channel: Channel) -> None:
        self._machine = machine
        self._channel = channel
        self.status = MigrationStatus.NONE
        self.loaded_ns: int | None = None
        self.running_ns: int | None = None
        self._error_lock = threading.Lock()
        self._error: BaseException | None = None  # guarded by _error_lock

    @property
    def error(self) -> BaseException | None:
        """The first error on this side."""
        with self._error_lock:
            return self._error

    def note_error(self, error: BaseException) -> None:
        """Note what went wrong; state-change threads do so while the machine starts (`vmstate.Attempt`)."""
        with self._error_lock:
            if self._error is None:
                self._error = error

    def run(self) -> None:
        """Receive the migration, in the destination's thread."""
        try:
            header = self._receive()
            self._take_over(header)
        except BaseException as error:  # noqa: BLE001 - the source has to hear of it, whatever it is
            self.note_error(error)
            self._stand_down()
        finally:
            try:
                self._answer()
            finally:
                self._machine.end_attempt()
                self._channel.close()

    def _receive(self) -> Header:
        machine = self._machine
        try:
            self._set_status(MigrationStatus.SETUP)
            with machine.big_lock:
                for migratable in machine.migratables:
                    migratable.load_setup()
            send_reply(self._channel, Reply(ReplyKind.READY))
            reader = StreamReader(self._channel)
            header = reader.header()
            self._set_status(MigrationStatus.ACTIVE)
            reader.load_sections(machine.migratables)
            for migratable in machine.migratables:
                migratable.load_complete()
        finally:
            if self.status is MigrationStatus.ACTIVE:
                self._checkpoint("dst-precopy-loadvm-completed")
        self.loaded_ns = machine.clock.now()
        return header

    def _stand_down(self) -> None:
        """Stop the machine if it runs by now, and forget what was loaded if not: the source goes on."""
        with self._machine.big_lock:
            if self._machine.run_state.live:
                try:
                    self._machine.stop(RunState.PAUSED)
                except Exception as error:  # noqa: BLE001 - handlers raised; the machine is stopped all the same
                    _log.error("stopping again failed in part", machine=self._machine.name, error=str(error))
            for migratable in self._machine.migratables:
                migratable.load_cleanup()

    def _take_over(self, header: Header) -> None:
        machine = self._machine
        self._checkpoint("dst-precopy-bh-enter")
        self._checkpoint("dst-precopy-bh-announced")
        with machine.big_lock:
            machine.adopt_suspension(header.was_suspended)
            if not header.run_state.live:
                machine.set_run_state(header.run_state)
            elif not machine.autostart:
                machine.set_run_state(RunState.PAUSED)
            else:
                try:
                    machine.resume()
                except BaseException as error:  # noqa: BLE001 - handlers raised; the machine runs all the same
                    self.note_error(error)
                if self.error is not None:
                    raise self.error
        self.running_ns = machine.clock.now()
        self._checkpoint("dst-precopy-bh-vm-started")

    def _answer(self) -> None:
        error = self.error
        self._set_status(MigrationStatus.COMPLETED if error is None else MigrationStatus.FAILED)
        if error is None:
            reply = Reply(ReplyKind.RUNNING)
        else:
            _log.warning("incoming migration failed", machine=self._machine.name, error=described(error))
            reply = Reply(ReplyKind.FAILED, described(error))
        try:
            send_reply(self._channel, reply)
        except (ChannelClosedError, OSError) as gone:
            _log.warning("the source is gone", machine=self._machine.name, error=str(gone))

    def failure(self) -> MigrationFailedError:
        """Tell the source's side what went wrong on this one."""
        error = self.error
        failure = MigrationFailedError(f"the destination failed: {'' if error is None else described(error)}")
        failure.__cause__ = error
        return failure

    def _set_status(self, status: MigrationStatus) -> None:
        self.status = status
        self._machine.emit("migrate_set_state", new_state=str(status))
        self._machine.announce("MIGRATION", status=str(status))

    def _checkpoint(self, name: str) -> None:
        self._machine.emit("vmstate_downtime_checkpoint", checkpoint=name)


_log = get_logger("vfio_migration.live.destination")
