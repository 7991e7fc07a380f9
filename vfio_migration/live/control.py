"""How a migration stands, and what steers it while it goes on: its status, its error, cancel and continue."""

import threading
from collections.abc import Callable

from vfio_migration.errors import MigrationCancelledError
from vfio_migration.live.status import MigrationStatus
from vmstate import Machine

_CANCELLABLE = (
    MigrationStatus.NONE,
    MigrationStatus.SETUP,
    MigrationStatus.ACTIVE,
    MigrationStatus.PRE_SWITCHOVER,
    MigrationStatus.DEVICE,
)


class Control:
    """
    Shared by the source's thread and by those that steer; `_lock` guards all fields.

    Guarantees:
    - Statuses are announced in the order in which they are taken.
    - Once the end of the stream is on its way the migration cannot be cancelled any more: the destination
      may be running.
    - The first error counts (`vmstate.Attempt`).

    The lock is held while a status is announced, so that a subscriber may cancel right there.
    """

    def __init__(
        self,
        machine: Machine,
        abort: Callable[[], None],
        join_destination: Callable[[], object],
        on_status: Callable[[MigrationStatus], object] | None,
    ) -> None:
        self._machine = machine
        self._abort = abort
        self.join_destination = join_destination
        self._on_status = on_status
        self._lock = threading.RLock()
        self._status = MigrationStatus.NONE
        self._error: BaseException | None = None
        self._cancelled = False
        self._committed = False
        self._go = machine.clock.event("the migration to be continued or cancelled", outside=True)

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

    def note_error(self, error: BaseException) -> None:
        """Note what went wrong; the first one counts."""
        with self._lock:
            if self._error is None:
                self._error = error

    # Called by those that steer:

    def cancel(self) -> bool:
        """Cancel, unless it is too late; says which. A second time changes nothing."""
        with self._lock:
            if self._status.over:
                return False
            if self._cancelled:
                return True
            if self._committed or self._status not in _CANCELLABLE:
                return False
            self._cancelled = True
            self._set(MigrationStatus.CANCELLING)
        self._abort()
        self._go.set()
        return True

    def let_go_on(self) -> None:
        """End the pause before the switchover, now or when it comes."""
        self._go.set()

    # Called by the source:

    def advance(self, status: MigrationStatus) -> None:
        """Take the next status; raises MigrationCancelledError if that is no longer to be."""
        with self._lock:
            if not status.over:
                self.check()
            self._set(status)

    def check(self) -> None:
        """Raise MigrationCancelledError if somebody has cancelled."""
        with self._lock:
            if self._cancelled:
                raise MigrationCancelledError("the migration was cancelled; the source goes on")

    def wait_for_continue(self) -> None:
        """Wait until somebody continues; raises MigrationCancelledError if that is not what happens."""
        self._go.wait()
        self.check()

    def commit(self) -> None:
        """Pass the point of no return, unless somebody has cancelled before."""
        with self._lock:
            self.check()
            self._committed = True

    def fail(self, error: BaseException) -> bool:
        """Note that the source goes back; True if that is because it was cancelled."""
        with self._lock:
            if self._cancelled:
                if not isinstance(error, MigrationCancelledError):
                    error = MigrationCancelledError(f"the migration was cancelled; the source goes on ({error})")
            else:
                self._set(MigrationStatus.FAILING)
            self.note_error(error)
            return self._cancelled

    def _set(self, status: MigrationStatus) -> None:
        self._status = status
        self._machine.emit("migrate_set_state", new_state=str(status))
        if status.announced:
            self._machine.announce("MIGRATION", status=str(status))
        if self._on_status is not None:
            self._on_status(status)
