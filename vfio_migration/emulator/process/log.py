"""What the process prints: its errors, as QEMU prints them, and the events that `-trace` names."""

import logging
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TextIO

from vfio_migration.emulator.errors import QmpError
from vfio_migration.recorded import format_event, format_timestamp
from vmstate import Clock, TraceEvent


class Log:
    """
    Writes whole lines: errors to the standard error stream, all else to the log (`-D`), which is that by default.

    `epoch_ns` is what the clock's zero is, in nanoseconds of the epoch. Lines are written under `_lock`.
    """

    def __init__(self, program: str, *, timestamps: bool, epoch_ns: int, file: str | None = None) -> None:
        self.program = program
        self._timestamps = timestamps
        self._epoch_ns = epoch_ns
        self._lock = threading.Lock()
        self._errors: TextIO | None = sys.stderr
        self._file: TextIO | None = None
        if file is not None:
            try:
                self._file = open(file, "w", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115 - open until the end
            except OSError as error:
                raise QmpError(f"-D {file}: {error.strerror}") from error

    def error(self, text: str, time_ns: int) -> None:
        """Print an error; `time_ns` is the time of the clock."""
        self._write(self._errors, f"{self._stamp(time_ns)}{self.program}: {text}")

    def note(self, text: str, time_ns: int) -> None:
        """Write to the log."""
        self._write(self._file or self._errors, f"{self._stamp(time_ns)}{self.program}: {text}")

    def trace(self, event: TraceEvent) -> None:
        """Write an event to the log, in QEMU's format."""
        line = format_event(replace(event, time_ns=event.time_ns + self._epoch_ns))
        self._write(self._file or self._errors, line if self._timestamps else line.partition(" ")[2])

    def detach(self) -> None:
        """Have no standard error stream any more: the process is in the background."""
        with self._lock:
            self._errors = None

    def close(self) -> None:
        """Close the log's file."""
        if self._file is not None:
            self._file.close()

    def _stamp(self, time_ns: int) -> str:
        return f"{format_timestamp(time_ns + self._epoch_ns)} " if self._timestamps else ""

    def _write(self, stream: TextIO | None, line: str) -> None:
        with self._lock:
            if stream is None:
                return
            try:
                stream.write(line + "\n")
                stream.flush()
            except (OSError, ValueError):  # whoever reads it is gone; that stops no machine
                return


class TracedEvents:
    """A sink (`vmstate.TraceSink`) for the events that patterns name."""

    def __init__(self, log: Log, patterns: Sequence[str]) -> None:
        self._log = log
        self._patterns = tuple(patterns)

    def __call__(self, event: TraceEvent) -> None:
        """Write the event, if it is one of them; a pattern with `-` in front takes events out again."""
        wanted = False
        for pattern in self._patterns:
            if fnmatchcase(event.name, pattern.removeprefix("-")):
                wanted = not pattern.startswith("-")
        if wanted:
            self._log.trace(event)


class LogHandler(logging.Handler):
    """Has warnings of the library stand in the log of the process."""

    def __init__(self, log: Log, clock: Clock) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self._log.note(f"{record.levelname.lower()}: {record.getMessage()}", self._clock.now())
