"""Migrating one machine into another: at once, or as something that can be watched and steered."""

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import Any, get_args

from vfio_migration.device import DeviceState
from vfio_migration.errors import MigrationRefusedError, TakeoverUnknownError, WrongStatusError
from vfio_migration.live.control import Control
from vfio_migration.live.destination import Destination
from vfio_migration.live.info import MigrationInfo, RamInfo
from vfio_migration.live.parameters import Link, MigrationParameters
from vfio_migration.live.ram import Ram
from vfio_migration.live.report import MigrationReport
from vfio_migration.live.source import Source, Takeover
from vfio_migration.live.status import MigrationStatus
from vfio_migration.registered import VFIOMigration, devices_of
from vmstate import (
    NS_PER_SECOND,
    WINDOW,
    CallbackErrors,
    Channel,
    ClockError,
    Machine,
    RunState,
    VmStateError,
    channel_pair,
    finite_or_none,
)


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
    with source.clock.taking_part():
        migration.start()
        try:
            migration.wait_for_end()
        except KeyboardInterrupt:
            # In a thread of its own: to cancel may have to wait for the big lock, and a second Ctrl-C leaves at once
            # without taking that back.
            canceller = source.clock.start_thread(migration.cancel, "mig/cancel")
            report = migration.wait()
            source.clock.join(canceller)
            return replace(report, interrupted=True)
        return migration.wait()


_CAPABILITIES = {"return_path", "switchover_ack", "multifd_channels"}


