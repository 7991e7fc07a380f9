"""Paths of Unix sockets, and what processes that are gone have left there."""

import socket
import stat
from contextlib import suppress
from pathlib import Path


def make_way(path: str) -> None:
    """
    Take away what a process that is gone has left.

    Whether somebody listens is asked with a socket of another kind, which the system refuses in another way, so that he
    does not hear of it: a connection would be taken for a source.
    """
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return  # binding says what is wrong
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            with suppress(OSError):
                Path(path).unlink()
        except OSError:
            return
