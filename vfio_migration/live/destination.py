"""The destination's side of a migration (QEMU's `qemu_loadvm_state`, `process_incoming_migration_bh`)."""

import threading

from vfio_migration.errors import described
from vfio_migration.live.answers import Answer, AnswerKind, give_answer, say_ready
from vfio_migration.live.going_back import reachable
from vfio_migration.live.source import Takeover
from vfio_migration.live.status import MigrationStatus
from vfio_migration.live.stream import NotedState, StreamReader
from vmstate import CallbackErrors, Channel, Machine, RunState, get_logger


class Destination:
    """
    Loads what the source sends, and takes over.

    Guarantees:
    - The machine is only started when everything has arrived intact.
    - It runs on only if nothing failed while it was started; otherwise it is stopped again before the source
      hears of it. (With `takeover="qemu"` it runs on, with the device reset, as QEMU's does.)
    - Whatever happens, the source gets an answer or sees the connection end.

    Lives in a thread of its own; `error` and the times are read after that thread has ended.
    """

    def __init__(
        self,
        machine: Machine,
        channel: Channel,
        raised: CallbackErrors,
        takeover: Takeover,
        *,
        return_path: bool = False,
    ) -> None:
        self._machine = machine
        self._channel = channel
        self._raised = raised
        self._confirmed = takeover == "confirmed"
        self._return_path = return_path
        self._reader = StreamReader(channel)
        self.status = MigrationStatus.NONE
        self.loaded_ns: int | None = None
        self.running_ns: int | None = None
        self.guest_runs_ns: int | None = None
        self._error_lock = threading.Lock()
        self._error: BaseException | None = None  # guarded by _error_lock

    @property
    def error(self) -> BaseException | None:
        """The first error on this side."""
        with self._error_lock:
            return self._error

    @property
    def out_of_hand(self) -> bool:
        """Never: whatever happens to this machine, the source will hear of it."""
        return False

    def note_error(self, error: BaseException) -> None:
        """Note what went wrong; state-change threads do so while the machine starts (`vmstate.Attempt`)."""
        with self._error_lock:
            if self._error is None:
                self._error = error

    def keep_error(self, error: BaseException) -> None:
        """Keep what a callback raised."""
        self._raised.keep(error)

    def run(self) -> None:
        """Receive the migration, in the destination's thread."""
        try:
            noted = self._receive()
            self._take_over(noted)
        except BaseException as error:  # noqa: BLE001 - the source has to hear of it, whatever it is
            self.note_error(error)
            self._raised.keep_what_fails_a_test(error)
            self._stand_down()
        finally:
            try:
                self._answer()
            finally:
                self._machine.end_attempt()
                self._channel.close()

    def _receive(self) -> NotedState:
        machine = self._machine
        reader = self._reader
        try:
            self._set_status(MigrationStatus.SETUP)
            reader.header()
            self._set_status(MigrationStatus.ACTIVE)
            with machine.big_lock:
                for migratable in machine.migratables:
                    migratable.load_setup()
            if self._confirmed:
                say_ready(self._channel)
            noted = reader.load_sections(machine.migratables)
            for migratable in machine.migratables:
                migratable.load_complete()
        finally:
            if self.status is MigrationStatus.ACTIVE:
                self._checkpoint("dst-precopy-loadvm-completed")
        self.loaded_ns = machine.clock.now()
        if self._return_path and not self._confirmed:
            self._say(Answer(AnswerKind.LOADED, reader.checksum))  # it is all here, whether the source hears so or not
        return noted

    def _stand_down(self) -> None:
        """Stop the machine if it runs by now, and forget what was loaded if not: the source goes on."""
        with self._machine.big_lock:
            if self._machine.run_state.live:
                try:
                    self._machine.stop(RunState.PAUSED)
                except BaseException as error:  # noqa: BLE001 - handlers raised; the machine is stopped all the same
                    _log.error("stopping again failed in part", machine=self._machine.name, error=repr(error))
                    self._raised.keep_what_fails_a_test(error)
            for migratable in self._machine.migratables:
                try:
                    migratable.load_cleanup()
                except BaseException as error:  # noqa: BLE001 - the others have to be cleaned up all the same
                    _log.error("clean-up failed", machine=self._machine.name, error=repr(error))
                    self._raised.keep_what_fails_a_test(error)

    def _take_over(self, noted: NotedState) -> None:
        machine = self._machine
        self._checkpoint("dst-precopy-bh-enter")
        self._checkpoint("dst-precopy-bh-announced")
        with machine.big_lock:
            machine.adopt_suspension(noted.was_suspended)
            if not noted.run_state.live:
                machine.set_run_state(reachable(machine.run_state, noted.run_state))
            elif not machine.autostart:
                machine.set_run_state(RunState.PAUSED)
            else:
                self._start()
        self.running_ns = machine.clock.now()
        if machine.run_state.live:
            self.guest_runs_ns = self.running_ns
        self._checkpoint("dst-precopy-bh-vm-started")

    def _start(self) -> None:
        try:
            self._machine.resume()
        except BaseException as error:  # noqa: BLE001 - handlers raised; the machine runs all the same
            self.note_error(error)
            self._raised.keep_what_fails_a_test(error)
        error_now = self.error
        if error_now is not None:
            if self._confirmed:
                raise error_now
            _log.error("the machine runs in spite of", machine=self._machine.name, error=described(error_now))

    def _answer(self) -> None:
        error = self.error
        if error is not None and self.running_ns is not None and not self._confirmed:
            error = None  # it is in the log, and the machine runs
        self._set_status(MigrationStatus.COMPLETED if error is None else MigrationStatus.FAILED)
        if error is not None:
            _log.warning("incoming migration failed", machine=self._machine.name, error=described(error))
        if error is None and not self._confirmed:
            return  # without a return path QEMU's says nothing
        answer = (
            Answer(AnswerKind.RUNNING, self._reader.checksum)
            if error is None
            else Answer(AnswerKind.FAILED, text=described(error))
        )
        self._say(answer)

    def _say(self, answer: Answer) -> None:
        try:
            give_answer(self._channel, answer)
        except OSError as gone:
            _log.warning("the source is gone", machine=self._machine.name, error=str(gone))

    def _set_status(self, status: MigrationStatus) -> None:
        self.status = status
        self._machine.emit("migrate_set_state", new_state=str(status))
        self._machine.announce("MIGRATION", status=str(status))

    def _checkpoint(self, name: str) -> None:
        self._machine.emit("vmstate_downtime_checkpoint", checkpoint=name)


_log = get_logger("vfio_migration.live.destination")
