"""
Waits one behind another, that take in real time what they take together.

Who sleeps for real wakes up a little late, each time, and does some work before he sleeps again. Over a thousand chunks
of a device's state that adds up to tenths of a second, of which neither the device nor the link knows anything. So a
wait that follows another of the same thread within a moment begins where that one was to end. In virtual time that is
the same moment.
"""

import threading

from vmstate.clocks.clock import NS_PER_SECOND, Clock, RealClock

_MOMENT_NS = 1_000_000  # how late a thread may be and still be taken for one that goes on at once
_last = threading.local()  # .due_ns: when the last wait of the calling thread was to end


def begin_ns(clock: Clock) -> int:
    """Give the moment at which what the calling thread does now begins, in nanoseconds of the clock."""
    now = clock.now()
    if not isinstance(clock, RealClock):
        return now
    due_ns: int | None = getattr(_last, "due_ns", None)
    return due_ns if due_ns is not None and 0 <= now - due_ns <= _MOMENT_NS else now


def wait_until(clock: Clock, moment_ns: int) -> None:
    """Wait until a moment; for one that is past, do not."""
    wait_ns = moment_ns - clock.now()
    if wait_ns > 0:
        clock.sleep(wait_ns / NS_PER_SECOND)
    if isinstance(clock, RealClock):
        _last.due_ns = moment_ns
