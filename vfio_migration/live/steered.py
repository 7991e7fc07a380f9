"""What `Migration` and `Outgoing` have in common: how they stand, what steers them, and waiting for their end."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from vfio_migration.errors import MigrationRefusedError
from vfio_migration.live.ends import refuse_thread
from vfio_migration.live.info import MigrationInfo
from vfio_migration.live.parameters import MigrationParameters
from vfio_migration.live.sending import Sending
from vfio_migration.live.status import MigrationStatus
from vmstate import Clock, Machine, finite_or_none, uncut


class Steered:
    """A migration as its source knows it; from any thread."""

    def __init__(self, sending: Sending, clock: Clock, machines: tuple[Machine, ...]) -> None:
        self._sending = sending
        self._clock = clock
        self._machines = machines
        self._over = clock.event("the end of the migration")
        self._starting = threading.Lock()  # held from a start on, unless that fails: there is one only

    @property
    def started(self) -> bool:
        """Whether it was started."""
        return self._sending.control is not None

    @property
    def status(self) -> MigrationStatus:
        """How the migration stands, as its source sees it."""
        return self._sending.status

    @property
    def error(self) -> BaseException | None:
        """The first error, if there was one."""
        return self._sending.error

    def _start_once(self, undo: ExitStack) -> None:
        """Refuse a second start; one that is undone may be tried again."""
        if not self._starting.acquire(blocking=False):
            raise MigrationRefusedError("a migration is started once: make another one to try again")
        undo.callback(self._starting.release)

    def cancel(self) -> bool:
        """
        Cancel the migration; False if it is over, or the destination may be running already (QMP `migrate_cancel`).

        Waits for the big lock of the source, as a command of QEMU's monitor does, and so for the end of a stop.
        """
        with uncut:
            return self._sending.cancel()

    def disconnect(self) -> None:
        """
        Cut the connection, so that the migration fails at once (QMP `yank`).

        Takes no lock: it is what is left when whoever holds the big lock waits for the other side.
        """
        with uncut:
            self._sending.disconnect()

    @property
    def parameters(self) -> MigrationParameters:
        """The parameters as they are now."""
        return self._sending.parameters

    def set_parameters(self, **changes: Any) -> None:
        """
        Change parameters, also while the migration goes on (QMP `migrate-set-parameters`); waits for the big lock.

        Raises:
            ValueError: a value makes no sense, or there is no such parameter.
            WrongStatusError: QEMU has it as a capability, and the migration was started.

        """
        with uncut:
            self._sending.set_parameters(**changes)

    def continue_(self) -> None:
        """
        Let a migration go on that waits in `pre-switchover` (QMP `migrate-continue`).

        Raises:
            WrongStatusError: it does not wait there; nothing is remembered.

        """
        with uncut:
            self._sending.continue_()

    def info(self) -> MigrationInfo:
        """Say how it stands (QMP `query-migrate`); at any time, from any thread."""
        return self._sending.info()

    def wait_for_end(self, timeout: float | None = None) -> None:
        """
        Wait for the end, and report nothing.

        Raises:
            TimeoutError: it is not over after `timeout` seconds; it goes on.
            MigrationRefusedError: it was never started, or this is a thread for which it waits.

        """
        if not self.started:
            raise MigrationRefusedError("the migration was not started")
        if threading.current_thread() in self._own_threads():
            raise MigrationRefusedError("the calling thread is one of the migration's own, which would wait for itself")
        for machine in self._machines:
            refuse_thread(machine, "wait for the migration of")
        with self._clock.taking_part():
            # An event rather than a join: a Ctrl-C during a join would leave it unknown whether the thread lives.
            if not self._over.wait(finite_or_none(timeout)):
                raise TimeoutError(f"the migration is still '{self.status}' after {timeout} s")
            self._join()

    def _own_threads(self) -> Sequence[threading.Thread]:
        """Give the threads that are waited for."""
        raise NotImplementedError

    def _join(self) -> None:
        """Wait for the threads, which are about to end."""
        raise NotImplementedError
