"""A machine's migrations, as its monitor has them: one at a time out, and one in (QEMU's `migration/migration.c`)."""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.migrating.addresses import check_uri, may_have_channels, socket_address, uri_of_arguments
from vfio_migration.emulator.migrating.capabilities import NONE_SET, check_capabilities
from vfio_migration.emulator.migrating.descriptors import Descriptors
from vfio_migration.emulator.migrating.memory import Memory
from vfio_migration.emulator.migrating.parameters import DEFAULTS, changed_parameters, live_parameters
from vfio_migration.emulator.migrating.words import (
    CHANNEL_ERROR,
    destination_words,
    greeting_words,
    printed_before,
    source_words,
)
from vfio_migration.errors import AddressError, MigrationRefusedError, WrongStatusError
from vfio_migration.live import Incoming, Link, MigrationInfo, MigrationParameters, MigrationStatus, Outgoing, parse_uri
from vfio_migration.registered import devices_of
from vmstate import Event, Machine, RunState

_IN_PROGRESS = "There's a migration process in progress"
_POSTMIGRATE = "Can't migrate the vm that was paused due to previous migration"
_NO_STATE = "non-migratable device: "
_NOT_WITH_VFIO = (("postcopy-ram", "postcopy migration"), ("background-snapshot", "background snapshot"))
_BEFORE_INCOMING = (
    ("multifd", "Multifd must be set before incoming starts"),
    ("postcopy-preempt", "Postcopy preempt must be set before incoming starts"),
)
_INTERRUPTED = "Switchover is interrupted"
_REACHED = (MigrationStatus.SETUP, MigrationStatus.ACTIVE, MigrationStatus.PRE_SWITCHOVER, MigrationStatus.DEVICE)
_LIVE_NAMES = ("downtime_limit_s", "max_bandwidth", "switchover_bandwidth")  # that may change in a migration


