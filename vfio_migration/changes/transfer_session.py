"""The transfer sessions of a device: the one that it is in, and the one that QEMU keeps (the kernel's `data_fd`)."""

import errno
import threading

from vfio_migration.device import SAVING, DeviceState


class TransferSession:
    """
    Follows a device's arcs; `_lock` guards all fields, since an arc that was given up may end at any time.

    Entering a saving state from outside, or RESUMING, opens a session. It lives through the saving states and ends with
    any other state and with a reset. QEMU keeps the session that it was given first until it closes it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._opened = 0  # so far
        self._live: int | None = None
        self._kept: int | None = None

    def follow(self, current: DeviceState, target: DeviceState) -> None:
        """Note that the device has walked an arc."""
        with self._lock:
            if target is DeviceState.RESUMING or (target in SAVING and current not in SAVING):
                self._opened += 1
                self._live = self._opened
            elif target not in SAVING:
                self._live = None

    def end(self) -> None:
        """Note that the device was reset."""
        with self._lock:
            self._live = None

    def keep(self) -> None:
        """
        Keep the session that the device is in, if it is another than before.

        Raises:
            OSError: EBADF: one was kept already and never closed (QEMU's `vfio_migration_set_state`).

        """
        with self._lock:
            if self._live is None or self._live == self._kept:
                return
            if self._kept is None:
                self._kept = self._live
                return
            self._live = None  # QEMU closes the new descriptor
        raise OSError(
            errno.EBADF,
            f"data_fd out of sync: device {self._device!r} was reset, or stopped and started, since its transfer began",
        )

    def check(self) -> None:
        """
        Raise unless the session that is kept is the one that the device is in.

        Raises:
            OSError: ENODEV, as the kernel answers a read of a session that has ended.

        """
        with self._lock:
            if self._kept is not None and self._kept == self._live:
                return
        raise OSError(
            errno.ENODEV, f"the transfer of device {self._device!r} has ended: it was reset, or stopped and started"
        )

    def close(self) -> None:
        """Let go of the session that is kept (QEMU's `vfio_migration_cleanup`)."""
        with self._lock:
            self._kept = None
