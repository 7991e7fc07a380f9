"""The migrations in a log of QEMU's: where each begins and how it ended, its phases, its downtime, its passes."""

import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from vfio_migration.device import DeviceState
from vfio_migration.errors import LogImportError
from vfio_migration.importing.event_forms import DONE
from vfio_migration.importing.log_reader import LogEvent, QemuLog
from vfio_migration.recorded import format_timestamp
from vfio_migration.wording import ms

Role = Literal["source", "destination"]
_Test = Callable[[LogEvent], bool]

_REPORTED = 10  # at the beginning of a log, and at its end
_OVER = ("completed", "failed", "cancelled")
_CHANGES = ("vfio_vmstate_change", "vfio_vmstate_change_prepare")
_REQUEST, _ANSWER = "vfio_migration_set_state", "vfio_migration_set_device_state"
SAVE_THREAD_BEGIN = "vfio_save_complete_precopy_thread_start"
SAVE_BEGIN = ("vfio_save_complete_precopy_start", SAVE_THREAD_BEGIN)
SAVE_END = ("vfio_save_complete_precopy", "vfio_save_complete_precopy_thread_end")


@dataclass(frozen=True)
class Phase:
    """What lay between two marks of a migration; `kind` is the trace event that both are."""

    kind: str
    first: str
    last: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.first} to {self.last}: {ms(self.seconds, digits=3)}"


