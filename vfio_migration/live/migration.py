"""Migrating one machine into another: at once, or as something that can be watched and steered."""

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace

from vfio_migration.errors import MigrationRefusedError, TakeoverUnknownError
from vfio_migration.live.connection import Ready
from vfio_migration.live.ends import loads_slowly, seconds
from vfio_migration.live.parameters import Link, MigrationParameters
from vfio_migration.live.receiving import Receiving
from vfio_migration.live.report import MigrationReport
from vfio_migration.live.same_process import connection_pair
from vfio_migration.live.sending import Sending
from vfio_migration.live.source import Takeover
from vfio_migration.live.status import MigrationStatus
from vfio_migration.live.steered import Steered
from vmstate import CallbackErrors, ClockError, Machine, take_interrupt, uncut, uncut_between_waits


def migrate(
    source: Machine,
    destination: Machine,
    *,
    pause_before_switchover: bool = False,
    parameters: MigrationParameters | None = None,
    link: Link | None = None,
    takeover: Takeover = "confirmed",
    answer_timeout_s: float | None = None,
    sockets: tuple[socket.socket, socket.socket] | None = None,
    on_status: "Callable[[Migration, MigrationStatus], object] | None" = None,
) -> MigrationReport:
    """
    Migrate a machine and wait for the end: see `Migration` for what the arguments say.

    A failed or cancelled migration is reported, not raised. Ctrl-C cancels the migration, if it is not too late
    for that, and the report says `interrupted`; a second one leaves without waiting for the end.

    Raises:
        MigrationRefusedError: these machines cannot be migrated like this; nothing was changed.
        BaseException: what a callback raised; see `Migration.wait`.

    """
    migration = Migration(
        source,
        destination,
        pause_before_switchover=pause_before_switchover,
        parameters=parameters,
        link=link,
        takeover=takeover,
        answer_timeout_s=answer_timeout_s,
        sockets=sockets,
        on_status=on_status,
    )
    with uncut_between_waits, source.clock.taking_part():
        try:
            migration.start()
            report = migration.wait()
        except KeyboardInterrupt:
            if not migration.started:
                raise
            # In a thread of its own: to cancel may have to wait for the big lock, and a second Ctrl-C leaves at once
            # without taking that back.
            canceller = source.clock.start_thread(migration.cancel, "mig/cancel")
            report = migration.wait()
            source.clock.join(canceller)
            return replace(report, interrupted=True)
        return replace(report, interrupted=True) if take_interrupt() else report


