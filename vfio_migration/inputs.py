"""Files that are read whole or in part: only such as end, and cannot keep whoever opens them waiting."""

import os
import stat
from pathlib import Path

_PASSED = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
_LARGEST = 64 << 20  # bytes of what is read whole


def check_input(path: str | Path) -> None:
    """
    See that a path names something that can be read to its end: a file, or a descriptor that the shell has passed.

    Raises:
        OSError: it does not exist, or is a folder, a pipe without a shell behind it, a device or a socket.

    """
    mode = os.stat(path).st_mode  # noqa: PTH116 - str or Path
    if stat.S_ISREG(mode) or (stat.S_ISFIFO(mode) and str(path).startswith(_PASSED)):
        return
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    raise OSError(f"it is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")


def read_input(path: str | Path) -> bytes:
    """
    Read a file that is no larger than such files are.

    Raises:
        OSError: it cannot be read, see `check_input`, or is too large.

    """
    check_input(path)
    with open(path, "rb") as file:  # noqa: PTH123 - str or Path
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise OSError(f"it is larger than {_LARGEST >> 20} MiB")
    return data


def reason(error: BaseException) -> str:
    """Say in a few words why a file could not be used."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
