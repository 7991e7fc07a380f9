"""The source's side of a migration (QEMU's `migration_thread`)."""

from collections.abc import Callable
from typing import Literal

from vfio_migration.errors import MigrationFailedError, StreamError, TakeoverUnknownError, described
from vfio_migration.live.answers import AnswerKind, AnswerReader, await_answer, last_words
from vfio_migration.live.channel_pool import ChannelPool
from vfio_migration.live.configurations import configurations_of
from vfio_migration.live.connection import Connection
from vfio_migration.live.control import Control
from vfio_migration.live.decision import Decision
from vfio_migration.live.going_back import go_back, tell_all
from vfio_migration.live.parameters import Link
from vfio_migration.live.ram import Ram
from vfio_migration.live.sections import write_section
from vfio_migration.live.status import MigrationStatus
from vfio_migration.live.stream import NotedState, StreamWriter
from vfio_migration.live.switchover import Switchover
from vfio_migration.live.wire import Wire
from vfio_migration.registered import devices_of
from vmstate import ChannelClosedError, Machine, MigrationEvent, RunState, get_logger

Takeover = Literal["confirmed", "qemu"]
_LAST_WORDS_S = 1.0  # how long a destination may take to say why it has cut the connection


class Source:
    """
    Sends the machine: set-up, passes of pre-copy, switchover, and the way back if any of it fails.

    Guarantees:
    - The machine ends in `postmigrate` with its devices stopped if the destination said that it runs, and otherwise
      in the state that it had when it was stopped, with its devices RUNNING; devices that are lost aside.
    - Devices keep their state in STOP_COPY until the destination has said that it runs; a source that cannot know
      stays stopped, and says so. With `takeover="qemu"` it asks nobody, as QEMU does.
    - Nothing is known of the destination but what it says over the connection.

    Lives in a thread of its own; what it found out is read after that thread has ended. The counters and times are
    written by that thread alone, and read by others for `Migration.info()`, where an old one does no harm.
    """

    def __init__(
        self,
        machine: Machine,
        connection: Connection,
        control: Control,
        *,
        pause: bool,
        takeover: Takeover,
        answer_timeout_s: float | None,
        link: Link | None,
        eager: bool,
    ) -> None:
        self._machine = machine
        self._connection = connection
        self._channel = channel = connection.main
        self._answers = AnswerReader(channel)
        self._control = control
        self._confirmed = takeover == "confirmed"
        self._answer_timeout_s = answer_timeout_s
        self.wire = Wire(machine.clock, link)
        self._writer = StreamWriter(channel, self.wire, eager=eager or self.wire.limited)
        self._pool = ChannelPool(machine, connection.multifd, self.wire) if connection.multifd else None
        self.switchover = Switchover(machine, self._writer, control, self._pool, pause=pause)
        self._ready = False
        self._acks = 0  # that have come
        self.exact_queries = 1  # QEMU's first is made in the set-up
        self.precopy_rounds = 0
        self.remaining = 0  # bytes, at the last look
        self.measured: float | None = None  # bytes per second
        self.active_ns: int | None = None
        self.answered_ns: int | None = None

    @property
    def noted(self) -> NotedState | None:
        """The run state that the machine had when it was stopped; None if it was not."""
        return self.switchover.noted

    @property
    def bytes_sent(self) -> int:
        """How many bytes were sent, or are stood for in what was."""
        return self._writer.bytes_sent + (0 if self._pool is None else self._pool.bytes_sent)

    @property
    def stream_sha256(self) -> str:
        """The same for the same stream: SHA-256 of its checksums."""
        return self._writer.sha256

    def run(self) -> None:
        """Send the migration, in the source's thread; its status is `setup`."""
        try:
            self._setup()
            self.active_ns = self._machine.clock.now()
            self._control.advance(MigrationStatus.ACTIVE)
            self._precopy()
            self.wire.throttle(None)
            self.switchover.carry_out(confirmed=self._confirmed)
            return_path = self._control.parameters.return_path
            if self._confirmed or return_path:
                self._await_answer(AnswerKind.RUNNING if self._confirmed else AnswerKind.LOADED)
            if return_path:
                self.switchover.end_downtime()
            self._complete()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the machine has to come back
            self._fail(error)
        finally:
            self._connection.close()
            self._machine.end_attempt(self._control)

    def _setup(self) -> None:
        machine = self._machine
        parameters = self._control.parameters
        with machine.big_lock:
            tell_all(machine, MigrationEvent.SETUP, self._control.keep_error)
            self._writer.header(
                parameters, confirmed=self._confirmed, configurations=configurations_of(machine.migratables)
            )
            if self._pool is not None:
                self._pool.begin()
            for device in devices_of(machine):
                device.settle(multifd_channels=parameters.multifd_channels, switchover_ack=parameters.switchover_ack)
            for index, migratable in enumerate(machine.migratables):
                self._control.check()
                if not getattr(migratable, "state_only", False):
                    self._writer.section(index, migratable, migratable.save_setup)

    def _precopy(self) -> None:
        """
        Send while the machine runs, until the switchover is decided: see `Decision` for when that is.

        Not limited in number: what was left would be paid for while nobody is served. A guest that dirties its memory
        faster than it is sent goes on until somebody cancels, or changes a parameter.
        """
        machine = self._machine
        for migratable in machine.migratables:
            getattr(migratable, "begin_precopy", _nothing)()
        decision = Decision(machine.clock, self.wire)
        while not self._decided(decision):
            sent = self._iterate(decision.budget())
            if self.wire.limited:
                decision.iterated(sent)
            elif not sent and self._acked():
                break  # devices say that they have more, and give nothing
            elif not sent:
                self._hear()
            self.precopy_rounds += 1
            self.measured = decision.measured
        self._notice_the_end()
        machine.emit("migration_thread_low_pending", pending=self._pending())

    def _decided(self, decision: Decision) -> bool:
        """Whether what is left fits, and the destination is ready for it; asked for exactly if the estimate fits."""
        while True:
            self._control.check()
            if self._control.error is not None:  # of a stop that somebody has made meanwhile
                raise self._control.error
            parameters = self._control.parameters
            self.wire.throttle(parameters.max_bandwidth)
            threshold = decision.threshold(parameters)
            self.remaining = self._pending()
            if self.remaining > threshold or not self._acked():
                return False
            # Without a link nothing is sent in a wait for the destination, so that is over before the exact query;
            # with one the guest goes on meanwhile, and it is all to be looked at again.
            if not self.wire.limited and self._waited_for_destination():
                continue
            if not self._fits(threshold) or not self._acked():
                return False
            if not self._waited_for_destination():
                return True

    def _notice_the_end(self) -> None:
        """
        Find out before the stop whether a destination that nobody asks is gone.

        QEMU's source has written so much memory by then that it has seen it. What stands for memory here takes no room
        in the connection, where all that is written may fit, and the machine would be gone.
        """
        asked = self._confirmed or self._control.parameters.switchover_ack
        if not asked and self._channel.ready:  # such a destination says nothing but its end
            raise ChannelClosedError("the destination has closed the connection")

    def _pending(self) -> int:
        return sum(each.pending() for each in self._machine.migratables)

    def _fits(self, threshold: float) -> bool:
        """Ask exactly whether what would have to be sent now fits."""
        machine = self._machine
        self.exact_queries += 1
        machine.announce("MIGRATION_PASS", **{"pass": self.exact_queries})
        exact = sum(getattr(each, "pending_exact", each.pending)() for each in machine.migratables)
        if self.wire.limited:
            return exact <= threshold
        # Memory takes no time to be sent, however much of it is dirty again by now: in real time some always is.
        return not any(each.pending() for each in machine.migratables if not isinstance(each, Ram))

    def _acked(self) -> bool:
        """
        Whether all has been acknowledged that has to be before the stop (QEMU's `migration_can_switchover`).

        A machine that does not run may be stopped at any time: nobody would notice that devices are not ready.
        """
        if not self._control.parameters.switchover_ack or not self._machine.run_state.live:
            return True
        while self._channel.ready:
            self._hear()
        return self._acks >= sum(device.acks_asked for device in devices_of(self._machine))

    def _waited_for_destination(self) -> bool:
        """Make sure that the destination can receive; says whether that took time, in which more may be dirtied."""
        if self._ready or not self._confirmed:
            return False
        before = self._machine.clock.now()
        self._await_ready()
        return self._machine.clock.now() != before

    def _iterate(self, budget: int | None) -> int:
        """Send that much at most, memory first; gives how much there was."""
        total = 0
        self._writer.budget = budget
        for index, migratable in enumerate(self._machine.migratables):
            pending, sent = migratable.pending(), 0
            if not pending and getattr(migratable, "has_to_iterate", False):
                self._writer.section(index, migratable, migratable.save_iterate)
            while sent < pending and self._writer.budget != 0:
                self._control.check()
                some = write_section(self._machine, self._writer, index, migratable, migratable.save_iterate)
                if not some:
                    break
                sent += some
            total += sent
        self._writer.budget = None
        return total

    def _await_ready(self) -> None:
        while not self._ready:
            self._hear()

    def _hear(self) -> None:
        """Wait for what the destination says next: that it can receive, that something has arrived, or a failure."""
        try:
            answer = self._answers.next()
        except StreamError as error:
            self._control.check()  # mostly it has ended since somebody has cancelled
            raise MigrationFailedError(str(error)) from error
        if answer is None and self._control.parameters.switchover_ack:
            raise MigrationFailedError("an answer of the destination was altered, and may have been an acknowledgement")
        if answer is not None and answer.kind is AnswerKind.FAILED:
            raise MigrationFailedError(f"the destination failed: {answer.text}")
        if answer is not None and answer.kind is AnswerKind.ACK:
            self._acks += 1
            return
        self._ready = True

    def _await_answer(self, expected: AnswerKind) -> None:
        """Wait until the destination says that it runs, or has loaded everything, or that it never will."""
        try:
            answer = await_answer(self._answers, self._writer.checksum, timeout_s=self._answer_timeout_s)
        except BaseException as error:
            # Whatever it was, the socket's failure or a clock that gave up: the destination may be running.
            if not self._confirmed:
                self._control.check()  # cancelling cuts the connection, and there is nobody to ask
            raise TakeoverUnknownError(
                f"{error}; only the destination knows whether it runs: ask it, and start this machine if it does not"
            ) from error
        self.answered_ns = self._machine.clock.now()
        if answer.kind is not expected:
            raise MigrationFailedError(f"the destination failed: {answer.text}")

    def _complete(self) -> None:
        """Finish. The destination may run, so nothing that goes wrong from here on brings this machine back."""
        machine = self._machine
        with machine.big_lock:
            self._control.advance(MigrationStatus.COMPLETED)  # unless somebody has cancelled, which "qemu" lets him
            self._insist(lambda: machine.set_run_state(RunState.POSTMIGRATE))
            for migratable in machine.migratables:
                self._insist(migratable.save_cleanup)
            self._insist(lambda: tell_all(machine, MigrationEvent.DONE, self._control.keep_error))
            self._control.let_go()

    def _insist(self, step: Callable[[], object]) -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - logged; the next steps have to be made all the same
            _log.error("finishing failed in part", machine=self._machine.name, error=repr(error))
            self._control.raised.keep_what_fails_a_test(error)

    def _fail(self, error: BaseException) -> None:
        """Bring the machine back to what it was, unless the destination may be running."""
        machine = self._machine
        self._control.raised.keep_what_fails_a_test(error)
        if self._pool is not None:
            self._pool.stop()
        if self._control.status is MigrationStatus.SETUP:
            self._control.take(MigrationStatus.ACTIVE)  # which QEMU says of every migration that fails
        cancelled = self._control.fail(error)
        self._channel.end()
        if isinstance(error, TakeoverUnknownError):
            self._channel.abort()
            self._stay()
        else:
            with machine.big_lock:
                for second in go_back(machine, self.noted, self._control.keep_error):
                    self._control.raised.keep_what_fails_a_test(second)
                    error.add_note(f"while the source went back: {second!r}")
        if not cancelled:
            self._look_behind(error)
            _log.error("migration failed", machine=machine.name, error=described(self._control.error or error))
        self._control.let_go()
        self._control.take(MigrationStatus.CANCELLED if cancelled else MigrationStatus.FAILED)

    def _stay(self) -> None:
        """Stay stopped, with the devices' states kept; `start()` can bring the machine back."""
        with self._machine.big_lock:
            if self._machine.run_state is RunState.FINISH_MIGRATE:
                self._insist(lambda: self._machine.set_run_state(RunState.POSTMIGRATE))

    def _look_behind(self, error: BaseException) -> None:
        """Ask why a connection was cut: mostly the destination did it, and its own error says more."""
        if isinstance(error, ChannelClosedError):
            words = last_words(self._answers, timeout_s=_LAST_WORDS_S)
            if words is not None:
                reason = MigrationFailedError(f"the destination failed: {words}")
                reason.__cause__ = error
                self._control.replace_error(error, reason)


def _nothing() -> None:
    """Stand for what a migratable does not have."""


_log = get_logger("vfio_migration.live.source")
