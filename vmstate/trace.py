"""
The trace seam: what happens is announced as events with QEMU's names and fields to one sink.

Nothing is traced unless a machine was given a sink. `Recorder` keeps the events for tests and
timelines; `StructlogSink` hands them to structured logging.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from vmstate.log import get_logger


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """Something that happened: when (ns of the clock), in which machine and thread, QEMU's name, fields."""

    time_ns: int
    machine: str
    thread: str
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        fields = " ".join(f"{key}={value}" for key, value in self.fields.items())
        return f"{self.time_ns} {self.machine} [{self.thread}] {self.name} {fields}".rstrip()


class TraceSink(Protocol):
    """What takes trace events; called in the thread in which they happen, so it has to be quick."""

    def __call__(self, event: TraceEvent, /) -> object:
        """Take an event."""
        ...


class Recorder:
    """A sink that keeps all events in order; several machines may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[TraceEvent] = []  # guarded by _lock

    def __call__(self, event: TraceEvent, /) -> None:
        """Keep an event."""
        with self._lock:
            self._events.append(event)

    @property
    def events(self) -> list[TraceEvent]:
        """All events so far, in order."""
        with self._lock:
            return self._events.copy()

    def select(self, *names: str, machine: str | None = None) -> list[TraceEvent]:
        """Give the events with one of these names, of one machine or of all."""
        return [event for event in self.events if event.name in names and (machine is None or event.machine == machine)]

    def clear(self) -> None:
        """Forget all events."""
        with self._lock:
            self._events.clear()


class StructlogSink:
    """A sink that logs every event at level debug through structlog and the standard library's logging."""

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger if logger is not None else get_logger("vmstate.trace")

    def __call__(self, event: TraceEvent, /) -> None:
        """Log an event."""
        self._logger.debug(
            event.name,
            machine=event.machine,
            time_ns=event.time_ns,
            thread_name=event.thread,
            **{f"trace_{key}": value for key, value in event.fields.items()},
        )


def tee(*sinks: TraceSink) -> TraceSink:
    """Make one sink of several."""

    def emit(event: TraceEvent, /) -> None:
        for sink in sinks:
            sink(event)

    return emit
