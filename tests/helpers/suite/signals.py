"""Signals as the system sends them."""

import signal
import threading


def press_ctrl_c() -> None:
    """Send the signal to the main thread, which wakes it from whatever it waits for."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)
