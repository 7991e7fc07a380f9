"""The changes of state that a log shows of each device: from the request to the answer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vfio_migration.importing.findings import Findings
from vfio_migration.importing.migrations import LoggedMigration
from vfio_migration.importing.reader import LogEvent
from vfio_migration.states import DeviceState

P2P_STATES = (DeviceState.RUNNING_P2P, DeviceState.PRE_COPY_P2P)
CHANGES = ("vfio_vmstate_change", "vfio_vmstate_change_prepare")
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
    has_requests = any(event.name == "vfio_migration_set_state" for event in events)
    has_answers = any(event.name == "vfio_migration_set_device_state" for event in migration.events)
    names = names or {}
    requests: dict[str, LogEvent] = {}
    found: list[Interval] = []
    for event in events:
        printed = event.fields.get("name", "")
        name = names.get(printed, printed)
        if name not in findings.devices:
            continue
        if event.name == "vfio_migration_set_state":
            requests[name] = event
        elif event.name == "vfio_migration_set_device_state":
            request = requests.pop(name, None)
            found.extend(() if request is None else _answer(findings, migration, name, request, event))
        elif event.name in CHANGES:
            request = requests.pop(name, None)
            if not has_requests:
                begin = event.time_ns if event.before_ns is None else event.before_ns
                found.append(Interval(name, event.fields["dev_state"], begin, event.time_ns, event.line))
            elif request is not None and not has_answers:
                found.append(Interval(name, event.fields["dev_state"], request.time_ns, event.time_ns, request.line))
    if found and not has_requests and not quietly:
        findings.note(
            f"{migration.log} does not say when a change of state began (-trace 'vfio_migration_set_*'): it is "
            "taken to begin at the line before, so that ordinary handlers count as the device's time"
        )
    return found


def note_overlap(findings: Findings, migration: LoggedMigration, found: Sequence[Interval]) -> None:
    """Say so if devices changed at the same time."""
    longest: Interval | None = None  # the one that goes on for longest, of those that began before
    for each in sorted(found, key=lambda each: each.start_ns):
        if longest is not None and each.device != longest.device and each.start_ns < longest.end_ns:
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


def _answer(
    findings: Findings, migration: LoggedMigration, name: str, request: LogEvent, answer: LogEvent
) -> Iterator[Interval]:
    target = request.fields["new_state"]
    if answer.fields["state"] is target:
        yield Interval(name, target, request.time_ns, answer.time_ns, request.line)
    else:
        findings.note(
            f"{migration.log}, line {answer.line}: {name!r} was to go to {target.name} and came to "
            f"{answer.fields['state'].name}: it failed, and its time is left out"
        )
