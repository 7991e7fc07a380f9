"""What a VFIO device does when its machine starts or stops: QEMU's `vfio_vmstate_change[_prepare]`."""

from vfio_migration.changes.set_or_recover import StaleChangeError, StateSetter
from vfio_migration.device import DeviceState, VFIODevice
from vfio_migration.errors import named
from vmstate import ClockError, Machine, PassKind, RunState, fails_a_test, get_logger

# QEMU's names, of the trace events and of the threads.
NAMES = {PassKind.PREPARE: "vfio_vmstate_change_prepare", PassKind.MAIN: "vfio_vmstate_change"}

_PRECOPY = (DeviceState.PRE_COPY, DeviceState.PRE_COPY_P2P)
_TO_STOP_COPY = (RunState.FINISH_MIGRATE, RunState.PAUSED)


class StateChange:
    """The work of a device's handlers; in which thread it is done is nobody's business here."""

    def __init__(self, machine: Machine, vfio_device: VFIODevice, setter: StateSetter) -> None:
        self._machine = machine
        self._device = vfio_device
        self._setter = setter

    def change(self, kind: PassKind, running: bool, state: RunState) -> None:
        """Do what the device has to do in this pass; an error of the device is reported, not raised."""
        self.announce("vfio_change_begin", kind)
        try:
            self._change(kind, running, state)
        except StaleChangeError:
            return  # given up long ago; nobody waits for it
        self.announce("vfio_change_end", kind)

    def announce(self, event: str, kind: PassKind) -> None:
        """Announce a trace event of the device in this pass."""
        if self._machine.traced:
            self._machine.emit(event, name=self._device.id, depth=self._device.device.depth, kind=str(kind))

    def _change(self, kind: PassKind, running: bool, state: RunState) -> None:
        new = self._prepared() if kind is PassKind.PREPARE else self._changed(running, state)
        try:
            self._setter.set_state_or_reset(new)
        except (ClockError, StaleChangeError):
            raise
        except BaseException as error:
            self._report(kind, error, state)
            if not isinstance(error, Exception):
                raise  # meant for whoever runs the machine: raised with what other handlers raise
        if self._machine.traced:
            self._machine.emit(
                NAMES[kind], name=self._device.id, running=int(running), reason=str(state), dev_state=new.name
            )

    def give_up(self, kind: PassKind, state: RunState, why: str) -> None:
        """Go on without the device; `why` says what became of its change of this pass."""
        self._report(kind, self._setter.lose(f"{self.what_it_does(kind)} {why}"), state)

    def what_it_does(self, kind: PassKind) -> str:
        """Say what the device is at, for people."""
        arc = self._setter.arc
        return f"{NAMES[kind]}{f', {arc},' if arc is not None else ''}"

    def _prepared(self) -> DeviceState:
        if self._setter.device_state is DeviceState.PRE_COPY:
            return DeviceState.PRE_COPY_P2P
        return DeviceState.RUNNING_P2P

    def _changed(self, running: bool, state: RunState) -> DeviceState:
        if running:
            return DeviceState.RUNNING
        if self._setter.device_state in _PRECOPY and state in _TO_STOP_COPY:
            return DeviceState.STOP_COPY
        return DeviceState.STOP

    def _report(self, kind: PassKind, error: BaseException, state: RunState) -> None:
        """Tell the migration that is under way, if this change can be part of it, and the log always."""
        _log.error(
            "device state change failed",
            machine=self._machine.name,
            device=self._device.id,
            change=NAMES[kind],
            reason=str(state),
            error=str(error),
        )
        attempt = self._machine.attempt
        if attempt is not None and state is not RunState.SHUTDOWN:
            attempt.note_error(named(error, self._device.id, f"{NAMES[kind]} of machine {self._machine.name!r}"))
            if fails_a_test(error):
                attempt.keep_error(error)


_log = get_logger("vfio_migration.changes.prepare_and_main")
