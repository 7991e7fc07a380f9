"""
Locks of `threading` in an exploration.

A thread that is stopped while it holds a plain lock would make whoever wants it wait outside the clock, for ever. So
in an exploration, `threading.Lock` and `threading.RLock` make locks whose waits go through the clock, in threads
of the exploration; in all others they are what they always were. Locks that were made before are not changed, nor are
those that the standard library makes for itself: its events and conditions wait in ways of their own, for threads to
start among others.
"""

import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vmstate.clocks import Event
from vmstate.exploring.here import here
from vmstate.exploring.places import place_of_line

_Raw: Callable[[], Any] = threading.Lock
_RawAgain: Callable[[], Any] = threading.RLock
_guard = _Raw()
_users = 0


class PlainLock:
    """A lock of `threading` that is waited for through the clock where there is one."""

    _make = staticmethod(_Raw)

    def __init__(self, name: str) -> None:
        self._lock = self._make()
        self._free: Event | None = None  # made when somebody first has to wait
        self._name = f"the plain lock of {name}"

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """As `threading.Lock`."""
        clock = here.clock
        if clock is None:
            return bool(self._lock.acquire(blocking, timeout))
        # Threads of one clock run one at a time, and nobody is stopped in here but where this waits: no wake-up is
        # lost between the attempt and the wait.
        while not self._lock.acquire(blocking=False):
            if not blocking:
                return False
            if self._free is None:
                self._free = clock.event(self._name)
            self._free.clear()
            if not self._free.wait(None if timeout < 0 else timeout):
                return False
        return True

    def release(self) -> None:
        """As `threading.Lock`."""
        self._lock.release()
        if self._free is not None:
            self._free.set()

    def locked(self) -> bool:
        """As `threading.Lock`."""
        if self.acquire(blocking=False):
            self.release()
            return False
        return True

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.release()


class PlainRLock(PlainLock):
    """The same for a lock that its owner may take again."""

    _make = staticmethod(_RawAgain)

    def __getattr__(self, name: str) -> Any:
        """Give what `threading.Condition` asks of such a lock."""
        return getattr(self._lock, name)


def _lock() -> Any:
    return _made(PlainLock, _Raw)


def _lock_again() -> Any:
    return _made(PlainRLock, _RawAgain)


def _made(plain: type[PlainLock], raw: Callable[[], Any]) -> Any:
    frame = sys._getframe(2)  # noqa: SLF001 - whose lock it is, and what to call it where it is waited for
    if frame.f_globals.get("__name__", "").partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return raw()
    return plain(place_of_line(frame.f_code, frame.f_lineno))


@contextmanager
def plain_locks_wait_through_the_clock() -> Iterator[None]:
    """Have new locks be such locks, as long as anybody is in this context."""
    global _users  # noqa: PLW0603 - it is the process that is changed
    with _guard:
        _users += 1
        threading.Lock, threading.RLock = _lock, _lock_again  # type: ignore[assignment]
    try:
        yield
    finally:
        with _guard:
            _users -= 1
            if not _users:
                threading.Lock, threading.RLock = _Raw, _RawAgain  # type: ignore[assignment]
