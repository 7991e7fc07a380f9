"""The source's end of a migration: one attempt, its thread, and what steers it."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, get_args

from vfio_migration.errors import MigrationFailedError, MigrationRefusedError, WrongStatusError, described
from vfio_migration.live.connection import Connection, Connector
from vfio_migration.live.control import Control
from vfio_migration.live.ends import lost_devices, recoveries, refuse_devices, refuse_thread, reset_since, seconds
from vfio_migration.live.info import MigrationInfo, RamInfo
from vfio_migration.live.parameters import Link, MigrationParameters
from vfio_migration.live.ram import Ram
from vfio_migration.live.report import OutgoingReport
from vfio_migration.live.source import Source, Takeover
from vfio_migration.live.status import MigrationStatus
from vfio_migration.registered import devices_of
from vmstate import CallbackErrors, Machine, RegistrationError, RunState, finite_or_none, get_logger

_CAPABILITIES = {"return_path", "switchover_ack", "multifd_channels"}


class Sending:
    """
    One attempt to send a machine over whatever `connector` connects it to.

    `on_status` is called in the thread that takes a status. What callbacks raise is kept in `raised`. `eager`: what is
    written is sent at once, and the other side is never waited for, as where times are worked out.
    """

    def __init__(
        self,
        machine: Machine,
        connector: Connector,
        raised: CallbackErrors,
        *,
        pause: bool,
        parameters: MigrationParameters | None,
        link: Link | None,
        takeover: Takeover,
        answer_timeout_s: float | None,
        on_status: Callable[[MigrationStatus], object] | None,
        eager: bool,
    ) -> None:
        if takeover not in get_args(Takeover):
            raise ValueError(f"takeover is one of {', '.join(map(repr, get_args(Takeover)))}; got {takeover!r}")
        self.machine = machine
        self.takeover: Takeover = takeover
        self.control: Control | None = None
        self.source: Source | None = None
        self._connector = connector
        self._raised = raised
        self._pause = pause
        self._parameters = parameters if parameters is not None else MigrationParameters()
        self._link = link
        self._answer_timeout_s = finite_or_none(answer_timeout_s)
        self._on_status = on_status
        self._eager = eager
        self._recoveries: dict[str, int] = {}
        self._began_ns: int | None = None
        self._ended_ns: int | None = None

    @property
    def status(self) -> MigrationStatus:
        """How it stands."""
        control = self.control
        return control.status if control is not None else MigrationStatus.NONE

    @property
    def error(self) -> BaseException | None:
        """The first error, if there was one."""
        control = self.control
        return control.error if control is not None else None

    @property
    def parameters(self) -> MigrationParameters:
        """The parameters as they are now."""
        control = self.control
        return control.parameters if control is not None else self._parameters

    def refuse(self) -> None:
        """Raise MigrationRefusedError if the machine cannot be sent."""
        refuse_thread(self.machine, "migrate")
        refuse_devices(self.machine)
        state = self.machine.run_state
        if state in (RunState.INMIGRATE, RunState.POSTMIGRATE, RunState.FINISH_MIGRATE) or not (
            state.may_become(RunState.FINISH_MIGRATE) and RunState.FINISH_MIGRATE.may_become(state)
        ):
            raise MigrationRefusedError(f"machine {self.machine.name!r} cannot be migrated in run state '{state}'")

    def tie(self) -> None:
        """Tie the machine to this attempt."""
        with self.machine.big_lock:
            control = Control(self.machine, self._connector.abort, self._on_status, self._raised, self._parameters)
            try:
                self.machine.begin_attempt(control)
            except RegistrationError as error:
                raise MigrationRefusedError(str(error)) from error
            self.control = control
        self._recoveries = recoveries(self.machine)

    def untie(self) -> None:
        """Let go of the machine, as if it had never been started."""
        self.machine.end_attempt(self._controlled)
        self.control = None

    def run(self) -> None:
        """Send it, in a thread for that; everything is announced when this returns."""
        control = self._controlled
        clock = self.machine.clock
        self._began_ns = clock.now()
        try:
            control.advance(MigrationStatus.SETUP)
            connection = self._connector.connect()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the machine was not touched
            self._connector.close()  # cancelled before it came to that
            self._give_up(error)
            self._ended_ns = clock.now()
            self.machine.end_attempt(control)
            return
        self._send(connection)
        self._ended_ns = clock.now()

    def cancel(self) -> bool:
        """Cancel; see `Control.cancel`."""
        control = self.control
        return control is not None and control.cancel()

    def continue_(self) -> None:
        """Go on out of the pause before the switchover; raises WrongStatusError where it does not wait there."""
        control = self.control
        if control is None:
            raise WrongStatusError("Migration not in expected state: none; it was not started")
        control.let_go_on()

    def disconnect(self) -> None:
        """Cut the connection, whatever is going on."""
        self._connector.abort()

    def set_parameters(self, **changes: Any) -> None:
        """Change parameters; raises ValueError or WrongStatusError."""
        settled = sorted(_CAPABILITIES & set(changes))
        unknown = sorted(set(changes) - {field.name for field in fields(MigrationParameters)})
        with self.machine.big_lock:  # as every command of QEMU's monitor: two who change at once both count
            control = self.control
            if settled and control is not None:
                raise WrongStatusError(f"{settled[0]!r} cannot be changed once the migration was started")
            if unknown:
                raise ValueError(f"there is no parameter {unknown[0]!r}")
            self._parameters = replace(self.parameters, **changes)
            if control is not None:
                control.set_parameters(self._parameters)

    def info(self) -> MigrationInfo:
        """Say how it stands."""
        control, source = self.control, self.source
        if control is None:
            return MigrationInfo(MigrationStatus.NONE, self._parameters)
        now = self._ended_ns if self._ended_ns is not None else self.machine.clock.now()
        total_s = seconds(self._began_ns, now)
        if source is None:
            return MigrationInfo(control.status, control.parameters, error=control.error, total_s=total_s)
        ram = next((each for each in self.machine.migratables if isinstance(each, Ram)), None)
        stopped = source.switchover.stop_told_ns is not None
        expected = source.remaining / source.measured if source.measured and not stopped else None
        return MigrationInfo(
            status=control.status,
            parameters=control.parameters,
            error=control.error,
            setup_s=seconds(self._began_ns, source.active_ns),
            total_s=total_s,
            downtime_s=seconds(source.switchover.stop_told_ns, source.switchover.downtime_end_ns),
            expected_downtime_s=expected,
            remaining=source.remaining if source.switchover.sent_ns is None else 0,
            bandwidth=source.measured,
            ram=None if ram is None else RamInfo(ram.size, ram.sent, ram.pending(), source.exact_queries),
            vfio_devices=sum(1 for _ in devices_of(self.machine)),
            vfio_transferred=sum(each.transferred for each in devices_of(self.machine)),
            states_saved=source.switchover.states_saved,
        )

    def report(self) -> OutgoingReport:
        """Say how it ended."""
        source = self.source
        report = OutgoingReport(
            status=self.status,
            error=self.error,
            source_state=self.machine.run_state,
            total_s=seconds(self._began_ns, self._ended_ns),
            lost_devices=lost_devices(self.machine),
            reset_devices=reset_since(self.machine, self._recoveries),
            takeover=self.takeover,
        )
        if source is None:
            return report
        switchover = source.switchover
        return replace(
            report,
            source_stop_s=seconds(switchover.stop_told_ns, switchover.saving_ns),
            transfer_s=seconds(switchover.saving_ns, switchover.sent_ns),
            setup_s=seconds(self._began_ns, source.active_ns),
            downtime_s=seconds(switchover.stop_told_ns, switchover.downtime_end_ns),
            answered_s=seconds(switchover.sent_ns, source.answered_ns),
            bytes_sent=source.bytes_sent,
            stream_sha256=source.stream_sha256,
            precopy_rounds=source.precopy_rounds,
            noted_state=None if source.noted is None else source.noted.run_state,
        )

    @property
    def _controlled(self) -> Control:
        assert self.control is not None  # noqa: S101 - tied before it is run
        return self.control

    def _send(self, connection: Connection) -> None:
        self.source = source = Source(
            self.machine,
            connection,
            self._controlled,
            pause=self._pause,
            takeover=self.takeover,
            answer_timeout_s=self._answer_timeout_s,
            link=self._link,
            eager=self._eager,
        )
        source.run()

    def _give_up(self, error: BaseException) -> None:
        """End without a connection: QEMU says no `active` of a migration like that."""
        control = self._controlled
        self._raised.keep_what_fails_a_test(error)
        if isinstance(error, OSError):
            text = error.strerror or str(error)
            reason: BaseException = MigrationFailedError(text)
            reason.__cause__ = error
            error = reason
        cancelled = control.fail(error)
        if not cancelled:
            _log.error("migration failed", machine=self.machine.name, error=described(control.error or error))
        control.let_go()
        control.take(MigrationStatus.CANCELLED if cancelled else MigrationStatus.FAILED)


_log = get_logger("vfio_migration.live.sending")
