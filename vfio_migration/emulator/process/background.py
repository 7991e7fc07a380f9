"""Going to the background once all is ready (QEMU's `-daemonize`), and the file with the process's number."""

import os
from contextlib import suppress
from pathlib import Path

from vfio_migration.emulator.errors import QmpError

_READY = b"\0"


class Background:
    """The half of a process that has forked which goes on; the other waits for `ready`, and then ends."""

    def __init__(self) -> None:
        read, self._ready = os.pipe()
        if os.fork():
            os.close(self._ready)
            os._exit(0 if os.read(read, 1) == _READY else 1)  # nothing is to be cleaned up twice
        os.close(read)
        os.setsid()

    def ready(self) -> None:
        """Let whoever has started the process go on; from here on there are no standard streams."""
        with suppress(OSError):
            os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        os.write(self._ready, _READY)
        os.close(self._ready)


class PidFile:
    """A file with the number of this process, for as long as that lives."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        try:
            self._path.write_text(f"{os.getpid()}\n", encoding="ascii")
        except OSError as error:
            raise QmpError(f"cannot create PID file: {error.strerror}") from error

    def remove(self) -> None:
        """Take it away."""
        with suppress(OSError):
            self._path.unlink()