class Migrations:
    """
    What `migrate`, `migrate-incoming` and the commands about them act on.

    The machine's big lock guards all fields, but for what begins and ends a migration: whoever has begun one says so
    (`_starting`) when it has started, and the last status before a failure is noted by the source's own thread.
    `blockers` says what keeps the machine from being migrated, `ram_section` which section of the stream is that of the
    memory. `on_failed_incoming` is called, in the destination's thread, with the lines that QEMU would print and end.
    `again`: after one migration in there may be another, which QEMU has only in another process.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        memory: Memory,
        link: Link | None,
        descriptors: Descriptors,
        blockers: Callable[[], Sequence[str]] = tuple,
        expected: bool = False,
        again: bool = False,
        ram_section: int = 1,
        on_failed_incoming: Callable[[Sequence[str]], object] = lambda _: None,
    ) -> None:
        self.machine = machine
        self.memory = memory
        self.capabilities: dict[str, bool] = dict(NONE_SET)
        self.parameters: dict[str, Any] = dict(DEFAULTS)
        self.blockers = blockers
        self._link = link
        self._descriptors = descriptors
        self._expected = expected  # the command line said that a migration comes in
        self._ram_section = ram_section
        self._on_failed_incoming = on_failed_incoming
        self._outgoing: Outgoing | None = None
        self._cut: Outgoing | None = None  # whose connection somebody has cut here
        self._reached = MigrationStatus.NONE
        self._refused: str | None = None  # why one failed before it was one
        self._incoming: Incoming | None = None
        self._bound = True  # whether the incoming one could be listened for
        self._again = again
        self.exit_on_error = True
        self._starting = False  # whether one out is made, and about to start
        self._subscription = machine.monitor.subscribe(lambda event: self._heard(event.name, event.data))

    @property
    def running(self) -> bool:
        """Whether a migration is on its way out."""
        outgoing = self._outgoing
        begun = outgoing is not None and outgoing.status is not MigrationStatus.NONE and not outgoing.status.over
        return begun or self._starting

    @property
    def waiting(self) -> bool:
        """Whether one is waited for, or coming in."""
        incoming = self._incoming
        return incoming is not None and not incoming.status.over

    @property
    def status(self) -> MigrationStatus:
        """How the one out stands."""
        if self._refused is not None:
            return MigrationStatus.FAILED
        outgoing = self._outgoing
        return MigrationStatus.NONE if outgoing is None else outgoing.status

    def set_capabilities(self, changes: Mapping[str, bool]) -> None:
        """Switch capabilities on or off; raises QmpError, and then none was."""
        if self.running:
            raise QmpError(_IN_PROGRESS)
        wanted = {**self.capabilities, **changes}
        check_capabilities(wanted)
        if self.waiting:
            for name, words in _BEFORE_INCOMING:
                if wanted[name] and not self.capabilities[name]:
                    raise QmpError(words)
        self.capabilities = wanted

    def set_parameters(self, changes: Mapping[str, Any]) -> None:
        """Change parameters, also of a migration under way; raises QmpError, and then none was."""
        self.parameters = changed_parameters(self.parameters, changes)
        if self.running and self._outgoing is not None:
            live = self._live_parameters()
            with suppress(WrongStatusError):
                self._outgoing.set_parameters(**{name: getattr(live, name) for name in _LIVE_NAMES})

    def settings(self) -> tuple[Mapping[str, bool], Mapping[str, Any]]:
        """Give capabilities and parameters, as they are set."""
        return self.capabilities, self.parameters

    def migrate(self, arguments: Mapping[str, Any]) -> None:
        """
        Begin to migrate; what the arguments say is checked under the big lock, which the caller must not hold.

        Raises:
            QmpError: it cannot begin; of some reasons for that there are events, as with QEMU.

        """
        with self.machine.big_lock:
            uri = check_uri(uri_of_arguments(arguments))
            self._refuse(uri, resume=arguments.get("resume", False))
            begun = self.machine.clock.event("a migration's set-up")
            outgoing = self._new_outgoing(self._opened(uri), begun)
            if outgoing is None:
                return
            before = self._outgoing, self._refused
            self._outgoing, self._refused, self._starting = outgoing, None, True
        # No lock from here on: the migration may be in its stop by now, and hold it for as long as a device stalls.
        try:
            outgoing.start()
        except MigrationRefusedError as error:
            self._outgoing, self._refused = before
            raise QmpError(str(error)) from error
        finally:
            self._starting = False
        with self.machine.clock.taking_part():
            begun.wait()  # as the events come before the answer

    def cancel(self) -> None:
        """Cancel what is on its way out; nothing happens if nothing is."""
        outgoing = self._outgoing
        if outgoing is not None:
            outgoing.cancel()

    def continue_(self, state: str) -> None:
        """Let a migration go on that waits in this state; raises QmpError if it does not."""
        status = self.status
        if state != status:
            raise QmpError(f"Migration not in expected state: {status}")
        if status is not MigrationStatus.PRE_SWITCHOVER or self._outgoing is None:
            return
        try:
            self._outgoing.continue_()
        except WrongStatusError as error:
            raise QmpError(f"Migration not in expected state: {MigrationStatus.DEVICE}") from error

    def disconnect(self) -> None:
        """Cut what is connected, both ways; takes no lock."""
        outgoing, incoming = self._outgoing, self._incoming
        if outgoing is not None and not outgoing.status.over:
            self._cut = outgoing
            outgoing.disconnect()
        elif incoming is not None and not incoming.status.over:
            incoming.cancel()
        else:
            raise QmpError("Instance not found", "DeviceNotFound")

    # The way in:

    def await_on_command_line(self, uri: str) -> None:
        """Listen where `-incoming` says, unless that is to be said later; raises QmpError."""
        self._expected = uri == "defer"
        if not self._expected:
            self._listen(self._new_incoming(check_uri(uri)))

    def await_incoming(self, arguments: Mapping[str, Any]) -> None:
        """Listen where the arguments say; the caller must not hold the big lock. Raises QmpError."""
        with self.machine.big_lock:  # two monitors may ask at once: one of them is told that the other has
            if not self._expected and self._incoming is None:
                raise QmpError("'-incoming' was not specified on the command line")
            if self._again and self._incoming is not None and self._incoming.status.over:
                self._incoming = None
            if self._incoming is not None and self._bound:
                raise QmpError("The incoming migration has already been started")
            uri = check_uri(uri_of_arguments(arguments))
            if not self._bound:
                raise QmpError("Illegal migration incoming state: setup")
            self.exit_on_error = arguments.get("exit-on-error", True)
            incoming = self._new_incoming(uri)
        self._listen(incoming)

    def _new_incoming(self, uri: str) -> Incoming:
        if self.capabilities["multifd"] and not may_have_channels(uri):
            raise QmpError("Migration requires multi-channel URIs (e.g. tcp)")
        uri = self._descriptors.incoming(uri)
        parameters = self._live_parameters()
        try:
            incoming = Incoming(self.machine, uri, parameters=parameters, link=self._link, takeover="qemu")
        except MigrationRefusedError as error:
            raise QmpError(str(error)) from error
        self._incoming = incoming
        return incoming

    def _listen(self, incoming: Incoming) -> None:
        try:
            incoming.start()
        except (MigrationRefusedError, OSError) as error:
            self._bound = False
            self.machine.announce("MIGRATION", status=str(MigrationStatus.SETUP))
            raise QmpError(getattr(error, "strerror", None) or str(error)) from error

    # What is said of it:

    def info(self) -> MigrationInfo | None:
        """Say how the one out stands; None if there never was one, or it came to nothing."""
        outgoing = self._outgoing
        return None if self._refused is not None or outgoing is None else outgoing.info()

    @property
    def error(self) -> str | None:
        """Why the one out has failed, or was cancelled where QEMU says more of that."""
        refused = self._refused
        if refused is not None:
            return refused
        info = self.info()
        return None if info is None else self._words(info)

    def _words(self, info: MigrationInfo) -> str | None:
        cancelled = info.status is MigrationStatus.CANCELLED
        cut = not info.status.over and self._cut is not None and self._cut is self._outgoing
        if info.error is not None and info.status in (MigrationStatus.FAILED, MigrationStatus.FAILING):
            return source_words(info.error, info, self._reached)
        opened = info.parameters.return_path and info.setup_s is not None
        if opened and (cancelled or cut):  # which sees the connection end before all else
            return CHANNEL_ERROR
        return _INTERRUPTED if cancelled and self._reached is MigrationStatus.PRE_SWITCHOVER else None

    @property
    def printed(self) -> Sequence[str]:
        """The lines that QEMU prints of a migration out that has failed; the last is `error`."""
        error = self.error
        if error is None or self._reached is MigrationStatus.SETUP:  # nothing of one that was never connected
            return ()
        return (*printed_before(error, self._reached, self._ram_section), error)

    @property
    def incoming_status(self) -> MigrationStatus:
        """How the one in stands."""
        if not self._bound:
            return MigrationStatus.SETUP
        incoming = self._incoming
        return MigrationStatus.NONE if incoming is None else incoming.status

    @property
    def incoming_error(self) -> str | None:
        """Why the one in has failed."""
        return self._incoming_words[-1] if self._incoming_words and self._stranger is None else None

    @property
    def _incoming_words(self) -> Sequence[str]:
        incoming = self._incoming
        error = None if incoming is None else incoming.error
        if self._stranger is not None:
            return (self._stranger,)
        return () if error is None else destination_words(error, self._ram_section)

    @property
    def _stranger(self) -> str | None:
        """What is said of somebody who has connected to be migrated from, and is nobody who could."""
        incoming = self._incoming
        if incoming is None or not may_have_channels(incoming.uri):
            return None
        return greeting_words(incoming.error)

    @property
    def listening_at(self) -> dict[str, Any] | None:
        """Where a migration is waited for, as `query-migrate` shows it."""
        incoming = self._incoming
        return None if incoming is None or not self._bound else socket_address(incoming.uri)

    def close(self) -> None:
        """Cancel what is on its way out, as the process that has it is about to end; what comes in ends with that."""
        if self.running:
            self.cancel()

    def forget(self) -> None:
        """Hear of the machine no more."""
        self._subscription.cancel()

    def _live_parameters(self) -> MigrationParameters:
        return live_parameters(self.parameters, self.capabilities)

    def _refuse(self, uri: str, *, resume: bool) -> None:
        if self.capabilities["mapped-ram"] and not uri.startswith("file:"):
            raise QmpError("Migration requires seekable transport (e.g. file)")
        if self.capabilities["multifd"] and not may_have_channels(uri):
            raise QmpError("Migration requires multi-channel URIs (e.g. tcp)")
        if resume:
            raise QmpError("Cannot resume if there is no paused migration")
        if self.running:
            raise QmpError(_IN_PROGRESS)
        state = self.machine.run_state
        if state is RunState.INMIGRATE:
            raise QmpError("Guest is waiting for an incoming migration")
        if state is RunState.POSTMIGRATE:
            raise QmpError(_POSTMIGRATE)
        self._refuse_with_vfio()
        blockers = self.blockers()
        if blockers:
            raise QmpError(_as_refused(blockers[0]))

    def _refuse_with_vfio(self) -> None:
        """Refuse what no VFIO device can do (QEMU's `vfio_save_prepare`)."""
        for capability, words in _NOT_WITH_VFIO:
            for device in devices_of(self.machine):
                if self.capabilities[capability]:
                    raise QmpError(f"{device.id}: VFIO migration is not supported with {words}")

    def _opened(self, uri: str) -> str:
        """Open what QEMU opens before it answers; what goes wrong then is a migration that has failed."""
        try:
            if uri.startswith("rdma:"):
                raise QmpError("RDMA ERROR: could not create CM channel")  # noqa: TRY301 - as the others
            uri = self._descriptors.outgoing(uri)
            if uri.startswith("file:"):
                _try_to_create(uri)
        except QmpError as error:
            self._fail_at_once(str(error))
            raise
        return uri

    def _new_outgoing(self, uri: str, begun: Event) -> Outgoing | None:
        """Make one; None if it has failed already, which is no error of the command."""
        try:
            return Outgoing(
                self.machine,
                uri,
                pause_before_switchover=self.capabilities["pause-before-switchover"],
                parameters=self._live_parameters(),
                link=self._link,
                takeover="qemu",
                on_status=lambda _, status: self._note_status(begun, status),
            )
        except AddressError as error:
            self._fail_at_once(str(error).partition(": it has to be")[0])
            return None

    def _fail_at_once(self, why: str) -> None:
        self._outgoing, self._refused, self._reached = None, why, MigrationStatus.SETUP
        for status in (MigrationStatus.SETUP, MigrationStatus.FAILING, MigrationStatus.FAILED):
            self.machine.emit("migrate_set_state", new_state=str(status))
            self.machine.announce("MIGRATION", status=str(status))

    def _note_status(self, begun: Event, status: MigrationStatus) -> None:
        if status in _REACHED:
            self._reached = status
        begun.set()  # by any status: who is cancelled, or fails, before the set-up never gets there

    def _heard(self, name: str, data: Mapping[str, Any]) -> None:
        incoming = self._incoming
        if name != "MIGRATION" or data.get("status") != MigrationStatus.FAILED or incoming is None:
            return
        if incoming.status is MigrationStatus.FAILED and self.exit_on_error and not self.running:
            self._on_failed_incoming(self._incoming_words or ("load of migration failed",))


def _as_refused(blocker: str) -> str:
    """Give a reason in the words that `migrate` has for it, which are others for a device without a state to save."""
    place = blocker.removeprefix(_NO_STATE)
    return blocker if place == blocker else f"State blocked by non-migratable device '{place}'"


def _try_to_create(uri: str) -> None:
    """Find out now whether a file can be written to, as its answer comes before the migration's thread has begun."""
    path = getattr(parse_uri(uri), "path", "")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o660))
    except OSError as error:
        raise QmpError(f"Could not create '{path}': {os.strerror(error.errno or errno.EIO)}") from error
