"""Ctrl-C while handlers are called: it waits until all of them were, and a second one does not."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupts() -> Iterator[list[int]]:
    """
    Note the first Ctrl-C instead of raising it wherever the main thread happens to be.

    Gives the list to which it is noted. A second one raises KeyboardInterrupt at once. Does nothing in other
    threads, which no Ctrl-C reaches, and where Ctrl-C does not raise KeyboardInterrupt anyway.
    """
    noted: list[int] = []
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield noted
        return

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
