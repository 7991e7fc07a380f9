"""
The changes of state that a log shows of each device: from the request, or what came before, to the answer.

Each device's lines are in order, those of several are not: where a device's own lines say when it began, nothing else
is asked. QEMU 8.0 to 9.0 wrote only that a device is there; it changed one device after another, so each began when the
step before had ended.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vfio_migration.device import DeviceState
from vfio_migration.importing.attempts import SAVE_BEGIN, SAVE_END, LoggedMigration, Window, target_of
from vfio_migration.importing.event_forms import DONE
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.log_reader import LogEvent

P2P_STATES = (DeviceState.RUNNING_P2P, DeviceState.PRE_COPY_P2P)
CHANGES = ("vfio_vmstate_change", "vfio_vmstate_change_prepare")
_REQUEST, _ANSWER = "vfio_migration_set_state", "vfio_migration_set_device_state"
_OF_DEVICES = (_REQUEST, _ANSWER, DONE, *CHANGES)


@dataclass(frozen=True)
class Interval:
    """A device's way to a state, as the log shows it, from one time and line to another."""

    device: str
    target: DeviceState
    start_ns: int
    end_ns: int
    line: int
    last_line: int

    @property
    def ns(self) -> int:
        """How long it took."""
        return max(0, self.end_ns - self.start_ns)

    @property
    def prepares(self) -> bool:
        """Whether it is part of the prepare pass."""
        return self.target in P2P_STATES


@dataclass
class LoggedChanges:
    """All changes of a migration in the order of their end, and what is wrong with others, by line."""

    found: list[Interval] = field(default_factory=list)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    began: bool = True  # whether the log says when a change began
    done: bool = False  # whether it is of a QEMU that writes only when a device has come

    def within(self, findings: Findings, log: str, window: Window) -> list[Interval]:
        """Give those that ended in a part of the log; note what is wrong with others there."""
        first, last = window.begin.line, window.end.line
        for line, what in self.wrong:
            if first <= line <= last:
                findings.note(
                    f"{log}, line {line}: {what}", f"changes in {log} of which a line is missing or that failed"
                )
        return [each for each in self.found if first <= each.last_line <= last and each.device in findings.devices]


def find_changes(migration: LoggedMigration, names: Mapping[str, str] | None = None) -> LoggedChanges:
    """Find the devices' changes of state in a migration; `names` gives a device's name for the one that is printed."""
    finder = _Finder(migration.events)
    for event in migration.events:
        finder.take(event, names or {})
    finder.end()
    return finder.changes


def note_overlap(findings: Findings, migration: LoggedMigration, found: Sequence[Interval]) -> bool:
    """Say so if devices changed at the same time; gives whether they did."""
    longest: Interval | None = None  # the one that goes on for longest, of those that began before
    for each in sorted(found, key=lambda each: each.start_ns):
        if longest is not None and each.device != longest.device and each.start_ns < longest.end_ns:
            findings.overlapping = True
            findings.note(
                f"{migration.log} is of parallel changes ({longest.device!r} and {each.device!r} change at the "
                "same time): it does not say which thread wrote a line; each device's own times are taken, and "
                "ordinary handlers that ran beside them cannot be seen unless the log has handler_begin"
            )
            return True
        if longest is None or each.end_ns > longest.end_ns:
            longest = each
    return False


def together(found: Iterable[Interval]) -> list[list[Interval]]:
    """Put changes together that follow one another without a moment in which none goes on."""
    stages: list[list[Interval]] = []
    until_ns = 0
    for each in sorted(found, key=lambda each: (each.start_ns, each.end_ns)):
        if stages and each.start_ns < until_ns:
            stages[-1].append(each)
            until_ns = max(until_ns, each.end_ns)
        else:
            stages.append([each])
            until_ns = each.end_ns
    return stages