@dataclass(frozen=True)
class LoggedMigration:
    """One migration of a log; `number` counts those in which the machine had the same role, from 1."""

    log: str
    number: int
    role: Role
    events: tuple[LogEvent, ...]

    @property
    def status(self) -> str:
        """The last status that was logged; without any, what the other events say."""
        statuses = [event.fields["new_state"] for event in self.events if event.name == "migrate_set_state"]
        if statuses:
            return str(statuses[-1])
        return "completed" if any(map(_is_completion, self.events)) else "unknown"

    @property
    def completed(self) -> bool:
        """Whether it completed."""
        return self.status == "completed"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The times between one downtime checkpoint and the next, and between one status and the next."""
        return tuple(
            Phase(kind, first.fields[field], last.fields[field], (last.time_ns - first.time_ns) / 1e9)
            for kind, field in (("migrate_set_state", "new_state"), ("vmstate_downtime_checkpoint", "checkpoint"))
            for first, last in pairwise(event for event in self.events if event.name == kind)
        )

    @property
    def downtime_s(self) -> float | None:
        """The source's downtime as QEMU measures it, from `src-downtime-start` to `src-downtime-end`; else None."""
        first, last = self.checkpoint("src-downtime-start"), self.checkpoint("src-downtime-end")
        return None if first is None or last is None else (last.time_ns - first.time_ns) / 1e9

    @property
    def last_line(self) -> int:
        """The last line that belongs to it."""
        return self.events[-1].line

    def report(self) -> tuple[str, ...]:
        """Give what is known of it, a line each."""
        first = self.events[0]
        downtime = "" if self.downtime_s is None else f", downtime {ms(self.downtime_s, digits=3)}"
        head = (
            f"{self.log}: migration {self.number} ({self.role}): {self.status}, {format_timestamp(first.time_ns)}, "
            f"lines {first.line} to {self.last_line}{downtime}"
        )
        return (head, *(f"  {phase}" for phase in self.phases))

    def stop(self) -> "Window | None":
        """Give what lies between telling the source to stop and its having stopped; None: it was not told."""
        window = self._window(
            (
                lambda e: e.name == "vm_state_notify" and _stops(e.fields["running"], e.fields["reason_str"]),
                lambda e: e.name == "runstate_set" and e.fields["new_state_str"] == "finish-migrate",
                lambda e: _is_checkpoint(e, "src-downtime-start"),
                lambda e: e.name in _CHANGES and _stops(e.fields["running"], e.fields["reason"]),
            ),
            lambda e: (
                e.name
                in (
                    "migration_completion_vm_stop",
                    "migrate_set_state",
                    "migration_call_notifiers",
                    *SAVE_BEGIN,
                    *SAVE_END,
                )
                or _is_checkpoint(e, "src-vm-stopped", "src-iterable-saved", "src-downtime-end")
                or (e.name == "runstate_set" and e.fields["current_state_str"] == "finish-migrate")
            ),
            "the machine's stop (checkpoint src-vm-stopped, or a migrate_set_state after it)",
        )
        if window is None or not (window.end.name in SAVE_END or _is_status(window.end, "completed")):
            return window
        # QEMU 8.0 and 8.1 write nothing between the last handler and the end of saving.
        changes = (event for event in window.events if event.name in _CHANGES)
        end = max(changes, key=lambda event: event.line, default=window.end)
        return Window(window.begin, end, tuple(event for event in window.events if event.line <= end.line))

    def transfer(self, stop: "Window") -> "Window":
        """Give what lies between the source's having stopped and the end of its downtime; raises as `start`."""
        begin = stop.end
        following = [event for event in self.events if event.line >= begin.line]
        if any(_is_status(event, "pre-switchover") for event in following):
            # Whoever had asked for that pause let it last as long as he liked.
            begin = next((event for event in following if _is_status(event, "device")), begin)
            following = [event for event in following if event.line >= begin.line]
        for ends in (
            # With a return path the downtime ends when the destination has answered: what is sent is sent before that.
            lambda e: _is_checkpoint(e, "src-non-iterable-saved"),
            lambda e: _is_checkpoint(e, "src-downtime-end"),
            lambda e: e.name == "migrate_set_state" and e.fields["new_state"] in (*_OVER, "cancelling", "failing"),
            _is_completion,
        ):
            end = next((event for event in following if ends(event)), None)
            if end is not None:
                return Window(begin, end, tuple(e for e in following if e.line <= end.line))
        raise self.cut_off("the end of the transfer (checkpoint src-downtime-end, or status completed)")

    def start(self) -> "Window | None":
        """
        Give what lies between telling the destination to start and its running; None: it was not told.

        Raises:
            LogImportError: the log ends before.

        """
        return self._window(
            (
                lambda e: e.name == "vm_state_notify" and bool(e.fields["running"]),
                lambda e: (
                    e.name == "runstate_set"
                    and e.fields["current_state_str"] == "inmigrate"
                    and e.fields["new_state_str"] in ("running", "suspended")
                ),
                lambda e: e.name in _CHANGES and bool(e.fields["running"]),
            ),
            lambda e: e.name == "migrate_set_state" or _is_checkpoint(e, "dst-precopy-bh-vm-started"),
            "the machine's start (checkpoint dst-precopy-bh-vm-started, or status completed)",
            self._last_of_start() if self.waits_for_somebody else None,
        )

    @property
    def waits_for_somebody(self) -> bool:
        """Whether the destination was told to stay as it is when all has arrived (`-S`)."""
        return any(_is_left_paused(event) for event in self.events)

    def _last_of_start(self) -> LogEvent | None:
        """Give the last line of a start that no checkpoint ends, as it came later, from the monitor."""
        told = next((e for e in self.events if e.name == "vm_state_notify" and e.fields["running"]), None)
        changed = (e for e in self.events if e.name in (*_CHANGES, "handler_end") and told and e.line > told.line)
        return max(changed, key=lambda e: e.time_ns, default=None)

    def checkpoint(self, name: str) -> LogEvent | None:
        """Give the event of a downtime checkpoint; None: it was not logged."""
        return next((event for event in self.events if _is_checkpoint(event, name)), None)

    def status_event(self, status: str) -> LogEvent | None:
        """Give the first event of coming to this status; None: it was not logged."""
        return next((event for event in self.events if _is_status(event, status)), None)

    def left_paused(self) -> LogEvent | None:
        """Give the event that says that the destination stays paused, if it does."""
        return next((event for event in self.events if _is_left_paused(event)), None)

    def cut_off(self, what: str) -> LogImportError:
        """Make the error of a log that ends too early."""
        return LogImportError(
            f"{self.log}, line {self.last_line}: migration {self.number} ends here, in status {self.status!r}, before "
            f"{what}: the log is cut off, or these events were not switched on"
        )

    def _window(self, begins: Sequence[_Test], ends: _Test, what: str, end: LogEvent | None = None) -> "Window | None":
        """Begin at the first event that the first possible test names, end at the first end after it."""
        begin = next((e for test in begins for e in self.events if test(e)), None)
        if begin is None:
            return None
        place = self.events.index(begin)
        if begin.name in _CHANGES:  # which comes last of a device's change, so look for where that began
            while place and _is_request(self.events[place - 1]):
                place -= 1
            begin = self.events[place]
        following = self.events[place:]
        end = end or next((event for event in following[1:] if ends(event)), None)
        if end is None:
            raise self.cut_off(what)
        return Window(begin, end, tuple(event for event in following if event.line <= end.line))


