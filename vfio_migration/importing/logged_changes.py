"""The changes of state that a log shows of each device: from the request to the answer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vfio_migration.device import DeviceState
from vfio_migration.importing.attempts import LoggedMigration
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.log_reader import LogEvent

P2P_STATES = (DeviceState.RUNNING_P2P, DeviceState.PRE_COPY_P2P)
CHANGES = ("vfio_vmstate_change", "vfio_vmstate_change_prepare")
_REQUEST, _ANSWER = "vfio_migration_set_state", "vfio_migration_set_device_state"
SAVE_BEGIN = ("vfio_save_complete_precopy_start", "vfio_save_complete_precopy_thread_start")


@dataclass(frozen=True)
class Interval:
    """A device's way to a state, as the log shows it: from the request to the answer."""

    device: str
    target: DeviceState
    start_ns: int
    end_ns: int
    line: int

    @property
    def ns(self) -> int:
        """How long it took."""
        return self.end_ns - self.start_ns

    @property
    def prepares(self) -> bool:
        """Whether it is part of the prepare pass."""
        return self.target in P2P_STATES


def intervals(
    findings: Findings,
    migration: LoggedMigration,
    events: Sequence[LogEvent],
    names: Mapping[str, str] | None = None,
    *,
    quietly: bool = False,
) -> list[Interval]:
    """Find the devices' changes of state in a part of a log, in the order of their end."""
    finder = _Finder(findings, migration, asks=any(event.name == _REQUEST for event in events))
    for event in events:
        printed = event.fields.get("name", "")
        name = (names or {}).get(printed, printed)
        if name in findings.devices:
            finder.take(name, event)
    finder.end(quietly=quietly)
    return finder.found


def note_overlap(findings: Findings, migration: LoggedMigration, found: Sequence[Interval]) -> None:
    """Say so if devices changed at the same time."""
    longest: Interval | None = None  # the one that goes on for longest, of those that began before
    for each in sorted(found, key=lambda each: each.start_ns):
        if longest is not None and each.device != longest.device and each.start_ns < longest.end_ns:
            findings.overlapping = True
            findings.note(
                f"{migration.log} is of parallel changes ({longest.device!r} and {each.device!r} change at the "
                "same time): it does not say which thread wrote a line; each device's own times are taken, and "
                "ordinary handlers that ran beside them cannot be seen unless the log has handler_begin"
            )
            return
        if longest is None or each.end_ns > longest.end_ns:
            longest = each


def names_in(events: Iterable[LogEvent], begin: int) -> list[str]:
    """
    Give the devices of a migration that take part from this line on, in their order.

    They are saved in that order, and set up in it; stopping goes the other way.
    """
    order: dict[str, bool] = {}
    saved: dict[str, None] = {}
    for event in events:
        if event.name in ("vfio_migration_set_state", *CHANGES, *SAVE_BEGIN):
            name = event.fields["name"]
            order[name] = order.get(name, False) or event.line >= begin
            if event.name in SAVE_BEGIN:
                saved[name] = None
    names = [name for name, takes_part in order.items() if takes_part]
    return list(saved) if set(saved) == set(names) else names


def asked(events: Iterable[LogEvent]) -> Iterator[tuple[str, DeviceState, LogEvent]]:
    """Give the states that devices were asked for."""
    for event in events:
        if event.name == "vfio_migration_set_state":
            yield event.fields["name"], event.fields["new_state"], event
        elif event.name in CHANGES:
            yield event.fields["name"], event.fields["dev_state"], event


def answered(events: Iterable[LogEvent]) -> Iterator[tuple[str, DeviceState, LogEvent, LogEvent]]:
    """Give the requests that led to the state that was asked for, each with its answer."""
    requests: dict[str, LogEvent] = {}
    for event in events:
        if event.name == "vfio_migration_set_state":
            requests[event.fields["name"]] = event
        elif event.name == "vfio_migration_set_device_state":
            request = requests.pop(event.fields["name"], None)
            if request is not None and request.fields["new_state"] is event.fields["state"]:
                yield event.fields["name"], event.fields["state"], request, event


class _Finder:
    """Puts requests and answers together; what has lost the one or the other is noted."""

    def __init__(self, findings: Findings, migration: LoggedMigration, *, asks: bool) -> None:
        self.found: list[Interval] = []
        self._findings = findings
        self._log = migration.log
        self._asks = asks  # whether requests were traced
        self._answers = any(event.name == _ANSWER for event in migration.events)
        self._requests: dict[str, LogEvent] = {}

    def take(self, name: str, event: LogEvent) -> None:
        if event.name == _REQUEST:
            self._lost(self._requests.pop(name, None))
            self._requests[name] = event
        elif event.name == _ANSWER:
            self._answer(name, event)
        elif event.name in CHANGES:
            self._change(name, event)

    def end(self, *, quietly: bool) -> None:
        for request in self._requests.values():
            self._lost(request)
        if self.found and not self._asks and not quietly:
            self._findings.note(
                f"{self._log} does not say when a change of state began (-trace 'vfio_migration_set_*'): it is "
                "taken to begin at the line before, so that ordinary handlers count as the device's time"
            )

    def _answer(self, name: str, answer: LogEvent) -> None:
        request = self._requests.pop(name, None)
        state = answer.fields["state"].name
        if request is None:
            if self._asks:
                self._findings.note(
                    f"{self._log}, line {answer.line}: {name!r} came to {state}, and the log does not say since when: "
                    "its time is left out"
                )
        elif answer.fields["state"] is request.fields["new_state"]:
            self._found(name, request, request.time_ns, answer.time_ns)
        else:
            self._findings.note(
                f"{self._log}, line {answer.line}: {name!r} was to go to {request.fields['new_state'].name} and came "
                f"to {state}: it failed, and its time is left out"
            )

    def _change(self, name: str, change: LogEvent) -> None:
        request = self._requests.pop(name, None)
        if not self._asks:
            begin = change.time_ns if change.before_ns is None else change.before_ns
            self._found(name, change, begin, change.time_ns)
        elif request is not None:
            if self._answers:
                self._findings.note(
                    f"{self._log}: the line that says when {name!r} came to {change.fields['dev_state'].name} is "
                    f"missing; it is taken to be line {change.line}"
                )
            self._found(name, request, request.time_ns, change.time_ns)

    def _found(self, name: str, event: LogEvent, start_ns: int, end_ns: int) -> None:
        target = event.fields["new_state" if event.name == _REQUEST else "dev_state"]
        self.found.append(Interval(name, target, start_ns, end_ns, event.line))

    def _lost(self, request: LogEvent | None) -> None:
        if request is not None:
            self._findings.note(
                f"{self._log}, line {request.line}: {request.fields['name']!r} is asked to go to "
                f"{request.fields['new_state'].name}, and the log does not say when it came there: its time is left out"
            )