def names_in(events: Iterable[LogEvent], begin: int) -> list[str]:
    """
    Give the devices of a migration that take part from this line on, in their order.

    They are saved in that order, and set up in it; stopping goes the other way.
    """
    order: dict[str, bool] = {}
    saved: dict[str, None] = {}
    for event in events:
        if event.name in (_REQUEST, DONE, *CHANGES, *SAVE_BEGIN, *SAVE_END):
            name = event.fields["name"]
            order[name] = order.get(name, False) or event.line >= begin
            if event.name in (*SAVE_BEGIN, *SAVE_END):
                saved.setdefault(name)
    names = [name for name, takes_part in order.items() if takes_part]
    return list(saved) if set(saved) == set(names) else names


def asked(events: Iterable[LogEvent]) -> Iterator[tuple[str, DeviceState, LogEvent]]:
    """Give the states that devices were asked for, or came to."""
    for event in events:
        if event.name in _OF_DEVICES:
            yield event.fields["name"], target_of(event), event


class _Finder:
    """Puts requests and answers together; what has lost the one or the other is noted."""

    def __init__(self, events: Sequence[LogEvent]) -> None:
        kinds = {event.name for event in events}
        self._asks, self._answers, self._done = (kind in kinds for kind in (_REQUEST, _ANSWER, DONE))
        self.changes = LoggedChanges(done=self._done)
        self._requests: dict[str, LogEvent] = {}
        self._states: dict[str, DeviceState] = {}
        self._heard: set[str] = set()  # whoever has asked or come anywhere since its last change in a handler
        self._before: LogEvent | None = None  # the last step of whoever changes one device after another

    def take(self, event: LogEvent, names: Mapping[str, str]) -> None:
        if event.name in _OF_DEVICES:
            name = names.get(event.fields["name"], event.fields["name"])
            if event.name not in CHANGES:
                self._heard.add(name)
            if event.name == _REQUEST:
                self._request(name, event)
            elif event.name == _ANSWER:
                self._answer(name, event)
            elif event.name == DONE:
                self._came(name, event)
            else:
                self._change(name, event)
        self._before = event

    def end(self) -> None:
        for name, request in self._requests.items():
            self._lost(name, request)

    def _request(self, name: str, request: LogEvent) -> None:
        before = self._requests.pop(name, None)
        if before is not None:
            self._lost(name, before)
        if self._states.get(name) is not target_of(request):  # else there is nothing to do, and nothing follows
            self._requests[name] = request

    def _answer(self, name: str, answer: LogEvent) -> None:
        request = self._requests.pop(name, None)
        state = self._states[name] = target_of(answer)
        if request is None and not self._asks:
            self.changes.began = False
            self._since_before(name, answer)
        elif request is None:
            self._wrong(
                answer, f"{name!r} came to {state.name}, and the log does not say since when: its time is left out"
            )
        elif state is target_of(request):
            self._found(name, state, request, answer)
        else:
            self._wrong(
                answer,
                f"{name!r} was to go to {target_of(request).name} and came to {state.name}: it failed, and its time is "
                "left out",
            )

    def _came(self, name: str, event: LogEvent) -> None:
        if self._states.get(name) is not target_of(event):
            self._states[name] = target_of(event)
            self._since_before(name, event)

    def _change(self, name: str, change: LogEvent) -> None:
        request = self._requests.pop(name, None)
        state = target_of(change)
        if request is not None:
            if self._answers:
                self._wrong(
                    change,
                    f"the line that says when {name!r} came to {state.name} is missing; it is taken to be this one",
                )
            self._found(name, state, request, change)
            self._states[name] = state
        elif name not in self._heard:
            self.changes.began = False
            self._since_before(name, change)
            self._states[name] = state
        self._heard.discard(name)

    def _since_before(self, name: str, event: LogEvent) -> None:
        self._found(name, target_of(event), self._before or event, event)

    def _found(self, name: str, target: DeviceState, first: LogEvent, last: LogEvent) -> None:
        self.changes.found.append(Interval(name, target, first.time_ns, last.time_ns, first.line, last.line))

    def _lost(self, name: str, request: LogEvent) -> None:
        self._wrong(
            request,
            f"{name!r} is asked to go to {target_of(request).name}, and the log does not say when it came there: its "
            "time is left out",
        )

    def _wrong(self, event: LogEvent, what: str) -> None:
        self.changes.wrong.append((event.line, what))
