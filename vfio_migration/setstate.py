"""Setting a device's state, with recovery and reset: QEMU's side (`vfio_migration_set_state`)."""

from vfio_migration.device import VFIODevice
from vfio_migration.errors import DeviceLostError
from vfio_migration.states import DeviceState, transition_path
from vmstate import Machine
from vmstate.log import get_logger


class StateSetter:
    """
    What QEMU knows of a device's state, and the only way to change it.

    Guarantees:
    - After `set_state` the device is in the state asked for, in the recover state, RUNNING after a reset,
      or lost; `device_state` says which.
    - A lost device is asked nothing any more.

    The thread that changes the state is handed on, never shared: setup, handlers and saving run under the
    big lock, and a state-change thread runs while its launcher waits for it.
    """

    def __init__(self, machine: Machine, vfio_device: VFIODevice) -> None:
        self._machine = machine
        self._device = vfio_device
        self._backend = vfio_device.backend
        self.device_state = DeviceState.RUNNING

    @property
    def lost(self) -> bool:
        """Whether the device failed so badly that not even a reset helped."""
        return self.device_state is DeviceState.ERROR

    def set_state(self, new: DeviceState, recover: DeviceState) -> None:
        """
        Bring the device to `new`; if that fails, to `recover`, or reset it where that is ERROR.

        Asking for the current state does nothing. The first error is raised, whatever recovering did.

        Raises:
            DeviceLostError: the device is lost, from now on or from before.
            OSError: the device failed; or whatever else its backend raised.

        """
        self._machine.emit(
            "vfio_migration_set_state", name=self._device.id, new_state=new.name, recover_state=recover.name
        )
        if self.lost:
            raise DeviceLostError(f"device {self._device.id!r} is lost and cannot go to {new.name}: take it away")
        if new is self.device_state:
            return
        try:
            self._walk(new)
        except BaseException as error:
            self._recover(recover, error)
            raise
        self._record(new)

    def set_state_or_reset(self, new: DeviceState) -> None:
        """Bring the device to `new`, or reset it; raises as `set_state`."""
        self.set_state(new, DeviceState.ERROR)

    def reset(self) -> None:
        """
        Reset the device: it is RUNNING then, its state is gone.

        Raises:
            DeviceLostError: that failed, or the device is lost from before.

        """
        if self.lost:
            raise DeviceLostError(f"device {self._device.id!r} is lost and cannot be reset: take it away")
        try:
            self._backend.reset()
        except BaseException as error:
            self.device_state = DeviceState.ERROR
            _log.error("device lost", machine=self._machine.name, device=self._device.id, error=str(error))
            raise DeviceLostError(f"device {self._device.id!r} is lost: its reset failed: {error}") from error
        self._record(DeviceState.RUNNING)

    def _walk(self, new: DeviceState) -> None:
        """Go arc by arc, as the kernel does between QEMU and the driver."""
        name, depth = self._device.id, self._device.device.depth
        for target in transition_path(self._backend.state, new, self._backend.flags):
            arc = {"name": name, "depth": depth, "current": self._backend.state.name, "target": target.name}
            self._machine.emit("vfio_arc_begin", **arc)
            try:
                self._backend.set_arc(target)
            except BaseException as error:
                self._machine.emit("vfio_arc_end", **arc, error=str(error))
                raise
            self._machine.emit("vfio_arc_end", **arc, error="")

    def _recover(self, recover: DeviceState, error: BaseException) -> None:
        if recover is not DeviceState.ERROR:
            try:
                self._walk(recover)
            except Exception as second:  # noqa: BLE001 - any failure leads to the reset
                _log.warning(
                    "recovering failed, resetting the device",
                    machine=self._machine.name,
                    device=self._device.id,
                    recover_state=recover.name,
                    error=str(second),
                )
            else:
                self._record(recover)
                return
        try:
            self.reset()
        except DeviceLostError as lost:
            raise DeviceLostError(f"{lost}; it was reset because of: {error}") from error

    def _record(self, state: DeviceState) -> None:
        self.device_state = state
        self._machine.emit("vfio_migration_set_device_state", name=self._device.id, state=state.name)
        if self._device.migration_events:
            self._machine.announce(
                "VFIO_MIGRATION",
                device_id=self._device.id,
                qom_path=f"/machine/peripheral/{self._device.id}",
                device_state=state.qapi,
            )


_log = get_logger("vfio_migration.setstate")
