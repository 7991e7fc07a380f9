"""A QEMU that is asked about itself: its monitor speaks over the process's own pipes."""

import contextlib
import json
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from vfio_migration.emulator.errors import RecordingError

_LONGEST_S = 10.0  # a QEMU without a guest answers within milliseconds; one that hangs must not hang the recording
_LEAVING_S = 2.0
_AT_ONCE = 1 << 20  # bytes
_LAST_WORDS = 3  # lines of its stderr that an error shows
_ALWAYS = ("-display", "none", "-accel", "tcg", "-S", "-qmp", "stdio")


class RecordedQemu:
    """
    Starts a QEMU with these options, stopped and without a display, and asks its monitor.

    Raises:
        RecordingError: it did not start, or ended; `str()` holds what it said last.

    """

    def __init__(
        self, qemu: Sequence[str], machine: str, options: Sequence[str] = (), *, defaults: bool = False
    ) -> None:
        command = [*qemu, "-machine", machine, *_ALWAYS, *(() if defaults else ("-nodefaults",)), *options]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the caller names the QEMU
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise RecordingError(f"cannot start {qemu[0]!r}: {error.strerror}; name an installed QEMU") from error
        self._unread = b""
        try:
            self._read()
            self.ask("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def reply(self, command: str, arguments: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Give the reply to a command, be it a return or an error. Events are passed over."""
        message = json.dumps({"execute": command, "arguments": dict(arguments or {})})
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it was asked for
        try:
            stdin.write(message.encode() + b"\n")
            stdin.flush()
        except OSError:
            raise RecordingError(self._last_words()) from None
        while True:
            reply = self._read()
            if "return" in reply or "error" in reply:
                return reply

    def ask(self, command: str, **arguments: object) -> Any:
        """
        Give what a command returns. An underscore in an argument's name is a hyphen.

        Raises:
            RecordingError: it answered with an error.

        """
        reply = self.reply(command, {name.replace("_", "-"): value for name, value in arguments.items()})
        if "error" in reply:
            raise RecordingError(f"{command}: {reply['error']['desc']}")
        return reply["return"]

    def monitor(self, line: str) -> str:
        """Give what the human monitor prints for a line, with line ends of one character."""
        return str(self.ask("human-monitor-command", command_line=line)).replace("\r\n", "\n")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was never read is of no use any more
                    pipe.close()

    def _read(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it was asked for
        while b"\n" not in self._unread:
            if not select.select([stdout], [], [], _LONGEST_S)[0]:
                self._process.kill()
                raise RecordingError(f"no answer within {_LONGEST_S:g} s")
            read = os.read(stdout.fileno(), _AT_ONCE)
            if not read:
                raise RecordingError(self._last_words())
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            raise RecordingError(f"this is no QEMU with a monitor: it said {line[:60]!r}") from None
        return dict(message)

    def _last_words(self) -> str:
        try:
            self._process.wait(_LEAVING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # some never get to the end of their last words
        stderr = self._process.stderr.read() if self._process.stderr is not None else b""
        words = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
        return "; ".join(words[-_LAST_WORDS:]) or "it ended without a word"
