"""Signals, as the main thread waits for them: those that end a QEMU, and one of our own that wakes it."""

import os
import signal
import threading
from pathlib import Path

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_WAKING = signal.SIGUSR2
_ALL = {*_ENDING, _WAKING}


def hold_back() -> None:
    """Have signals wait for `await_signal`, in this thread and all that it will start; called before any is."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)


def await_signal() -> "signal.struct_siginfo | None":
    """Wait for a signal that ends the process, in the main thread; None if somebody has called `wake`."""
    # Python's own handler of SIGINT never runs: the signal is blocked, and taken here with who has sent it.
    info = signal.sigwaitinfo(_ALL)
    return None if info.si_signo == _WAKING else info


def wake() -> None:
    """Have `await_signal` return."""
    main = threading.main_thread()
    if main.ident is not None:
        signal.pthread_kill(main.ident, _WAKING)


def said_of(info: signal.struct_siginfo) -> str:
    """Say who has ended the process, as QEMU does."""
    return f"terminating on signal {info.si_signo} from pid {info.si_pid} ({_command_of(info.si_pid)})"


def _command_of(pid: int) -> str:
    if pid == os.getpid():
        return "<own process>"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        words = [b""]
    return words[0].decode(errors="replace") or "<unknown process>"