class Migration:
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
        if takeover not in get_args(Takeover):
            raise ValueError(f"takeover is one of {', '.join(map(repr, get_args(Takeover)))}; got {takeover!r}")
        self._takeover: Takeover = takeover
        self._parameters = parameters if parameters is not None else MigrationParameters()
        self._link = link
        self._answer_timeout_s = finite_or_none(answer_timeout_s)
        self._raised = CallbackErrors()
        self._source_machine = source
        self._destination_machine = destination
        self._machines = source, destination
        self._recoveries: list[dict[str, int]] = []
        self._clock = source.clock
        self._pause = pause_before_switchover
        self._sockets = sockets
        self._on_status = on_status
        self._control: Control | None = None
        self._source: Source | None = None
        self._destination: Destination | None = None
        self._channels: list[Channel] = []  # both ends of each
        self._threads: list[threading.Thread] = []  # destination, source
        self._over = source.clock.event("the end of the migration")

    @property
    def status(self) -> MigrationStatus:
        """How the migration stands, as its source sees it."""
        return self._control.status if self._control is not None else MigrationStatus.NONE

    @property
    def error(self) -> BaseException | None:
        """The first error, if there was one."""
        return self._control.error if self._control is not None else None

    def start(self) -> None:
        """
        Start migrating, in threads of its own; once only.

        Raises:
            MigrationRefusedError: these machines cannot be migrated like this; nothing was changed.
            RuntimeError: the system has no threads for it.

        """
        if self._control is not None:
            raise MigrationRefusedError("a migration is started once: make another one to try again")
        with self._clock.taking_part():
            self._refuse()
            self._prepare()
            try:
                self._threads.append(self._clock.start_thread(self._run_destination, "mig/dst/main"))
                self._threads.append(self._clock.start_thread(self._run_source, "mig/src/main"))
            except BaseException:
                self._abandon()
                raise

    def cancel(self) -> bool:
        """
        Cancel the migration; False if it is over, or the destination may be running already (QMP `migrate_cancel`).

        Waits for the big lock of the source, as a command of QEMU's monitor does, and so for the end of a stop.
        """
        return self._control is not None and self._control.cancel()

    @property
    def parameters(self) -> MigrationParameters:
        """The parameters as they are now."""
        return self._control.parameters if self._control is not None else self._parameters

    def set_parameters(self, **changes: Any) -> None:
        """
        Change parameters, also while the migration goes on (QMP `migrate-set-parameters`); waits for the big lock.

        Raises:
            ValueError: a value makes no sense, or there is no such parameter.
            WrongStatusError: QEMU has it as a capability, and the migration was started.

        """
        settled = sorted(_CAPABILITIES & set(changes))
        if settled and self._control is not None:
            raise WrongStatusError(f"{settled[0]!r} cannot be changed once the migration was started")
        unknown = sorted(set(changes) - {field.name for field in fields(MigrationParameters)})
        if unknown:
            raise ValueError(f"there is no parameter {unknown[0]!r}")
        self._parameters = replace(self.parameters, **changes)
        if self._control is not None:
            self._control.set_parameters(self._parameters)

    def continue_(self) -> None:
        """
        Let a migration go on that waits in `pre-switchover` (QMP `migrate-continue`).

        Raises:
            WrongStatusError: it does not wait there; nothing is remembered.

        """
        if self._control is None:
            raise WrongStatusError("Migration not in expected state: none; it was not started")
        self._control.let_go_on()

    def info(self) -> MigrationInfo:
        """Say how it stands (QMP `query-migrate`); at any time, from any thread."""
        control, source = self._control, self._source
        if control is None or source is None:
            return MigrationInfo(MigrationStatus.NONE, self._parameters)
        migratables = self._source_machine.migratables
        ram = next((each for each in migratables if isinstance(each, Ram)), None)
        now = source.ended_ns if source.ended_ns is not None else self._clock.now()
        stopped = source.switchover.stop_told_ns is not None
        expected = source.remaining / source.measured if source.measured and not stopped else None
        return MigrationInfo(
            status=control.status,
            parameters=control.parameters,
            error=control.error,
            setup_s=_seconds(source.setup_began_ns, source.active_ns),
            total_s=_seconds(source.setup_began_ns, now),
            downtime_s=_seconds(source.switchover.stop_told_ns, source.switchover.downtime_end_ns),
            expected_downtime_s=expected,
            remaining=source.remaining,
            bandwidth=source.measured,
            ram=None if ram is None else RamInfo(ram.size, ram.sent, ram.pending(), source.exact_queries),
            vfio_transferred=sum(each.transferred for each in devices_of(self._source_machine)),
        )

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
        self.wait_for_end(timeout)
        self._raised.raise_first()
        return self._report()

    def wait_for_end(self, timeout: float | None = None) -> None:
        """Wait for the end, and report nothing; raises as `wait` but for what callbacks raised."""
        if self._control is None:
            raise MigrationRefusedError("the migration was not started")
        for machine in (self._source_machine, self._destination_machine):
            _refuse_thread(machine, "wait for the migration of")
        with self._clock.taking_part():
            # An event rather than a join: a Ctrl-C during a join would leave it unknown whether the thread lives.
            if not self._over.wait(finite_or_none(timeout)):
                raise TimeoutError(f"the migration is still '{self.status}' after {timeout} s")
            for thread in self._threads[1:] if self._waited_too_long else self._threads:
                self._clock.join(thread)

    @property
    def _waited_too_long(self) -> bool:
        """Whether the destination is not waited for any more: it did not answer in time, and may stall for ever."""
        error = self.error
        return isinstance(error, TakeoverUnknownError) and isinstance(error.__cause__, TimeoutError)

    def _prepare(self) -> None:
        self._destination_before = self._destination_machine.run_state
        # Where times are worked out, what is written is sent at once, and the source never waits for loading.
        eager = self._link is not None or any(map(_loads_slowly, devices_of(self._destination_machine)))
        name = f"stream {self._source_machine.name} -> {self._destination_machine.name}"
        there, here = self._connect(name, self._sockets, eager=eager)
        multifd = [
            self._connect(f"multifd channel {number} of {name}", None, eager=eager)
            for number in range(self._parameters.multifd_channels)
        ]
        self._channels = [there, here, *(end for pair in multifd for end in pair)]
        destination = Destination(
            self._destination_machine,
            here,
            self._raised,
            self._takeover,
            parameters=self._parameters,
            multifd=[end for _, end in multifd],
        )
        announce = None if self._on_status is None else self._announce
        control = Control(self._source_machine, there.abort, announce, self._raised, self._parameters)
        self._recoveries = [_recoveries(machine) for machine in self._machines]
        self._tie_machines(control, destination)
        self._control = control
        self._destination = destination
        self._source = Source(
            self._source_machine,
            there,
            control,
            pause=self._pause,
            takeover=self._takeover,
            answer_timeout_s=self._answer_timeout_s,
            link=self._link,
            eager=eager,
            multifd=[end for end, _ in multifd],
        )

    def _connect(
        self, name: str, sockets: tuple[socket.socket, socket.socket] | None, *, eager: bool
    ) -> tuple[Channel, Channel]:
        latency_s = self._link.latency_s if self._link is not None else 0.0
        return channel_pair(self._clock, name, sockets, latency_s=latency_s, window=None if eager else WINDOW)

    def _tie_machines(self, control: Control, destination: Destination) -> None:
        """Tie both machines to this migration, or neither."""
        with ExitStack() as undo:
            for channel in self._channels:
                undo.callback(channel.close)
            try:
                self._source_machine.begin_attempt(control)
                undo.callback(self._source_machine.end_attempt)
                self._destination_machine.begin_attempt(destination)
                undo.callback(self._destination_machine.end_attempt)
                self._destination_machine.prepare_incoming()
            except VmStateError as error:
                raise MigrationRefusedError(str(error)) from error
            undo.pop_all()

    def _join_destination(self) -> None:
        """Wait for the destination's thread, for real if its world stands: until then nobody knows who runs."""
        try:
            self._clock.join(self._threads[0])
        except ClockError:
            self._threads[0].join()

    def _abandon(self) -> None:
        """Undo a start for which there were not enough threads."""
        for channel in self._channels:
            channel.abort()
        if self._threads:
            self._clock.join(self._threads[0])
        else:
            self._destination_machine.end_attempt()
        self._source_machine.end_attempt()
        for channel in self._channels:
            channel.close()
        self._control = self._source = self._destination = None  # as if it had never been started
        self._threads.clear()
        if self._destination_before is not self._destination_machine.run_state:
            self._destination_machine.set_run_state(self._destination_before)

    def _run_destination(self) -> None:
        assert self._destination is not None  # noqa: S101 - set before the thread is started
        self._destination.run()

    def _run_source(self) -> None:
        assert self._source is not None  # noqa: S101 - set before the thread is started
        try:
            self._source.run()
            if not self._waited_too_long:
                self._join_destination()
            if self._control is not None:
                self._control.settle()
        finally:
            self._over.set()

    def _announce(self, status: MigrationStatus) -> None:
        if self._on_status is not None:
            self._on_status(self, status)

    def _report(self) -> MigrationReport:
        control, source, destination = self._control, self._source, self._destination
        assert control is not None and source is not None and destination is not None  # noqa: S101, PT018
        switchover = source.switchover
        return MigrationReport(
            status=control.status,
            error=control.error,
            source_state=self._source_machine.run_state,
            destination_state=self._destination_machine.run_state,
            destination_status=destination.status,
            source_stop_s=_seconds(switchover.stop_told_ns, switchover.saving_ns),
            transfer_s=_seconds(switchover.saving_ns, switchover.sent_ns),
            destination_start_s=_seconds(switchover.sent_ns, destination.running_ns),
            setup_s=_seconds(source.setup_began_ns, source.active_ns),
            total_s=_seconds(source.setup_began_ns, source.ended_ns),
            downtime_s=_seconds(switchover.stop_told_ns, switchover.downtime_end_ns),
            blackout_s=_seconds(switchover.stop_told_ns, destination.guest_runs_ns),
            bytes_sent=source.bytes_sent,
            stream_sha256=source.stream_sha256,
            precopy_rounds=source.precopy_rounds,
            lost_devices=_lost(self._source_machine),
            destination_lost_devices=_lost(self._destination_machine),
            reset_devices=self._reset_devices(0),
            destination_reset_devices=self._reset_devices(1),
            takeover=self._takeover,
            noted_state=None if source.noted is None else source.noted.run_state,
        )

    def _reset_devices(self, side: int) -> tuple[str, ...]:
        """Name the devices that were recovered by a reset since the migration began."""
        before, now = self._recoveries[side], _recoveries(self._machines[side])
        return tuple(device for device, times in now.items() if times > before.get(device, 0))

    def _refuse(self) -> None:
        source, destination = self._source_machine, self._destination_machine
        if source is destination:
            raise MigrationRefusedError(f"machine {source.name!r} cannot be migrated into itself")
        if source.clock != destination.clock:
            raise MigrationRefusedError("source and destination need the same clock: give it to both machines")
        for machine in (source, destination):
            _refuse_thread(machine, "migrate")
            _refuse_devices(machine)
        state = source.run_state
        if state in (RunState.INMIGRATE, RunState.POSTMIGRATE, RunState.FINISH_MIGRATE) or not (
            state.may_become(RunState.FINISH_MIGRATE) and RunState.FINISH_MIGRATE.may_become(state)
        ):
            raise MigrationRefusedError(f"machine {source.name!r} cannot be migrated in run state '{state}'")
        if destination.run_state.live:
            raise MigrationRefusedError(
                f"machine {destination.name!r} is '{destination.run_state}' and cannot become a destination: "
                "stop it first"
            )
        ours, theirs = ({each.id for each in machine.migratables} for machine in (source, destination))
        if ours != theirs:
            raise MigrationRefusedError(
                f"devices without a counterpart: {_names(ours - theirs)} of {source.name!r}, "
                f"{_names(theirs - ours)} of {destination.name!r}"
            )


