"""A channel that goes one way only: a file, a pipe, or a command's input or output."""

import os
import select
import subprocess
import threading

from vmstate import ChannelClosedError

_LOOK_UP_MS = 100  # how long anybody waits here before he sees that he is to give up
_ENDS_WITHIN_S = 10.0  # a command, once it has all its input


class ByteFile:
    """
    One end (`Channel`) of what is written to a descriptor, or read from it; closes it, and waits for its process.

    Nothing ever comes back: whoever receives at the writing end hears that the connection has ended. `_lock` guards
    `_aborted` and `_descriptor`.
    """

    def __init__(self, descriptor: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
        os.set_blocking(descriptor, False)
        self._lock = threading.Lock()
        self._descriptor: int | None = descriptor
        self._process = process
        self._aborted = False

    def send(self, data: bytes) -> None:
        """Write all bytes, waiting for room."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._open(), rest) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)
            except (BrokenPipeError, OSError) as error:
                if isinstance(error, ChannelClosedError):
                    raise
                raise ChannelClosedError(f"nothing can be written there: {error.strerror}") from error

    def receive(self, size: int, timeout: float | None = None) -> bytes:
        """Read between 1 and `size` bytes, waiting for them; b"" at the end."""
        waited_ms = 0
        while True:
            try:
                return os.read(self._open(), size)
            except BlockingIOError:
                self._wait(select.POLLIN)
                waited_ms += _LOOK_UP_MS
                if timeout is not None and waited_ms >= timeout * 1000:
                    raise TimeoutError(f"nothing was received for {timeout:g} s") from None
            except OSError as error:
                if isinstance(error, ChannelClosedError):
                    raise
                return b""  # of an end that is written to

    @property
    def ready(self) -> bool:
        """Never of what is written: nothing comes back."""
        return False

    def end(self) -> None:
        """Do nothing: closing is the end."""

    def abort(self) -> None:
        """Have whoever waits here give up; safe from any thread."""
        with self._lock:
            self._aborted = True

    def close(self) -> None:
        """Close the descriptor, and have the process end; a second time does nothing."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            process, self._process = self._process, None
        if descriptor is not None:
            os.close(descriptor)
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            try:
                process.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _open(self) -> int:
        with self._lock:
            if self._aborted or self._descriptor is None:
                raise ChannelClosedError("this side has closed the channel")
            return self._descriptor

    def _wait(self, what: int) -> None:
        poll = select.poll()
        poll.register(self._open(), what)
        poll.poll(_LOOK_UP_MS)
