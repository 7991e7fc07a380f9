"""
What a device with pre-copy has to send before its machine may be stopped, where that is to be acknowledged.

The initial bytes are those without which the other side could not get ready in time (uAPI
`vfio_precopy_info.initial_bytes`, QEMU's capability `switchover-ack`).
"""

from collections.abc import Callable

from vfio_migration.device import DeviceBackend
from vfio_migration.errors import VFIOMigrationError


class InitialAcks:
    """
    How many acknowledgements are to be awaited for one device, and whether the next was asked for on the stream.

    A backend without `initial_pending` has no initial bytes. Lives in the source's thread.
    """

    def __init__(self, device: str, backend: DeviceBackend) -> None:
        self._device = device
        self._pending: Callable[[], int] = getattr(backend, "initial_pending", _none)
        self.asked = 0
        self._sent = False

    def begin(self) -> None:
        """Note that pre-copy begins: one acknowledgement is due."""
        self.asked = 1
        self._sent = False

    @property
    def owed(self) -> bool:
        """Whether the other side has not been told yet that the initial bytes are gone."""
        return self.asked > 0 and not self._sent

    def sent(self) -> bool:
        """Say whether the initial bytes are gone now, and the other side is to be told so: once for each time."""
        if not self.owed or self._pending():
            return False
        self._sent = True
        return True

    def look_again(self) -> None:
        """See whether the device has initial bytes anew (uAPI `VFIO_PRECOPY_INFO_REINIT`): one more is due then."""
        if self._sent and self._pending():
            self.asked += 1
            self._sent = False

    def refuse_another(self) -> None:
        """
        See to it that the device has none once its machine is stopped.

        Raises:
            VFIOMigrationError: it has; nobody could wait for the acknowledgement any more.

        """
        if self._sent and self._pending():
            raise VFIOMigrationError(
                f"device {self._device!r} asks for another switchover acknowledgement during the switchover"
            )


def _none() -> int:
    return 0
