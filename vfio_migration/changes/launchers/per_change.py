"""A new thread for each change: the patch's way."""

import threading

from vfio_migration.changes.launchers.base import Launch
from vmstate import Clock


class PerChangeLauncher:
    """Starts a thread at each launch, which ends with its work."""

    def __init__(self, clock: Clock, device: str = "") -> None:
        self._clock = clock
        self._thread: threading.Thread | None = None

    def start(self, launch: Launch) -> None:
        """Start a thread of the launch's name."""
        self._thread = self._clock.start_thread(launch.run, launch.name)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end."""
        if self._thread is not None:
            if not self._clock.join(self._thread, timeout):
                return False
            self._thread = None
        return True

    def abandon(self) -> None:
        """Leave the thread to itself."""
        self._thread = None

    def close(self) -> None:
        """Do nothing: no thread outlives its work."""
