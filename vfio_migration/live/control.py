"""How a migration stands, and what steers it while it goes on: its status, its error, cancel and continue."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vfio_migration.errors import MigrationCancelledError, WrongStatusError
from vfio_migration.live.parameters import MigrationParameters
from vfio_migration.live.status import MigrationStatus
from vmstate import CallbackErrors, Machine, get_logger

_CANCELLABLE = (
    MigrationStatus.NONE,
    MigrationStatus.SETUP,
    MigrationStatus.ACTIVE,
    MigrationStatus.PRE_SWITCHOVER,
    MigrationStatus.DEVICE,
)


class Control:
    """
    Shared by the source's thread and by those that steer; `_lock` guards all fields, and is held for moments only.

    Guarantees:
    - Statuses are announced in the order in which they are taken, and all of them before `settle` returns.
    - Whoever steers takes the big lock, as a command of QEMU's monitor does: it waits while the machine stops and
      saves, and may come too late.
    - Once the end of the stream is on its way the migration cannot be cancelled any more if the takeover is to be
      confirmed: the destination may be running.
    - The first error counts (`vmstate.Attempt`).
    - What a callback raises changes nothing of that; it is kept in `raised`.

    Statuses are announced with `_lock` free, by one thread at a time: who takes a status while another is being
    announced leaves it to that thread. So a subscriber may cancel, or take the big lock, right there. Rejected: to
    announce under a lock of the announcements' own. A subscriber that cancels would wait for itself.
    """

    def __init__(
        self,
        machine: Machine,
        abort: Callable[[], None],
        on_status: Callable[[MigrationStatus], object] | None,
        raised: CallbackErrors,
        parameters: MigrationParameters,
    ) -> None:
        self._machine = machine
        self._abort = abort
        self._on_status = on_status
        self.raised = raised
        self._lock = threading.Lock()
        self._to_announce: deque[MigrationStatus] = deque()
        self._announcing = False
        self._status = MigrationStatus.NONE
        self._error: BaseException | None = None
        self._cancelled = False
        self._committed = False
        self._continued = False
        self._over = False
        self._parameters = parameters
        self._go = machine.clock.event("the migration to be continued or cancelled", outside=True)
        self._quiet = machine.clock.event("the announcement of a migration's status", outside=True)

    @property
    def status(self) -> MigrationStatus:
        """How the migration stands."""
        with self._lock:
            return self._status

    @property
    def error(self) -> BaseException | None:
        """The first error."""
        with self._lock:
            return self._error

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled."""
        with self._lock:
            return self._cancelled

    @property
    def out_of_hand(self) -> bool:
        """Whether the end of the stream is on its way, and the destination has not said yet whether it runs."""
        with self._lock:
            return self._committed and not self._status.over

    def note_error(self, error: BaseException) -> None:
        """Note what went wrong; the first one counts."""
        with self._lock:
            if self._error is None and not self._status.over:
                self._error = error

    def keep_error(self, error: BaseException) -> None:
        """Keep what a callback raised."""
        self.raised.keep(error)

    # Called by those that steer:

    def cancel(self) -> bool:
        """
        Cancel, unless it is too late; says which. A second time changes nothing. Waits for the big lock.

        Raises:
            BigLockError: called from a state-change thread of this machine.

        """
        with self._machine.big_lock:
            with self._lock:
                if self._status.over:
                    return False
                if self._cancelled:
                    return True
                if self._committed or self._status not in _CANCELLABLE:
                    return False
                self._cancelled = True
                self._take(MigrationStatus.CANCELLING)
            self._announce()
            self._abort()
            self._go.set()
        return True

    def let_go_on(self) -> None:
        """
        End the pause before the switchover; waits for the big lock.

        Raises:
            WrongStatusError: the migration does not wait there, or was continued already; nothing is remembered.
            BigLockError: called from a state-change thread of this machine.

        """
        with self._machine.big_lock:
            with self._lock:
                status = self._status
                waits = status is MigrationStatus.PRE_SWITCHOVER and not self._continued
                if status is MigrationStatus.PRE_SWITCHOVER and self._continued:
                    status = MigrationStatus.DEVICE  # which it is about to be
                self._continued |= waits
            if not waits:
                raise WrongStatusError(
                    f"Migration not in expected state: {status}; it can be continued while it is "
                    f"'{MigrationStatus.PRE_SWITCHOVER}'"
                )
            self._go.set()

    @property
    def parameters(self) -> MigrationParameters:
        """The parameters as they are now."""
        with self._lock:
            return self._parameters

    def set_parameters(self, parameters: MigrationParameters) -> None:
        """Have other parameters from now on; for the holder of the big lock."""
        with self._lock:
            self._parameters = parameters

    # Called by the source:

    @property
    def over(self) -> bool:
        """Whether the machine is free for another migration (`vmstate.Attempt`)."""
        with self._lock:
            return self._over

    def let_go(self) -> None:
        """Leave the machine free for another migration: there is only the end to be told, and to be cleared away."""
        with self._lock:
            self._over = True

    def advance(self, status: MigrationStatus) -> None:
        """Take the next status; raises MigrationCancelledError if that is no longer to be."""
        with self._lock:
            self._check()
            self._take(status)
        self._announce()

    def check(self) -> None:
        """Raise MigrationCancelledError if somebody has cancelled."""
        with self._lock:
            self._check()

    def wait_for_continue(self) -> None:
        """Wait until somebody continues; raises MigrationCancelledError if that is not what happens."""
        self._go.wait()
        self.check()

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Pass the point of no return, unless somebody has cancelled before, or what is done in the context raises."""
        with self._lock:
            self._check()
            self._committed = True
        try:
            yield
        except BaseException:
            with self._lock:
                self._committed = False
            raise

    def fail(self, error: BaseException) -> bool:
        """Note that the source goes back; True if that is because it was cancelled."""
        with self._lock:
            cancelled = self._cancelled
            if not cancelled:
                self._take(MigrationStatus.FAILING)
            elif not isinstance(error, MigrationCancelledError):
                error = MigrationCancelledError(f"the migration was cancelled; the source goes on ({error})")
        self.note_error(error)
        self._announce()
        return cancelled

    def replace_error(self, old: BaseException, new: BaseException) -> None:
        """Have another error in the place of one that says less."""
        with self._lock:
            if self._error is old:
                self._error = new

    def take(self, status: MigrationStatus) -> None:
        """Take a status that nobody can prevent."""
        with self._lock:
            self._take(status)
        self._announce()

    def settle(self) -> None:
        """Wait until everything has been announced, also what another thread is announcing now."""
        while True:
            self._announce()
            with self._lock:
                if not self._announcing:
                    if not self._to_announce:
                        return
                    continue  # taken since, by somebody who leaves it to whoever announces
                self._quiet.clear()
            self._quiet.wait()

    def _check(self) -> None:
        if self._cancelled:
            raise MigrationCancelledError("the migration was cancelled; the source goes on")

    def _take(self, status: MigrationStatus) -> None:
        self._status = status
        self._to_announce.append(status)

    def _announce(self) -> None:
        """Announce what was not announced yet, unless another thread is at it, or this one further out."""
        while True:
            with self._lock:
                if self._announcing or not self._to_announce:
                    return
                self._announcing = True
                status = self._to_announce.popleft()
            try:
                self._announce_one(status)
            finally:
                with self._lock:
                    self._announcing = False
                self._quiet.set()

    def _announce_one(self, status: MigrationStatus) -> None:
        self._machine.emit("migrate_set_state", new_state=str(status))
        self._machine.announce("MIGRATION", status=str(status))
        if self._on_status is not None:
            try:
                self._on_status(status)
            except BaseException as error:  # noqa: BLE001 - an embedder's code must not decide how the migration ends
                _log.error("on_status failed", machine=self._machine.name, status=str(status), error=repr(error))
                self.raised.keep(error)


_log = get_logger("vfio_migration.live.control")