@dataclass(frozen=True)
class Window:
    """A part of a migration, from one event to another, both with it."""

    begin: LogEvent
    end: LogEvent
    events: tuple[LogEvent, ...]

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end.time_ns - self.begin.time_ns) / 1e9


def logged_migrations(log: QemuLog) -> Generator[LoggedMigration, None, None]:
    """
    Give the migrations of a log one after another, each when it is whole; none is kept.

    Raises:
        LogImportError: as reading the log does.

    """
    numbers: dict[Role, int] = {"source": 0, "destination": 0}

    def numbered(events: Sequence[LogEvent]) -> LoggedMigration:
        role: Role = "destination" if any(map(_is_incoming, events)) else "source"
        numbers[role] += 1
        return LoggedMigration(log.name, numbers[role], role, tuple(events))

    splitter = _Splitter()
    try:
        for event in log:
            ended = splitter.take(event)
            if ended:
                yield numbered(ended)
        if splitter.current:
            yield numbered(splitter.current)
    finally:
        log.close()


class LoggedMigrations:
    """
    The migrations of a log: how each ended, and those with their events that one may want to import.

    `statuses` are by role, in their order. Kept with their events are the last of each role that completed, the last of
    all, and the one with the wanted number; `report` tells of a few at the beginning and the end.
    """

    def __init__(self, log: QemuLog, wanted: int | None = None) -> None:
        self.statuses: dict[Role, list[str]] = {"source": [], "destination": []}
        self._wanted = wanted
        self._kept: dict[tuple[Role, str], LoggedMigration] = {}
        self._first: list[LoggedMigration] = []
        self._last: deque[LoggedMigration] = deque(maxlen=_REPORTED)
        for each in logged_migrations(log):
            self._add(each)

    def __len__(self) -> int:
        return sum(map(len, self.statuses.values()))

    @property
    def report(self) -> tuple[str, ...]:
        """What is known of each, a few lines each."""
        left = len(self) - len(self._first) - len(self._last)
        between = [(f"  ... {left:,} migrations more",)] if left else []
        first, last = ([each.report() for each in some] for some in (self._first, self._last))
        return tuple(line for lines in (*first, *between, *last) for line in lines)

    def last(self, role: Role) -> "LoggedMigration | None":
        """Give the last of this role."""
        return self._kept.get((role, "last"))

    def completed(self, role: Role) -> "LoggedMigration | None":
        """Give the last of this role that completed."""
        return self._kept.get((role, "completed"))

    def wanted(self, role: Role) -> "LoggedMigration | None":
        """Give the one of this role that has the wanted number."""
        return self._kept.get((role, "wanted"))

    def _add(self, each: LoggedMigration) -> None:
        role = each.role
        self.statuses[role].append(sys.intern(each.status))
        self._kept[role, "last"] = each
        if each.completed:
            self._kept[role, "completed"] = each
        if each.number == self._wanted:
            self._kept[role, "wanted"] = each
        if len(self._first) < _REPORTED:
            self._first.append(each)
        else:
            self._last.append(each)


