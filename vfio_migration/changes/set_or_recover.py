"""
Setting a device's state, with recovery and reset: QEMU's side (`vfio_migration_set_state`).

What QEMU has *recorded* of a device and what the device is in are two things: a reset from outside changes the device
and not the record. So are the transfer session that QEMU keeps and the one that the device is in (the kernel's
`data_fd`); that is how a reset in pre-copy shows.
"""

import threading
from functools import cache
from typing import NamedTuple

from vfio_migration.changes.transfer_session import TransferSession
from vfio_migration.device import DeviceState, MigrationFlags, VFIODevice, transition_path
from vfio_migration.errors import DeviceLostError, NotArrivedError, VFIOMigrationError
from vfio_migration.wording import arc_name
from vmstate import Machine, RunState, get_logger


class StaleChangeError(VFIOMigrationError):
    """A change came back that had been given up: whatever it did counts for nothing."""


class Arc(NamedTuple):
    """An arc that a device is on."""

    current: DeviceState
    target: DeviceState

    def __str__(self) -> str:
        return arc_name(*self)


class StateSetter:
    """
    What QEMU knows of a device's state, and the only way to change it.

    Guarantees:
    - After `set_state` the device is in the state asked for, in the recover state, RUNNING after a reset,
      or lost; `device_state` says which.
    - A lost device is asked nothing any more.
    - What is read belongs to the transfer session that was opened first and is not over: else it is an error.
    - What a change does that was given up by `lose` is dropped when it comes back.
    - The state of a device that was reset when its guest could not notice is not saved, until it runs again.

    The thread that changes the state is handed on, never shared: setup, handlers and saving run under the
    big lock, and a state-change thread runs while its launcher waits for it. Only a change that was given
    up may come back at any time; `_lock` guards what it must not touch then.
    """

    def __init__(self, machine: Machine, vfio_device: VFIODevice) -> None:
        self._machine = machine
        self._device = vfio_device
        self._backend = vfio_device.backend
        self.session = TransferSession(vfio_device.id)
        self._lock = threading.Lock()
        self._device_state = DeviceState.RUNNING
        self._recoveries = 0  # by a reset
        self._void = False  # reset behind its guest's back, and not run by it since
        self._given_up = 0  # how many changes were
        self._arc: Arc | None = None

    @property
    def device_state(self) -> DeviceState:
        """The state that QEMU believes the device to be in; ERROR: it is lost."""
        with self._lock:
            return self._device_state

    @property
    def lost(self) -> bool:
        """Whether the device failed so badly that not even a reset helped, or was given up."""
        return self.device_state is DeviceState.ERROR

    @property
    def arc(self) -> Arc | None:
        """The arc that the device is on now."""
        with self._lock:
            return self._arc

    @property
    def recoveries(self) -> int:
        """How often the device was recovered by a reset, and so has lost its state."""
        with self._lock:
            return self._recoveries

    def set_state(self, new: DeviceState, recover: DeviceState) -> None:
        """
        Bring the device to `new`; if that fails, to `recover`, or reset it where that is ERROR.

        Asking for the current state does nothing. The first error is raised, whatever recovering did.

        Raises:
            DeviceLostError: the device is lost, from now on or from before.
            StaleChangeError: the change was given up meanwhile.
            OSError: the device failed; or whatever else its backend raised.

        """
        with self._lock:
            ticket, state = self._given_up, self._device_state
        if self._machine.traced:
            self._machine.emit(
                "vfio_migration_set_state", name=self._device.id, new_state=new.name, recover_state=recover.name
            )
        if state is DeviceState.ERROR:
            raise DeviceLostError(f"device {self._device.id!r} is lost and cannot go to {new.name}: take it away")
        # It is to run with whatever state it has, also after a reset; or is about to be given another.
        anew = new in (DeviceState.RUNNING, DeviceState.RESUMING)
        if new is state:
            self._mark(void=False if anew else None)
            return
        if new is DeviceState.PRE_COPY_P2P:
            self._announce("pre-copy-p2p-prepare")
        try:
            self._walk(new, ticket)
        except StaleChangeError:
            raise
        except BaseException as error:
            try:
                self._recover(recover, error, ticket)
            finally:
                self._mark(void=False if anew else None)
            raise
        self._record(new, ticket)
        self._mark(void=False if anew else None)
        self.session.keep()

    def set_state_or_reset(self, new: DeviceState) -> None:
        """Bring the device to `new`, or reset it; raises as `set_state`."""
        self.set_state(new, DeviceState.ERROR)

    def check_worth_saving(self) -> None:
        """
        Raise unless the device has the state that its guest knows.

        Raises:
            OSError: ENODEV: it is no longer in the session that was opened first.
            VFIOMigrationError: it was reset when its guest could not notice.

        """
        self.session.check()
        with self._lock:
            void = self._void
        if void:
            raise VFIOMigrationError(
                f"device {self._device.id!r} was reset after its guest had stopped: its state is gone, and not sent"
            )

    def read(self, size: int) -> bytes:
        """Read of the session that was opened first; raises OSError (ENODEV) if the device is no longer in it."""
        self.session.check()
        return self._backend.read(size)

    def write(self, data: bytes) -> None:
        """
        Write into the session that was opened first; raises OSError (ENODEV) if the device is no longer in it.

        Raises:
            StaleChangeError: whoever waited for this has given it up, and the device with it.

        """
        if self.lost:
            raise StaleChangeError(f"device {self._device.id!r} was given up while it was loaded")
        self.session.check()
        self._backend.write(data)

    def reset_unrecorded(self) -> None:
        """
        Reset the device behind QEMU's back, as a reset of the machine does: the record stays as it is.

        One whose reset fails is lost.
        """
        if self.lost:
            return
        try:
            self._backend.reset()
        except BaseException as error:
            self.lose(f"its reset failed: {error!r}" if not str(error) else f"its reset failed: {error}")
            if not isinstance(error, Exception):
                raise
        else:
            self.session.end()
            if self._machine.run_state is RunState.FINISH_MIGRATE:  # else the guest boots anew, and the device with it
                self._mark(void=True)

    def reset(self) -> None:
        """
        Reset the device: it is RUNNING then, its state is gone.

        Raises:
            DeviceLostError: that failed, or the device is lost from before.

        """
        if self.lost:
            raise DeviceLostError(f"device {self._device.id!r} is lost and cannot be reset: take it away")
        self._reset(self._ticket())

    def lose(self, why: str) -> DeviceLostError:
        """Give up the change that is under way, and the device with it; gives the error to report."""
        with self._lock:
            self._given_up += 1
            self._device_state = DeviceState.ERROR
        _log.error("device lost", machine=self._machine.name, device=self._device.id, error=why)
        return DeviceLostError(f"device {self._device.id!r} is lost: {why}")

    def _mark(self, *, void: bool | None) -> None:
        """Note whether the guest knows the state that the device has; None: as before."""
        if void is not None:
            with self._lock:
                self._void = void

    def _ticket(self) -> int:
        """Give what a change shows to prove that it was not given up."""
        with self._lock:
            return self._given_up

    def _walk(self, new: DeviceState, ticket: int) -> None:
        """Go arc by arc, as the kernel does between QEMU and the driver."""
        backend = self._backend
        for arc in _arcs(backend.state, new, backend.flags):
            self._begin_arc(arc)
            failure = ""
            try:
                backend.set_arc(arc.target)
                self._check_arrival(arc)
            except BaseException as error:
                failure = str(error) or type(error).__name__
                raise
            finally:
                self._end_arc(arc, failure, ticket)
            self.session.follow(*arc)

    def _check_arrival(self, arc: Arc) -> None:
        state = self._backend.state
        if state is not arc.target:
            raise NotArrivedError(
                f"the backend of device {self._device.id!r} came back from {arc} and says that it is in "
                f"{getattr(state, 'name', state)}: set_arc() has to return when the device is there, or raise"
            )

    def _begin_arc(self, arc: Arc) -> None:
        with self._lock:
            self._arc = arc
        if self._machine.traced:
            self._emit_arc("vfio_arc_begin", arc)

    def _end_arc(self, arc: Arc, failure: str, ticket: int) -> None:
        with self._lock:
            self._check(ticket)
            self._arc = None
        if self._machine.traced:
            self._emit_arc("vfio_arc_end", arc, error=failure)

    def _emit_arc(self, event: str, arc: Arc, **more: str) -> None:
        self._machine.emit(
            event,
            name=self._device.id,
            depth=self._device.device.depth,
            current=arc.current.name,
            target=arc.target.name,
            **more,
        )

    def _recover(self, recover: DeviceState, error: BaseException, ticket: int) -> None:
        fatal: BaseException | None = None
        if recover is not DeviceState.ERROR:
            try:
                self._walk(recover, ticket)
            except StaleChangeError:
                raise
            except BaseException as second:  # noqa: BLE001 - any failure leads to the reset
                fatal = None if isinstance(second, Exception) else second
                _log.warning(
                    "recovering failed, resetting the device",
                    machine=self._machine.name,
                    device=self._device.id,
                    recover_state=recover.name,
                    error=str(second),
                )
            else:
                self._record(recover, ticket)
                return
        try:
            self._reset(ticket)
        except DeviceLostError as lost:
            raise DeviceLostError(f"{lost}; it was reset because of: {error}") from error
        with self._lock:
            self._recoveries += 1
            self._void = True
        _log.warning(
            "device reset, its guest's state is lost",
            machine=self._machine.name,
            device=self._device.id,
            error=str(error) or type(error).__name__,
        )
        if fatal is not None:
            raise fatal
        self._machine.emit("vfio_device_reset", name=self._device.id, error=str(error))

    def _reset(self, ticket: int) -> None:
        try:
            self._backend.reset()
        except BaseException as error:
            with self._lock:
                self._check(ticket)
            raise self.lose(f"its reset failed: {error}") from error
        self.session.end()
        self._record(DeviceState.RUNNING, ticket)

    def _record(self, state: DeviceState, ticket: int) -> None:
        with self._lock:
            self._check(ticket)
            self._device_state = state
        if self._machine.traced:
            self._machine.emit("vfio_migration_set_device_state", name=self._device.id, state=state.name)
        self._announce(state.qapi)

    def _announce(self, state: str) -> None:
        if self._device.migration_events:
            self._machine.announce(
                "VFIO_MIGRATION",
                device_id=self._device.id,
                qom_path=f"/machine/peripheral/{self._device.id}",
                device_state=state,
            )

    def _check(self, ticket: int) -> None:
        if ticket != self._given_up:
            raise StaleChangeError(f"a change of device {self._device.id!r} came back after it had been given up")


@cache
def _arcs(current: DeviceState, target: DeviceState, flags: MigrationFlags) -> tuple[Arc, ...]:
    """Give the arcs from one state to another."""
    path = transition_path(current, target, flags)
    return tuple(map(Arc, (current, *path), path))


_log = get_logger("vfio_migration.changes.set_or_recover")
