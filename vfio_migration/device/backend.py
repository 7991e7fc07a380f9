"""What drives a device: the protocol between the migration code and whatever stands for the hardware."""

from typing import Protocol, Self

from vfio_migration.device.state_machine import DeviceState, MigrationFlags
from vmstate import Clock

CHUNK = 1024 * 1024  # bytes read from a device at a time, and the most of its state that a part of the stream may hold


class StateBytes(bytes):
    """Bytes that a backend gives in `read`, of which `stands_for` are the device's state, and the others framing."""

    stands_for: int

    def __new__(cls, data: bytes, stands_for: int) -> Self:
        """Have these bytes stand for so many."""
        made = super().__new__(cls, data)
        made.stands_for = stands_for
        return made


class Counted(StateBytes):
    """
    A piece of a device's state of which only the size travels: `stands_for` bytes, and these in their place.

    A backend whose state nobody needs to see gives it in `read`, and gets it in `write` on the other side.
    """


class DeviceBackend(Protocol):
    """
    A device that can migrate, as the kernel's driver would show it.

    Failures are raised as OSError; the device then stays in the state that it was in, or is in ERROR.
    One thing at a time is asked of a device, but from changing threads. Waits go through the clock that
    `bind` gives.
    """

    @property
    def flags(self) -> MigrationFlags:
        """What the device can do; does not change."""
        ...

    @property
    def state(self) -> DeviceState:
        """The state that the device is in."""
        ...

    def bind(self, clock: Clock) -> None:
        """Become part of a machine; raises if the backend is part of one already."""
        ...

    def unbind(self) -> None:
        """Be taken away from the machine."""
        ...

    def set_arc(self, target: DeviceState) -> None:
        """Go to a state that is one arc away; returns when the device is there."""
        ...

    def pending(self) -> int:
        """Say how many bytes pre-copy could read now."""
        ...

    def read(self, size: int) -> bytes:
        """Give up to `size` bytes of state; b"" if there are no more (in PRE_COPY: no more now)."""
        ...

    def write(self, data: bytes) -> None:
        """Take bytes of state, in RESUMING."""
        ...

    # Optional, asked for by `getattr`, so that backends of one's own may leave them out:
    #
    # stop_size() -> int     how many bytes would have to be read if the device were stopped now (uAPI
    #                        `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`); without it, what `pending` says
    # load_config() -> None  load the configuration, under the big lock, when all data have been written
    # initial_pending() -> int  how many initial bytes pre-copy has still to send (uAPI `vfio_precopy_info`), on which
    #                        the acknowledgement of `switchover_ack` depends; without it, none
    # loads_slowly: bool     whether `write` takes time, so that the source sends each piece as soon as it has it

    def reset(self) -> None:
        """Bring the device to RUNNING from wherever it is, with its state lost."""
        ...
