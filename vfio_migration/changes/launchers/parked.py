"""A thread for each device that waits for work: launching it is one release, joining it one acquire."""

import _thread
import weakref
from contextlib import suppress

from vfio_migration.changes.launchers.base import Launch
from vmstate import Clock, Lock


class ParkedLauncher:
    """
    Keeps a thread from the registration of its device until the device goes.

    Rejected: a queue and a condition, as pools have. Two locks are what it costs at least: one release to launch, one
    acquire to join. And one lock `done` for all launches: a join that Ctrl-C cut short leaves its release behind, and
    the next join would take it for its own (tests/vfio_migration/test_ctrl_c.py: a second change after the first).

    Releasing `go` hands the thread a launch, releasing the launch's `done` hands it back. Whoever holds the big lock
    writes the one before and reads what came back after the other. A thread whose launch is abandoned ends when it
    comes back, or before it begins; so does that of a launcher that was forgotten with its machine and never closed.

    Raises:
        RuntimeError: no thread can be had.

    """

    def __init__(self, clock: Clock, device: str) -> None:
        self._clock = clock
        self._device = device
        self._pending = False
        self._done: Lock | None = None  # held until the last launch has run
        self._work: _Work | None = None
        self._park()

    def start(self, launch: Launch) -> None:
        """Hand the parked thread a launch; it takes the launch's name until that has run."""
        if self._work is None:  # the last one was abandoned
            self._park()
        assert self._work is not None  # noqa: S101 - for type checkers
        self._done = self._work.hand_over(launch)
        self._pending = True
        self._work.go.release()
        self._clock.give_way()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has run."""
        if not self._pending or self._done is None:
            return True
        if not self._done.acquire(timeout=-1 if timeout is None else timeout):
            return False
        self._pending = False
        return True

    def abandon(self) -> None:
        """Leave the thread to itself; another is parked when one is needed."""
        if self._work is not None:
            self._work.end()  # when it comes back, or comes to take what it was handed, it finds that all is over
            self._work = None
        self._pending = False

    def close(self) -> None:
        """Let the thread end, and wait for that."""
        if self._work is not None:
            self._work.end()
            self._clock.join(self._work.thread)
            self._work = None

    def _park(self) -> None:
        """Have a thread wait, which holds no reference to this launcher."""
        self._work = work = _Work(self._clock, self._device)
        weakref.finalize(self, _end_elsewhere, work).atexit = False  # daemons end with the process


def _end_elsewhere(work: "_Work") -> None:
    """
    End a thread from the garbage collector, which may come by while the clock's own lock is held by this very thread.

    So another thread does it; `threading` has a lock of its own around its list of threads, and is not asked.
    """
    with suppress(RuntimeError):  # the interpreter ends, or there is no thread to be had
        _thread.start_new_thread(work.end, ())


class _Work:
    """What a parked thread and those who launch it share: one reference, replaced as a whole, and the lock `go`."""

    def __init__(self, clock: Clock, device: str) -> None:
        self._clock = clock
        self._handed: tuple[Launch, Lock] | None = None
        self._over = False
        self.go = clock.lock(f"work for device {device!r}", idle=True)
        self.go.acquire()
        self._idle_name = f"vfio_parked {device}"
        self.thread = clock.start_thread(self._run, self._idle_name)

    def hand_over(self, launch: Launch) -> Lock:
        """
        Give the thread a launch; gives the lock that it lets go of at the end.

        Each launch has its own: a join that Ctrl-C cut short must not confuse the next.
        """
        done = self._clock.lock(f"the end of {launch.name!r}")
        done.acquire()
        self._handed = launch, done
        self.thread.name = launch.name
        return done

    def end(self) -> None:
        """Have the thread end as soon as it comes by; what it has not begun is dropped."""
        self._over = True
        self._handed = None
        with suppress(RuntimeError):  # it was just told to go, and has not gone yet
            self.go.release()

    def _run(self) -> None:
        while self._come_by():
            pass

    def _come_by(self) -> bool:
        """Wait for a launch and run it; its own frame, so that a waiting thread keeps nothing of the last one alive."""
        self.go.acquire()
        handed, self._handed = self._handed, None
        if handed is None:
            return not self._over
        launch, done = handed
        launch.run()
        self.thread.name = self._idle_name
        done.release()
        return True
