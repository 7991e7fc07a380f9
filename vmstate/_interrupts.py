"""
Ctrl-C while the machine is changed: the first waits until that is done, the second does not.

Rejected: to let the first one be raised wherever the main thread happens to be. It would cut a pass short, and a
device whose handler is skipped stays half changed; and between `lock.acquire()` and the line that remembers it there
is always a moment at which nobody would let go of the lock again.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """
    Raise the first Ctrl-C at the end instead of wherever the main thread happens to be; a second one at once.

    What ends in an exception group gets the KeyboardInterrupt into it, other errors get a note. Does nothing in
    other threads, which no Ctrl-C reaches, further in than another such context, and where Ctrl-C does not raise
    KeyboardInterrupt anyway.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except BaseExceptionGroup as group:
        if noted:
            raise BaseExceptionGroup(group.message, [*group.exceptions, KeyboardInterrupt()]) from None
        raise
    except Exception as error:
        if noted:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if noted:
        raise KeyboardInterrupt
