"""
The clock seam: the few primitives through which everything here waits, and the real clock.

Whatever sleeps, starts or joins a thread, or waits for somebody else does so through its machine's
clock, so that time can be swapped without touching the code that waits.
"""

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from vmstate.clocks._threads import start
from vmstate.interrupts import heard, uncut, uncut_between_waits

NS_PER_SECOND = 1_000_000_000
_MANY_S = 1e200  # of so many nothing overflows


def seconds_to_ns(seconds: float) -> int:
    """
    Turn seconds into whole nanoseconds, halves to even: the only rounding rule for time.

    Raises:
        ValueError: `seconds` is negative or not finite.

    """
    if 0 <= seconds < _MANY_S:  # nearly always, and each wait of a virtual clock comes by here
        return round(seconds * NS_PER_SECOND)
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"a time must be finite and not negative, in seconds; got {seconds!r}")
    nanoseconds = seconds * NS_PER_SECOND
    return round(nanoseconds) if math.isfinite(nanoseconds) else int(seconds) * NS_PER_SECOND


def finite_or_none(seconds: float | None) -> float | None:
    """Give a limit in seconds, None if there is none: `math.inf` and None both say never."""
    return None if seconds == math.inf else seconds


class Lock(Protocol):
    """A lock without an owner: whoever likes may release it, as with `threading.Lock`."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; False if that took longer than `timeout` seconds (-1: no limit)."""
        ...

    def release(self) -> None:
        """Give the lock up, to whoever waits for it."""
        ...


class Event(Protocol):
    """A flag that can be waited for, as `threading.Event`."""

    def is_set(self) -> bool:
        """Whether the flag is up."""
        ...

    def set(self) -> None:
        """Raise the flag and wake everybody who waits for it."""
        ...

    def clear(self) -> None:
        """Lower the flag."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is up; False if that took longer than `timeout` seconds."""
        ...


class Clock(Protocol):
    """
    What a machine needs of time.

    Two machines can only be migrated into one another if their clocks are equal (`==`).
    """

    def now(self) -> int:
        """Nanoseconds since some fixed moment; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let the calling thread wait for so many seconds."""
        ...

    def start_thread(self, target: Callable[[], object], name: str) -> threading.Thread:
        """
        Start a daemon thread that runs `target`.

        Raises:
            RuntimeError: the system refuses another thread.

        """
        ...

    def join(self, thread: threading.Thread, timeout: float | None = None) -> bool:
        """Wait for the end of a thread that `start_thread` returned; False if it took too long."""
        ...

    def give_way(self) -> None:
        """Let a thread go on that the calling one has just woken, where threads would otherwise pile up."""
        ...

    def lock(self, name: str, *, idle: bool = False) -> Lock:
        """Make a lock; the name says in diagnoses what is waited for, `idle` that nobody minds the wait."""
        ...

    def event(self, name: str, *, outside: bool = False) -> Event:
        """Make an event; `outside`: somebody who does not take part in this clock may end the wait."""
        ...

    def taking_part(self) -> AbstractContextManager[None]:
        """Make the calling thread one that this clock waits for, until the context ends."""
        ...


@dataclass(frozen=True)
class RealClock:
    """The system's monotonic clock; its locks, events and threads are those of `threading`."""

    def now(self) -> int:
        """Nanoseconds of the monotonic clock."""
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Sleep for real."""
        with heard:
            time.sleep(seconds)

    def start_thread(self, target: Callable[[], object], name: str) -> threading.Thread:
        """Start a daemon thread, so that one that stalls does not keep the process alive."""
        thread = threading.Thread(target=target, name=name, daemon=True)
        with uncut:
            start(thread)
        return thread

    def join(self, thread: threading.Thread, timeout: float | None = None) -> bool:
        """
        Join for real.

        Until Python 3.13, a join that is cut takes the thread for one that has ended (bpo-45274): none is cut here by a
        first Ctrl-C.
        """

        def joined(limit_s: float | None) -> bool:
            thread.join(limit_s)
            return not thread.is_alive()

        return _looking_up(joined, finite_or_none(timeout))

    def give_way(self) -> None:
        """
        Yield the processor, and with it the interpreter's lock where there is one.

        Hundreds of threads that wait for that lock at the same time wake one another every few milliseconds for
        nothing (`sys.getswitchinterval`); one that gets it at once is asleep again before the next is woken.
        """
        _yield()

    def lock(self, name: str, *, idle: bool = False) -> Lock:
        """Make a lock of `threading`."""
        return _RealLock()

    def event(self, name: str, *, outside: bool = False) -> Event:
        """Make an event of `threading`."""
        return _RealEvent()

    def taking_part(self) -> AbstractContextManager[None]:
        """Do nothing: the system schedules every thread anyway."""
        return _NOTHING


class _RealLock:
    """
    A lock of `threading` for which the main thread waits in many goes.

    A second Ctrl-C leaves even a wait that is not to be cut. One that comes between the interpreter's last look and the
    wait in the kernel wakes nobody: it is heard at the next look, which without a limit never comes.
    """

    __slots__ = ("_lock", "release")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.release = self._lock.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        lock = self._lock
        if not blocking or timeout >= 0 or threading.current_thread() is not threading.main_thread():
            return lock.acquire(blocking, timeout)
        while not lock.acquire(timeout=_HEARD_WITHIN_S):
            pass
        return True


class _RealEvent(threading.Event):
    """An event of `threading` whose own lock no Ctrl-C leaves held: its methods are Python, and could be cut."""

    def set(self) -> None:
        with uncut:
            super().set()

    def clear(self) -> None:
        with uncut:
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        return _looking_up(super().wait, finite_or_none(timeout))


def _looking_up(wait: Callable[[float | None], bool], limit_s: float | None) -> bool:
    """
    Wait in one go, or in the main thread in many, between which Ctrl-C is heard: the wait itself is never cut.

    Were it cut, a lock of `threading` could stay held. And a signal that comes between the interpreter's last look and
    the wait in the kernel would wake nobody: it is heard at the next look, which without a limit never comes.
    """
    if threading.current_thread() is not threading.main_thread():
        return wait(limit_s)
    until = math.inf if limit_s is None else time.monotonic() + limit_s
    with uncut_between_waits:
        while not wait(max(0.0, min(_HEARD_WITHIN_S, until - time.monotonic()))):
            heard.look()
            if time.monotonic() >= until:
                return False
        return True


_HEARD_WITHIN_S = 0.05
_yield: Callable[[], None] = getattr(os, "sched_yield", partial(time.sleep, 0))  # which not every system has

_NOTHING: AbstractContextManager[None] = nullcontext()