class _Splitter:
    """Takes the events of a log one after another, and gives those of each migration together."""

    def __init__(self) -> None:
        self.current: list[LogEvent] = []
        self._over = True
        self._stays = False  # whether the machine has stopped again after all was over: what follows is another story

    def take(self, event: LogEvent) -> list[LogEvent]:
        """Give the events of the migration before, if this one begins another."""
        ended: list[LogEvent] = []
        status = event.fields["new_state"] if event.name == "migrate_set_state" else ""
        if status == "setup" or (self._over and _is_opening(event)):
            ended, self.current = self.current, [event]
            self._over = self._stays = False
        elif self.current and not self._stays:
            if self._over and event.name == "vm_state_notify" and not event.fields["running"]:
                self._stays = True
            else:
                self.current.append(event)
        if status:
            self._over = status in _OVER
        elif not self._over and _is_ended(event):
            self._over = True
        return ended


def _is_opening(event: LogEvent) -> bool:
    """Whether this can only be in a migration: where its beginning was not logged, it begins here at the latest."""
    if event.name == "migrate_set_state":
        return event.fields["new_state"] not in (*_OVER, "cancelling", "failing", "none")
    if event.name in (_REQUEST, DONE):
        return target_of(event) in (DeviceState.PRE_COPY, DeviceState.RESUMING)
    if event.name in _CHANGES:
        return _stops(event.fields["running"], event.fields["reason"])
    if event.name == "vm_state_notify":
        return _stops(event.fields["running"], event.fields["reason_str"])
    if event.name == "runstate_set":
        states = (event.fields["current_state_str"], event.fields["new_state_str"])
        return states[1] == "finish-migrate" or (states[0] == "inmigrate" and states[1] in ("running", "suspended"))
    return _is_checkpoint(event, "src-downtime-start", "dst-precopy-loadvm-completed", "dst-precopy-bh-enter")


def _is_ended(event: LogEvent) -> bool:
    """Whether nothing more of a switchover follows, in a log without statuses."""
    return _is_completion(event) or (
        event.name == "runstate_set" and event.fields["current_state_str"] == "finish-migrate"
    )


def _is_completion(event: LogEvent) -> bool:
    return _is_checkpoint(event, "src-downtime-end", "dst-precopy-bh-vm-started") or (
        event.name == "runstate_set" and event.fields["new_state_str"] == "postmigrate"
    )


def _is_incoming(event: LogEvent) -> bool:
    if event.name in (_REQUEST, DONE):
        return target_of(event) is DeviceState.RESUMING
    if event.name == "runstate_set":
        return bool(event.fields["current_state_str"] == "inmigrate")
    return event.name == "vmstate_downtime_checkpoint" and event.fields["checkpoint"].startswith("dst-")


def _is_request(event: LogEvent) -> bool:
    """Whether this is part of a change of state that a handler asked for."""
    return event.name in (_REQUEST, _ANSWER, DONE) and target_of(event) not in (
        DeviceState.PRE_COPY,
        DeviceState.RESUMING,
    )


def target_of(event: LogEvent) -> DeviceState:
    """Give the state that an event of a device names."""
    fields = event.fields
    state: DeviceState = next(fields[key] for key in ("new_state", "state", "dev_state") if key in fields)
    return state


def _is_left_paused(event: LogEvent) -> bool:
    return event.name == "runstate_set" and (event.fields["current_state_str"], event.fields["new_state_str"]) == (
        "inmigrate",
        "paused",
    )


def _is_status(event: LogEvent, status: str) -> bool:
    return event.name == "migrate_set_state" and event.fields["new_state"] == status


def _is_checkpoint(event: LogEvent, *names: str) -> bool:
    return event.name == "vmstate_downtime_checkpoint" and event.fields["checkpoint"] in names


def _stops(running: int, reason: str) -> bool:
    return not running and reason == "finish-migrate"
