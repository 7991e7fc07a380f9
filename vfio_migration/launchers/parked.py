"""A thread for each device that waits for work: launching it is one release, joining it one acquire."""

import threading

from vfio_migration.launchers.base import Launch
from vmstate import Clock, Lock


class ParkedLauncher:
    """
    Keeps a thread from the registration of its device until the device goes.

    `_go` and `_done` are held but for moments: releasing `_go` hands the thread a launch, releasing `_done` hands it
    back. Whoever holds the big lock writes `_launch` before the one and reads what came back after the other, so
    nothing is shared at any time. A thread whose launch is abandoned ends when it comes back.

    Raises:
        RuntimeError: no thread can be had.

    """

    def __init__(self, clock: Clock, device: str) -> None:
        self._clock = clock
        self._device = device
        self._pending = False
        self._work: _Work | None = _Work(clock, device)

    def start(self, launch: Launch) -> None:
        """Hand the parked thread a launch; it takes the launch's name."""
        if self._work is None:  # the last one was abandoned
            self._work = _Work(self._clock, self._device)
        self._work.hand_over(launch)
        self._pending = True
        self._work.go.release()
        self._clock.give_way()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has run."""
        if not self._pending or self._work is None:
            return True
        if not self._work.done.acquire(timeout=-1 if timeout is None else timeout):
            return False
        self._pending = False
        return True

    def abandon(self) -> None:
        """Leave the thread to itself; another is parked when one is needed."""
        if self._work is not None:
            self._work.go.release()  # when it comes back, it finds that there is no more to do
            self._work = None
        self._pending = False

    def close(self) -> None:
        """Let the thread end, and wait for that."""
        if self._work is not None:
            self._work.launch = None
            self._work.go.release()
            self._clock.join(self._work.thread)
            self._work = None


class _Work:
    """What a parked thread and those who launch it share."""

    done: Lock

    def __init__(self, clock: Clock, device: str) -> None:
        self._clock = clock
        self.launch: Launch | None = None
        self.go = clock.lock(f"work for device {device!r}", idle=True)
        self.go.acquire()
        self.thread = clock.start_thread(self._run, f"vfio_parked {device}")

    def hand_over(self, launch: Launch) -> None:
        """Give the thread a launch, with a lock of its own: a join that Ctrl-C cut short must not confuse the next."""
        self.done = self._clock.lock(f"the end of {launch.name!r}")
        self.done.acquire()
        self.launch = launch

    def _run(self) -> None:
        thread = threading.current_thread()
        while True:
            self.go.acquire()
            launch, self.launch = self.launch, None
            if launch is None:
                return
            done = self.done
            thread.name = launch.name
            launch.run()
            done.release()
