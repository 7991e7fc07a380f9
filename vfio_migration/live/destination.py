"""The destination's side of a migration (QEMU's `qemu_loadvm_state`, `process_incoming_migration_bh`)."""

import threading
from collections.abc import Mapping
from contextlib import suppress

from vfio_migration.device import DeviceState
from vfio_migration.errors import StreamError, described
from vfio_migration.live.answers import Answer, AnswerKind, AnswerSender
from vfio_migration.live.configurations import check_configurations
from vfio_migration.live.connection import Connection
from vfio_migration.live.going_back import reachable
from vfio_migration.live.incoming_channels import IncomingChannels
from vfio_migration.live.parameters import MigrationParameters
from vfio_migration.live.source import Takeover
from vfio_migration.live.status import MigrationStatus
from vfio_migration.live.stream import NotedState, StreamReader
from vfio_migration.registered import VFIOMigration, devices_of
from vmstate import CallbackErrors, Machine, Migratable, RunState, get_logger

_FAILURE_HEARD_S = 10.0  # how long a source may take to say that it has heard of a failure


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
        raised: CallbackErrors,
        takeover: Takeover,
        *,
        parameters: MigrationParameters,
        idle_timeout_s: float | None = None,
    ) -> None:
        self._machine = machine
        self._raised = raised
        self._confirmed = takeover == "confirmed"
        self._parameters = parameters
        self._idle_timeout_s = idle_timeout_s
        self.noted: NotedState | None = None
        self._loading: list[VFIOMigration] = []  # by threads that are to be joined
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

    @property
    def over(self) -> bool:
        """Whether there is only the end to tell (`vmstate.Attempt`)."""
        return self.status.over

    def note_error(self, error: BaseException) -> None:
        """Note what went wrong; state-change threads do so while the machine starts (`vmstate.Attempt`)."""
        with self._error_lock:
            if self._error is None:
                self._error = error

    def keep_error(self, error: BaseException) -> None:
        """Keep what a callback raised."""
        self._raised.keep(error)

    def begin(self) -> None:
        """Say that it waits, or is about to."""
        self._set_status(MigrationStatus.SETUP)

    def give_up(self, error: BaseException) -> None:
        """End without a connection; the machine stays in `inmigrate`."""
        self.note_error(error)
        self._raised.keep_what_fails_a_test(error)
        self._end(error)
        self._machine.end_attempt(self)

    def run(self, connection: Connection) -> None:
        """Receive the migration, in the destination's thread."""
        self._channel = channel = connection.main
        acks = self._parameters.switchover_ack
        self._answers = AnswerSender(channel)
        acknowledge = self._answers.arrived if acks else None
        self._incoming = incoming = IncomingChannels(self._machine, connection.multifd)
        self._reader = StreamReader(
            channel, acknowledge, idle_timeout_s=self._idle_timeout_s, beside=lambda: incoming.received
        )
        try:
            self.noted = self._receive()
            self._take_over(self.noted)
        except BaseException as error:  # noqa: BLE001 - the source has to hear of it, whatever it is
            self.note_error(error)
            self._raised.keep_what_fails_a_test(error)
            self._stand_down()
        finally:
            try:
                self._answer()
            finally:
                self._machine.end_attempt(self)
                self._channel.close()
                self._incoming.close()

    @property
    def bytes_received(self) -> int:
        """How many bytes of the stream have come so far."""
        reader = getattr(self, "_reader", None)
        return 0 if reader is None else reader.offset

    def _receive(self) -> NotedState:
        machine = self._machine
        reader = self._reader
        try:
            self._set_status(MigrationStatus.ACTIVE)
            return_path = reader.header(self._parameters, confirmed=self._confirmed)
            check_configurations(machine.migratables, reader.configurations())
            self._incoming.start()
            with machine.big_lock:
                for device in devices_of(machine):
                    device.settle(
                        multifd_channels=self._parameters.multifd_channels,
                        switchover_ack=self._parameters.switchover_ack,
                    )
                for migratable in machine.migratables:
                    migratable.load_setup()
            if self._confirmed:
                self._answers.ready()
            noted = reader.load_sections(machine.migratables, self._begin_threads)
            self._incoming.await_end(self._idle_timeout_s)
            self._join_threads()
            self._incoming.finish()
            for migratable in machine.migratables:
                migratable.load_complete()
        except BaseException as error:
            self._incoming.fail(error)
            self._join_threads(error)
            raise
        finally:
            if self.status is MigrationStatus.ACTIVE:
                self._checkpoint("dst-precopy-loadvm-completed")
        self.loaded_ns = machine.clock.now()
        if return_path and not self._confirmed:
            self._say(Answer(AnswerKind.LOADED, reader.checksum))  # it is all here, whether the source hears so or not
        return noted

    def _begin_threads(self, devices: Mapping[int, Migratable]) -> None:
        """Have these devices loaded by threads of their own, from what comes over the channels."""
        for index, device in devices.items():
            if not isinstance(device, VFIOMigration):
                raise StreamError(f"{device.id!r} is no VFIO device, and its state is to come over channels")
            device.launch_loading(self._incoming.queue(index, device.id))
            self._loading.append(device)

    def _join_threads(self, error: BaseException | None = None) -> None:
        """Join all that load; raises the first error of theirs, unless there was one before, which counts."""
        loading, self._loading = self._loading, []
        for device in loading:
            try:
                device.join_loading()
            except BaseException as failure:  # noqa: BLE001 - the others have to be joined all the same
                self._raised.keep_what_fails_a_test(failure)
                error = error or failure
                self.note_error(error)
        if error is not None:
            raise error

    def _stand_down(self) -> None:
        """Stop the machine if it runs by now, and forget what was loaded if not: the source goes on."""
        with self._machine.big_lock:
            if self._machine.run_state.live:
                try:
                    self._machine.stop(RunState.PAUSED)
                except BaseException as error:  # noqa: BLE001 - handlers raised; the machine is stopped all the same
                    _log.error("stopping again failed in part", machine=self._machine.name, error=repr(error))
                    self._raised.keep_what_fails_a_test(error)
                self._stop_the_rest()
            for migratable in self._machine.migratables:
                try:
                    migratable.load_cleanup()
                except BaseException as error:  # noqa: BLE001 - the others have to be cleaned up all the same
                    _log.error("clean-up failed", machine=self._machine.name, error=repr(error))
                    self._raised.keep_what_fails_a_test(error)

    def _stop_the_rest(self) -> None:
        """Stop devices that failed to stop, and run after a reset."""
        for device in devices_of(self._machine):
            if device.device_state in (DeviceState.RUNNING, DeviceState.RUNNING_P2P):
                try:
                    device.insist_on_stop("again")
                except BaseException as error:  # noqa: BLE001 - the others have to be stopped all the same
                    self._raised.keep_what_fails_a_test(error)

    def _take_over(self, noted: NotedState) -> None:
        machine = self._machine
        self._checkpoint("dst-precopy-bh-enter")
        self._checkpoint("dst-precopy-bh-announced")
        with machine.big_lock:
            for migratable in machine.migratables:
                migratable.load_complete()  # once more, with the lock held: nobody can reset a device from here on
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
        if error is not None and not self._confirmed:
            # A source that asks nobody does not listen either: it sees the connection end. It is told before anybody
            # else, as a process may end when it hears of the failure.
            with suppress(OSError):
                self._answers.tell(Answer(AnswerKind.FAILED, text=described(error)))
        self._end(error)
        if not self._confirmed:
            return  # without a return path QEMU's says nothing
        if error is None:
            self._say(Answer(AnswerKind.RUNNING, self._reader.checksum))
            return
        self._say(Answer(AnswerKind.FAILED, text=described(error)))

    def _end(self, error: BaseException | None) -> None:
        self._set_status(MigrationStatus.COMPLETED if error is None else MigrationStatus.FAILED)
        if error is not None:
            _log.warning("incoming migration failed", machine=self._machine.name, error=described(error))

    def _say(self, answer: Answer) -> None:
        # Whoever made it fail need not be a source that listens; one that is gets the time that it needs.
        limit_s = _FAILURE_HEARD_S if answer.kind is AnswerKind.FAILED else None
        limits = [each for each in (limit_s, self._idle_timeout_s) if each is not None]
        try:
            self._answers.give(answer, timeout_s=min(limits, default=None))
        except OSError as gone:
            _log.warning("the source is gone", machine=self._machine.name, error=str(gone))

    def _set_status(self, status: MigrationStatus) -> None:
        self.status = status
        self._machine.emit("migrate_set_state", new_state=str(status))
        self._machine.announce("MIGRATION", status=str(status))

    def _checkpoint(self, name: str) -> None:
        self._machine.emit("vmstate_downtime_checkpoint", checkpoint=name)


_log = get_logger("vfio_migration.live.destination")