def _refuse_thread(machine: Machine, what: str) -> None:
    """Refuse threads for which the migration would wait."""
    try:
        machine.big_lock.refuse_barred(what)
    except VmStateError as error:
        raise MigrationRefusedError(str(error)) from error
    if machine.big_lock.held:
        raise MigrationRefusedError(
            f"the calling thread holds the big lock of machine {machine.name!r}, for which the migration "
            "would wait: release it first; a handler cannot migrate its machine"
        )


def _refuse_devices(machine: Machine) -> None:
    devices = [each.vfio_device for each in devices_of(machine)]
    without = {device.id for device in devices if not device.p2p}
    if len(devices) > 1 and without:
        raise MigrationRefusedError(
            f"machine {machine.name!r} has {len(devices)} VFIO devices, which can only migrate together if all of "
            f"them have P2P; without it: {_names(without)}"
        )


def _lost(machine: Machine) -> tuple[str, ...]:
    return tuple(each.id for each in devices_of(machine) if each.device_state is DeviceState.ERROR)


def _loads_slowly(device: VFIOMigration) -> bool:
    """Whether it takes its time to load what arrives, so that every piece is to be sent as soon as it is there."""
    return bool(getattr(device.vfio_device.backend, "loads_slowly", False))


def _recoveries(machine: Machine) -> dict[str, int]:
    return {each.id: each.recoveries for each in devices_of(machine)}


def _names(ids: set[str]) -> str:
    return ", ".join(sorted(ids)) or "none"


def _seconds(start_ns: int | None, end_ns: int | None) -> float | None:
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) / NS_PER_SECOND