class Migration(Steered):
    """
    One attempt to migrate a machine, which can be watched and steered from any thread.

    `start` it, then `wait` for its report; meanwhile look at its `status`, `cancel` it, or `continue_` it
    when it waits in `pre-switchover` because of `pause_before_switchover`. Devices are paired by their id.
    The stream goes over `sockets`, a connected pair, or over a `socket.socketpair()`. `on_status` is called
    as `on_status(migration, status)` at each status of the source, in the thread that takes it; it may
    cancel or continue right there, but must not wait.

    With `takeover="confirmed"` the source keeps its devices' states until the destination has said that it runs, so
    that one side lives whatever happens; after `answer_timeout_s` without an answer (None: never) it takes the
    connection for lost. With `"qemu"` the ends are QEMU's own without a return path: the source is done when the last
    byte is out, and a destination whose device fails while it starts runs on.
    """

    def __init__(
        self,
        source: Machine,
        destination: Machine,
        *,
        pause_before_switchover: bool = False,
        parameters: MigrationParameters | None = None,
        link: Link | None = None,
        takeover: Takeover = "confirmed",
        answer_timeout_s: float | None = None,
        sockets: tuple[socket.socket, socket.socket] | None = None,
        on_status: "Callable[[Migration, MigrationStatus], object] | None" = None,
    ) -> None:
        self._raised = CallbackErrors()
        self._on_status = on_status
        self._link = link
        self._sockets = sockets
        # Where times are worked out, what is written is sent at once, and the source never waits for loading.
        self._eager = link is not None or loads_slowly(destination)
        self._there, self._here = Ready(), Ready()
        self._receiving = Receiving(destination, self._here, self._raised, parameters=parameters, takeover=takeover)
        sending = Sending(
            source,
            self._there,
            self._raised,
            pause=pause_before_switchover,
            parameters=parameters,
            link=link,
            takeover=takeover,
            answer_timeout_s=answer_timeout_s,
            on_status=None if on_status is None else self._announce,
            eager=self._eager,
        )
        super().__init__(sending, source.clock, (source, destination))
        self._threads: list[threading.Thread] = []  # destination, source

    def start(self) -> None:
        """
        Start migrating, in threads of its own; once only.

        Raises:
            MigrationRefusedError: these machines cannot be migrated like this; nothing was changed.
            RuntimeError: the system has no threads for it.

        """
        with uncut, self._clock.taking_part(), ExitStack() as undo:
            self._start_once(undo)
            self._refuse()
            self._connect(undo)
            self._sending.tie()
            undo.callback(self._sending.untie)
            self._receiving.tie()
            undo.callback(self._receiving.untie)
            try:
                self._threads.append(self._clock.start_thread(self._run_destination, "mig/dst/main"))
                self._threads.append(self._clock.start_thread(self._run_source, "mig/src/main"))
            except BaseException:
                self._abandon()
                raise
            undo.pop_all()

    def wait(self, timeout: float | None = None) -> MigrationReport:
        """
        Wait for the end, when everybody has heard everything, and report.

        What a callback raised in the migration (`on_status`, a subscriber, a sink; a failed assertion or any other
        BaseException that is no Exception in a handler or a backend too) has not decided how that ended. It is raised
        here, once, several of them as notes on the first; calling again gives the report.

        Raises:
            TimeoutError: it is not over after `timeout` seconds; it goes on.
            MigrationRefusedError: it was never started.
            BaseException: what a callback raised.

        """
        with uncut_between_waits:
            self.wait_for_end(timeout)
            self._raised.raise_first()
            return self._report()

    def _own_threads(self) -> Sequence[threading.Thread]:
        return self._threads

    def _join(self) -> None:
        for thread in self._threads[1:] if self._waited_too_long else self._threads:
            self._clock.join(thread)

    @property
    def _waited_too_long(self) -> bool:
        """Whether the destination is not waited for any more: it did not answer in time, and may stall for ever."""
        error = self.error
        return isinstance(error, TakeoverUnknownError) and isinstance(error.__cause__, TimeoutError)

    def _connect(self, undo: ExitStack) -> None:
        source, destination = self._machines
        there, here = connection_pair(
            self._clock,
            f"stream {source.name} -> {destination.name}",
            self.parameters.multifd_channels,
            latency_s=self._link.latency_s if self._link is not None else 0.0,
            eager=self._eager,
            sockets=self._sockets,
        )
        undo.callback(there.close)
        undo.callback(here.close)
        self._there.connection, self._here.connection = there, here

    def _join_destination(self) -> None:
        """Wait for the destination's thread, for real if its world stands: until then nobody knows who runs."""
        try:
            self._clock.join(self._threads[0])
        except ClockError:
            self._threads[0].join()

    def _abandon(self) -> None:
        """Undo a start for which there were not enough threads."""
        self._there.abort()
        self._here.abort()
        if self._threads:
            self._clock.join(self._threads[0])
        self._threads.clear()

    def _run_destination(self) -> None:
        self._receiving.begin()
        self._receiving.run()

    def _run_source(self) -> None:
        try:
            self._sending.run()
            if not self._waited_too_long:
                self._join_destination()
            if self._sending.control is not None:
                self._sending.control.settle()
        finally:
            self._over.set()

    def _announce(self, status: MigrationStatus) -> None:
        if self._on_status is not None:
            self._on_status(self, status)

    def _report(self) -> MigrationReport:
        known, received = self._sending.report(), self._receiving.report()
        source, destination = self._sending.source, self._receiving.destination
        sent_ns, stop_told_ns = (
            (source.switchover.sent_ns, source.switchover.stop_told_ns) if source is not None else (None, None)
        )
        return MigrationReport(
            **{field.name: getattr(known, field.name) for field in fields(known)},
            destination_state=received.destination_state,
            destination_status=received.status,
            destination_start_s=seconds(sent_ns, destination.running_ns),
            blackout_s=seconds(stop_told_ns, destination.guest_runs_ns),
            destination_lost_devices=received.lost_devices,
            destination_reset_devices=received.reset_devices,
        )

    def _refuse(self) -> None:
        source, destination = self._machines
        if source is destination:
            raise MigrationRefusedError(f"machine {source.name!r} cannot be migrated into itself")
        if source.clock != destination.clock:
            raise MigrationRefusedError("source and destination need the same clock: give it to both machines")
        self._sending.refuse()
        self._receiving.refuse()
        ours, theirs = ({each.id for each in machine.migratables} for machine in (source, destination))
        if ours != theirs:
            raise MigrationRefusedError(
                f"devices without a counterpart: {_names(ours - theirs)} of {source.name!r}, "
                f"{_names(theirs - ours)} of {destination.name!r}"
            )


def _names(ids: set[str]) -> str:
    return ", ".join(sorted(ids)) or "none"
