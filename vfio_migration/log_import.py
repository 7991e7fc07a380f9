"""
Makes a scenario of the logs of a migration of a real QEMU: what a device and a handler took, and how deep they are.

Source and destination have clocks of their own, so times are only ever subtracted within one log.
"""

import glob
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from vfio_migration.errors import LogImportError, ScenarioError
from vfio_migration.log_migrations import LoggedMigration, Window, logged_migrations
from vfio_migration.plan import PLAIN
from vfio_migration.qemu_log_reader import SWITCHES, LogEvent, QemuLog, read_log
from vfio_migration.scenario import ROOT_BUS, Scenario, parse_scenario
from vfio_migration.states import DeviceState, MigrationFlags
from vmstate import QtreeError, depth_of_priority, parse_qtree

_S = DeviceState
_P2P = (_S.RUNNING_P2P, _S.PRE_COPY_P2P)
_PRECOPY = (_S.PRE_COPY, _S.PRE_COPY_P2P)
_CHANGES = ("vfio_vmstate_change", "vfio_vmstate_change_prepare")
_SAVE_BEGIN = ("vfio_save_complete_precopy_start", "vfio_save_complete_precopy_thread_start")
_SAVE_END = ("vfio_save_complete_precopy", "vfio_save_complete_precopy_thread_end")
_STATE_SIZE = 65536  # any will do: with the rate it gives the time
_UNKNOWN_DEPTH = 2  # that of a device on pcie.0

_Arc = tuple[DeviceState, DeviceState]


@dataclass(frozen=True)
class ImportedScenario:
    """
    A scenario made of logs.

    `text` is its TOML, `scenario` the same as read; `notes` says what the logs did not, `report` which migrations
    they hold and the chosen ones' phases, a line each.
    """

    text: str
    scenario: Scenario
    notes: tuple[str, ...]
    report: tuple[str, ...]


def import_logs(
    source: str | Path,
    destination: str | Path | None = None,
    qtree: str | Path | None = None,
    migration: int | None = None,
) -> ImportedScenario:
    """
    Make a scenario of the `-trace` logs of a migration's two QEMUs.

    `qtree` is a file with what the source's monitor printed for `info qtree`, for the devices' depths. Without a
    destination's log, its arcs take no time. Of several migrations in the source's log, the last that completed is
    taken, or the one with the number `migration`. All imported devices have parallel changes on.

    Raises:
        LogImportError: the logs or the tree cannot be read, or hold no switchover of VFIO devices; the message
            names file and line and what was missing, `report` is what the logs say all the same.

    """
    reader = _Reports()
    try:
        return _Import(reader, read_log(source), None if destination is None else read_log(destination)).run(
            qtree, migration
        )
    except LogImportError as error:
        raise LogImportError(str(error), reader.lines) from error


@dataclass
class _Reports:
    """What is said of the logs whether or not they can be imported."""

    lines: list[str] = field(default_factory=list)

    def log(self, log: QemuLog, found: Iterable[LoggedMigration]) -> None:
        if log.unknown:
            self.lines.append(f"{log.name}: {log.unknown} of {log.lines} lines are not known here, passed over")
        for each in found:
            self.lines.extend(each.report())


@dataclass(frozen=True)
class _Interval:
    """A device's way to a state, as the log shows it: from the request to the answer."""

    device: str
    target: DeviceState
    start_ns: int
    end_ns: int
    line: int

    @property
    def ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def prepares(self) -> bool:
        return self.target in _P2P


@dataclass
class _Device:
    """What the logs say of a device; times in nanoseconds."""

    name: str
    flags: MigrationFlags = MigrationFlags.STOP_COPY
    depth: int = _UNKNOWN_DEPTH
    type: str = "vfio-pci"
    arcs: dict[_Arc, int] = field(default_factory=dict)
    transfer_ns: int = 0

    def take(self, arc: _Arc, ns: int) -> None:
        self.arcs[arc] = self.arcs.get(arc, 0) + ns


@dataclass
class _Handlers:
    """The ordinary handlers, by name and priority (None: found as gaps, at a depth): times by the scenario's keys."""

    times: dict[tuple[str, int, int | None], dict[str, int]] = field(default_factory=dict)

    def add(self, name: str, depth: int, priority: int | None, key: str, ns: int) -> None:
        if ns > 0:
            times = self.times.setdefault((name, depth, priority), {})
            times[key] = times.get(key, 0) + ns


class _Import:
    """One import, from the logs that were read to the scenario."""

    def __init__(self, reports: _Reports, source: QemuLog, destination: QemuLog | None) -> None:
        self._reports = reports
        self._source = source
        self._destination = destination
        self._notes: list[str] = []
        self._devices: dict[str, _Device] = {}
        self._handlers = _Handlers()

    def run(self, qtree: str | Path | None, number: int | None) -> ImportedScenario:
        outgoing = logged_migrations(self._source)
        self._reports.log(self._source, outgoing)
        incoming = () if self._destination is None else logged_migrations(self._destination)
        if self._destination is not None:
            self._reports.log(self._destination, incoming)
        migration = self._chosen(outgoing, number)
        stop = migration.stop()
        if stop is None:
            raise LogImportError(
                f"{self._source.name}, line {migration.last_line}: migration {migration.number} "
                f"({migration.status}) holds no switchover: the source was never told to stop, or it was not running"
            )
        arrival, start = self._arrival(migration, incoming)
        names = self._paired_names(migration, stop, arrival, start)
        self._find_devices(migration, stop, arrival, start, names)
        self._find_depths(qtree, [migration, *([] if arrival is None else [arrival])], names)
        self._source_side(migration, stop)
        if arrival is not None and start is not None:
            self._destination_side(arrival, start, names)
        text = self._text(migration)
        try:
            scenario = parse_scenario(text, Path(f"{Path(self._source.name).stem}.toml"))
        except ScenarioError as error:
            raise LogImportError(f"{self._source.name}: what it says makes no scenario: {error}") from error
        return ImportedScenario(text, scenario, tuple(self._notes), tuple(self._reports.lines))

    # Which migration:

    def _chosen(self, found: Sequence[LoggedMigration], number: int | None) -> LoggedMigration:
        name = self._source.name
        outgoing = [each for each in found if each.role == "source"]
        if not outgoing:
            what = "it is the log of a destination" if found else "no event of one"
            raise LogImportError(
                f"{name}, line {self._source.lines}: no switchover of a source in the log up to its end ({what}): "
                f"expected the log of QEMU with {SWITCHES}"
            )
        numbers = ", ".join(f"{each.number} ({each.status})" for each in outgoing)
        if number is not None:
            chosen = next((each for each in outgoing if each.number == number), None)
            if chosen is None:
                raise LogImportError(f"{name}: no migration {number} in the log; there are {numbers}")
            if not chosen.completed:
                self._note(f"migration {chosen.number} did not complete: its status is {chosen.status!r}")
            return chosen
        completed = [each for each in outgoing if each.completed]
        if not completed:
            last = outgoing[-1]
            raise LogImportError(
                f"{name}, line {last.last_line}: no migration in the log completed; there are {numbers}: "
                "the log is cut off, or choose one whose source was stopped by its number"
            )
        if len(outgoing) > 1:
            self._note(f"{name} holds the migrations {numbers}; this is {completed[-1].number}")
        return completed[-1]

    def _arrival(
        self, migration: LoggedMigration, found: Sequence[LoggedMigration]
    ) -> tuple[LoggedMigration | None, Window | None]:
        """Find where the destination takes over."""
        if self._destination is None:
            self._note(
                "without a log of the destination, the time of its arcs and handlers is unknown: "
                "0 stands for it, and forecasts are too short by it"
            )
            return None, None
        name = self._destination.name
        incoming = [each for each in found if each.role == "destination"]
        completed = [each for each in incoming if each.completed]
        if not completed:
            if not migration.completed:
                self._note(f"{name}: nothing completed there, so the destination's arcs are unknown, and 0")
                return None, None
            line = incoming[-1].last_line if incoming else self._destination.lines
            raise LogImportError(
                f"{name}, line {line}: no migration into this machine completed in the log: "
                "it is cut off, or not that of the destination"
            )
        if len(incoming) > 1:
            self._note(f"{name} holds {len(incoming)} migrations into the machine; the last that completed is taken")
        start = completed[-1].start()
        if start is None:
            raise LogImportError(
                f"{name}, line {completed[-1].last_line}: the destination's machine was never started: "
                f"expected `vm_state_notify running 1` (switch it on: {SWITCHES})"
            )
        return completed[-1], start

    # Which devices:

    def _paired_names(
        self, migration: LoggedMigration, stop: Window, arrival: LoggedMigration | None, start: Window | None
    ) -> dict[str, str]:
        """Give the name on the source for each name on the destination."""
        here = _names(migration.events, stop.begin.line)
        if not here:
            raise LogImportError(
                f"{migration.log}, line {stop.begin.line}: no VFIO device changes its state in the switchover of "
                f"migration {migration.number}: the machine has none that can migrate, or these were not switched "
                "on: -trace 'vfio_migration_set_*' -trace 'vfio_vmstate_change*'"
            )
        if arrival is None or start is None:
            return {}
        there = _names(arrival.events, start.begin.line)
        same = {name: name for name in there if name in here}
        ours = [name for name in here if name not in same]
        theirs = [name for name in there if name not in same]
        if ours and len(ours) == len(theirs):
            pairs = ", ".join(f"{b!r} = {a!r}" for a, b in zip(ours, theirs, strict=True))
            self._note(f"the destination's names of devices are others; in their order they are taken to be: {pairs}")
            return same | dict(zip(theirs, ours, strict=True))
        if theirs:
            raise LogImportError(
                f"{arrival.log}, line {start.begin.line}: devices that the source's log does not have: "
                f"{', '.join(map(repr, theirs))}; it has {', '.join(map(repr, here))}"
            )
        if ours:
            self._note(
                f"the destination's log does not show {', '.join(map(repr, ours))}: 0 stands for what they took there"
            )
        return same

    def _find_devices(
        self,
        migration: LoggedMigration,
        stop: Window,
        arrival: LoggedMigration | None,
        start: Window | None,
        names: Mapping[str, str],
    ) -> None:
        """Infer the devices' features from the states that were asked."""
        self._devices = {name: _Device(name) for name in _names(migration.events, stop.begin.line)}
        for name, state, event in _asked(migration.events):
            if name in self._devices:
                # Handlers take a device to STOP_COPY only from pre-copy; any other goes there when it is saved.
                saving = state is _S.STOP_COPY and stop.begin.line <= event.line <= stop.end.line
                _infer(self._devices[name], state, event)
                if saving:
                    self._devices[name].flags |= MigrationFlags.PRE_COPY
        for name, state, event in _asked(arrival.events if arrival is not None else ()):
            if names.get(name) in self._devices:
                _infer(self._devices[names[name]], state, event)
        without = [each for each in self._devices.values() if MigrationFlags.P2P not in each.flags]
        if without and len(self._devices) > 1:
            for each in without:
                each.flags |= MigrationFlags.P2P
            self._note(
                f"no *_P2P state was logged of {', '.join(repr(each.name) for each in without)}; they are taken to "
                "have P2P, as more than one device cannot migrate without"
            )

    def _find_depths(
        self, qtree: str | Path | None, migrations: Sequence[LoggedMigration], names: Mapping[str, str]
    ) -> None:
        known: dict[str, int] = {}
        for each in migrations:
            for event in each.events:
                if event.name == "handler_begin":
                    depth = depth_of_priority(event.fields["priority"])
                    if depth:
                        name = event.fields["handler"]
                        known.setdefault(names.get(name, name) if each.role == "destination" else name, depth)
        if qtree is not None:
            places = _places(qtree)
            for device in self._devices.values():
                if device.name not in places:
                    ids = ", ".join(sorted(map(repr, places))) or "none"
                    raise LogImportError(
                        f"{qtree}: the device {device.name!r} of {self._source.name} is not in this tree, neither as "
                        f"an id nor as a property `host` or `sysfsdev`; there are {ids}"
                    )
                device.depth, device.type = places[device.name]
            return
        for device in self._devices.values():
            device.depth = known.get(device.name, _UNKNOWN_DEPTH)
        if any(name not in known for name in self._devices):
            self._note(
                "without a device tree (--qtree), depths are unknown: all devices are at one depth, "
                "where parallel changes gain most"
            )

    # What took how long:

    def _source_side(self, migration: LoggedMigration, stop: Window) -> None:
        intervals = self._intervals(migration, stop.events)
        for each in intervals:
            device = self._devices[each.device]
            p2p, precopy = (flag in device.flags for flag in (MigrationFlags.P2P, MigrationFlags.PRE_COPY))
            before = _S.PRE_COPY if precopy else _S.RUNNING
            prepared = (_S.PRE_COPY_P2P if precopy else _S.RUNNING_P2P) if p2p else before
            ways = {prepared: before, (_S.STOP_COPY if precopy else _S.STOP): prepared}
            if each.target in ways and ways[each.target] is not each.target:
                device.take((ways[each.target], each.target), each.ns)
            else:
                self._note_odd(migration, each)
        self._note_overlap(migration, intervals)
        self._find_handlers(migration, stop, intervals, running=False)
        self._around(migration, stop)
        try:
            transfer = migration.transfer(stop)
        except LogImportError:
            if migration.completed:
                raise
            self._note("the log does not show the end of the transfer: the states take no time in this scenario")
            return
        self._transfer(migration, transfer)

    def _around(self, migration: LoggedMigration, stop: Window) -> None:
        """Take what lies outside the switchover: the way to pre-copy before, the clean-up after."""
        lines = {event.line for event in stop.events}
        outside = [event for event in migration.events if event.line not in lines]
        for name, target, event, end in _answered(outside):
            device = self._devices.get(name)
            arc = {_S.PRE_COPY: _S.RUNNING, _S.STOP: _S.STOP_COPY}.get(target)
            if device is None or arc is None or not _has(device, target):
                continue
            if (target is _S.PRE_COPY) == (event.line < stop.begin.line):
                device.arcs.setdefault((arc, target), end.time_ns - event.time_ns)

    def _transfer(self, migration: LoggedMigration, window: Window) -> None:
        stop_copy: dict[str, int] = {}
        for each in self._intervals(migration, window.events, quietly=True):
            device = self._devices[each.device]
            if each.target is _S.STOP_COPY and MigrationFlags.PRE_COPY not in device.flags:
                device.take((_S.STOP, _S.STOP_COPY), each.ns)
                stop_copy[each.device] = stop_copy.get(each.device, 0) + each.ns
        saved = self._saved(migration, window)
        if saved:
            self._each_transfer(saved, stop_copy, window)
            return
        share = max(0.0, window.seconds * 1e9 - sum(stop_copy.values())) / len(self._devices)
        for device in self._devices.values():
            device.transfer_ns = round(share)
        self._note(
            "the log does not say how long saving each device took (-trace 'vfio_save_complete_precopy*'): the whole "
            f"transfer, {window.seconds * 1000:.3f} ms, is shared equally among the devices"
        )

    def _each_transfer(
        self, saved: Mapping[str, tuple[int, int]], stop_copy: Mapping[str, int], window: Window
    ) -> None:
        """Take the times that were logged for each device."""
        for name, (first, last) in saved.items():
            if name in self._devices:
                self._devices[name].transfer_ns = max(0, last - first - stop_copy.get(name, 0))
        covered = _covered((first, last) for first, last in saved.values())
        rest = window.seconds * 1e9 - covered
        if sum(last - first for first, last in saved.values()) > covered:
            self._note("states were saved at the same time (multifd); in this scenario it is one after another")
        if rest >= _WORTH_SAYING_NS:
            self._note(
                f"{rest / 1e6:.3f} ms of the transfer ({window.seconds * 1000:.3f} ms) belong to no VFIO device "
                "(memory, other devices): they are not in this scenario, add them to forecasts"
            )

    def _saved(self, migration: LoggedMigration, window: Window) -> dict[str, tuple[int, int]]:
        """Find when each device was saved."""
        begun: dict[str, LogEvent] = {}
        saved: dict[str, tuple[int, int]] = {}
        for event in window.events:
            name = event.fields.get("name", "")
            if event.name in _SAVE_BEGIN:
                begun.setdefault(name, event)
            elif event.name in _SAVE_END and name in begun:
                saved[name] = (begun[name].time_ns, event.time_ns)
        for name in begun.keys() - saved.keys():
            self._note(f"saving {name!r} has no end in {migration.log} (begun in line {begun[name].line})")
        return saved

    def _destination_side(self, arrival: LoggedMigration, start: Window, names: Mapping[str, str]) -> None:
        intervals = self._intervals(arrival, start.events, names)
        for each in intervals:
            device = self._devices[each.device]
            p2p = MigrationFlags.P2P in device.flags
            if each.target is _S.RUNNING_P2P or (each.target is _S.RUNNING and not p2p):
                device.take((_S.RESUMING, _S.STOP), each.ns)
            elif each.target is _S.RUNNING:
                device.take((_S.RUNNING_P2P, _S.RUNNING), each.ns)
            else:
                self._note_odd(arrival, each)
        self._note(
            "RESUMING -> STOP holds the whole way from RESUMING to RUNNING_P2P (to RUNNING, for a device without "
            "P2P): a log shows these arcs as one interval, and loading happens in the first"
        )
        self._note_overlap(arrival, intervals)
        self._find_handlers(arrival, start, intervals, running=True)

    def _intervals(
        self,
        migration: LoggedMigration,
        events: Sequence[LogEvent],
        names: Mapping[str, str] | None = None,
        *,
        quietly: bool = False,
    ) -> list[_Interval]:
        """Find the devices' changes of state in a part of a log, in the order of their end."""
        asked = any(event.name == "vfio_migration_set_state" for event in events)
        answered = any(event.name == "vfio_migration_set_device_state" for event in migration.events)
        names = names or {}
        requests: dict[str, LogEvent] = {}
        found: list[_Interval] = []
        for event in events:
            printed = event.fields.get("name", "")
            name = names.get(printed, printed)
            if name not in self._devices:
                continue
            if event.name == "vfio_migration_set_state":
                requests[name] = event
            elif event.name == "vfio_migration_set_device_state":
                request = requests.pop(name, None)
                found.extend(() if request is None else self._answer(migration, name, request, event))
            elif event.name in _CHANGES:
                request = requests.pop(name, None)
                if not asked:
                    begin = event.time_ns if event.before_ns is None else event.before_ns
                    found.append(_Interval(name, event.fields["dev_state"], begin, event.time_ns, event.line))
                elif request is not None and not answered:
                    found.append(
                        _Interval(name, event.fields["dev_state"], request.time_ns, event.time_ns, request.line)
                    )
        if found and not asked and not quietly:
            self._note(
                f"{migration.log} does not say when a change of state began (-trace 'vfio_migration_set_*'): it is "
                "taken to begin at the line before, so that ordinary handlers count as the device's time"
            )
        return found

    def _answer(
        self, migration: LoggedMigration, name: str, request: LogEvent, answer: LogEvent
    ) -> Iterator[_Interval]:
        target = request.fields["new_state"]
        if answer.fields["state"] is target:
            yield _Interval(name, target, request.time_ns, answer.time_ns, request.line)
        else:
            self._note(
                f"{migration.log}, line {answer.line}: {name!r} was to go to {target.name} and came to "
                f"{answer.fields['state'].name}: it failed, and its time is left out"
            )

    def _find_handlers(
        self, migration: LoggedMigration, window: Window, intervals: Sequence[_Interval], *, running: bool
    ) -> None:
        if any(event.name == "handler_begin" for event in window.events):
            self._exact_handlers(window, running=running)
        else:
            self._gaps(window, intervals, running=running)

    def _exact_handlers(self, window: Window, *, running: bool) -> None:
        begun: dict[tuple[str, int, str], LogEvent] = {}
        for event in window.events:
            if event.name not in ("handler_begin", "handler_end") or event.fields["kind"] not in ("prepare", "main"):
                continue
            name, priority, kind = (event.fields[each] for each in ("handler", "priority", "kind"))
            if event.name == "handler_begin":
                begun[name, priority, kind] = event
                continue
            first = begun.pop((name, priority, kind), None)
            if first is None or name in self._devices:
                continue
            depth = depth_of_priority(priority)
            plain = not depth  # a device on no bus comes before all others too, and a tree has no place for it
            self._handlers.add(
                name,
                PLAIN if plain else depth or 0,
                (0 if depth == 0 else priority) if plain else None,
                _key(running=running, prepares=kind == "prepare"),
                event.time_ns - first.time_ns,
            )

    def _gaps(self, window: Window, intervals: Sequence[_Interval], *, running: bool) -> None:
        """Take what no device's change covers for the time of ordinary handlers."""
        ordered = sorted(intervals, key=lambda each: (each.start_ns, each.end_ns))
        reached, last = window.begin.time_ns, None
        total = 0
        for each in [*ordered, None]:
            until = window.end.time_ns if each is None else each.start_ns
            if until > reached:
                depth = self._depth_of_gap(last, each, running=running)
                key = _key(running=running, prepares=each is not None and each.prepares)
                name = "handlers" if depth == PLAIN else f"handlers at depth {depth}"
                self._handlers.add(name, depth, 0 if depth == PLAIN else None, key, until - reached)
                total += until - reached
            if each is not None and each.end_ns > reached:
                reached, last = each.end_ns, each
        if total:
            side = "destination" if running else "source"
            self._note(
                f"{total / 1e6:.3f} ms on the {side} lie between the devices' changes; they are taken for ordinary "
                "handlers, beside the devices where both neighbours are at the same depth, else at a depth of their own"
            )

    def _depth_of_gap(self, last: _Interval | None, following: _Interval | None, *, running: bool) -> int:
        """Say where handlers lie between two changes; at the ends of a pass, where they overlap no device."""
        deeper = max(each.depth for each in self._devices.values()) + 1
        if following is None:
            return deeper if running else PLAIN
        if last is None or last.prepares != following.prepares:
            return PLAIN if running else deeper
        above, below = sorted((self._devices[last.device].depth, self._devices[following.device].depth))
        return (above + below) // 2

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    def _note_odd(self, migration: LoggedMigration, each: _Interval) -> None:
        self._note(
            f"{migration.log}, line {each.line}: {each.device!r} goes to {each.target.name}, which a switchover of "
            f"such a device does not ask for here: {each.ns / 1e6:.3f} ms are left out"
        )

    def _note_overlap(self, migration: LoggedMigration, intervals: Sequence[_Interval]) -> None:
        longest: _Interval | None = None  # the one that goes on for longest, of those that began before
        for each in sorted(intervals, key=lambda each: each.start_ns):
            if longest is not None and each.device != longest.device and each.start_ns < longest.end_ns:
                self._note(
                    f"{migration.log} is of parallel changes ({longest.device!r} and {each.device!r} change at the "
                    "same time): it does not say which thread wrote a line; each device's own times are taken, and "
                    "ordinary handlers that ran beside them cannot be seen unless the log has handler_begin"
                )
                return
            if longest is None or each.end_ns > longest.end_ns:
                longest = each

    # What comes of it:

    def _text(self, migration: LoggedMigration) -> str:
        destination = "" if self._destination is None else f" and {self._destination.name!r}"
        comments = [
            f"Imported from {self._source.name!r}{destination}: migration {migration.number} ({migration.status}).",
            "Sizes are chosen so that with the rates they give the times that were logged.",
            *(f"- {note}" for note in self._notes),
        ]
        header = "".join(f"# {_printable(comment)}\n" for comment in comments)
        return header + "\n" + tomli_w.dumps(self._data(migration))

    def _data(self, migration: LoggedMigration) -> dict[str, Any]:
        handlers: list[dict[str, Any]] = []
        hosts: list[dict[str, Any]] = []
        for number, ((name, depth, priority), times) in enumerate(self._handlers.times.items()):
            entry: dict[str, Any] = {"name": name or "handler"}
            if depth == PLAIN:
                entry["priority"] = priority
            else:
                entry["types"] = f"handler-{number}"
                hosts.append({"bus": _bus(depth), "type": f"handler-{number}"})
            handlers.append(entry | {key: ns / 1e9 for key, ns in times.items()})
        deepest = max([each.depth for each in self._devices.values()] + [depth for _, depth, _ in self._handlers.times])
        chain = [
            {"bus": _bus(depth), "type": "bridge", "buses": [_bus(depth + 1)]} for depth in range(1, max(1, deepest))
        ]
        vfio = [{"bus": _bus(each.depth), "id": each.name, "type": each.type} for each in self._devices.values()]
        downtime = migration.downtime_s
        took = "" if downtime is None else f", downtime {downtime * 1000:.1f} ms on the source"
        data: dict[str, Any] = {
            "description": f"imported from {_printable(migration.log)}{took}",
            "tree": {"devices": [*chain, *vfio, *hosts]},
            "vfio": [self._device_data(each) for each in self._devices.values()],
        }
        return data | ({"handlers": handlers} if handlers else {})

    @staticmethod
    def _device_data(device: _Device) -> dict[str, Any]:
        data: dict[str, Any] = {
            "devices": glob.escape(device.name),
            "p2p": MigrationFlags.P2P in device.flags,
            "precopy": MigrationFlags.PRE_COPY in device.flags,
        }
        if device.transfer_ns:
            data |= {"state_size": _STATE_SIZE, "rate": _STATE_SIZE * 1e9 / device.transfer_ns}
        data["latency"] = {f"{a.name} -> {b.name}": ns / 1e9 for (a, b), ns in device.arcs.items()}
        return data


_WORTH_SAYING_NS = 1_000_000


def _infer(device: _Device, state: DeviceState, event: LogEvent) -> None:
    """Infer features from a state that was asked for."""
    if state in _P2P or event.name == "vfio_vmstate_change_prepare":
        device.flags |= MigrationFlags.P2P
    if state in _PRECOPY:
        device.flags |= MigrationFlags.PRE_COPY


def _has(device: _Device, target: DeviceState) -> bool:
    """Whether the device has the state."""
    return target not in _PRECOPY or MigrationFlags.PRE_COPY in device.flags


def _names(events: Iterable[LogEvent], begin: int) -> list[str]:
    """
    Give the devices of a migration that take part from this line on, in their order.

    They are saved in that order, and set up in it; stopping goes the other way.
    """
    order: dict[str, bool] = {}
    saved: dict[str, None] = {}
    for event in events:
        if event.name in ("vfio_migration_set_state", *_CHANGES, *_SAVE_BEGIN):
            name = event.fields["name"]
            order[name] = order.get(name, False) or event.line >= begin
            if event.name in _SAVE_BEGIN:
                saved[name] = None
    names = [name for name, takes_part in order.items() if takes_part]
    return list(saved) if set(saved) == set(names) else names


def _asked(events: Iterable[LogEvent]) -> Iterator[tuple[str, DeviceState, LogEvent]]:
    """Give the states that devices were asked for."""
    for event in events:
        if event.name == "vfio_migration_set_state":
            yield event.fields["name"], event.fields["new_state"], event
        elif event.name in _CHANGES:
            yield event.fields["name"], event.fields["dev_state"], event


def _answered(events: Iterable[LogEvent]) -> Iterator[tuple[str, DeviceState, LogEvent, LogEvent]]:
    """Give the requests that led to the state that was asked for, each with its answer."""
    requests: dict[str, LogEvent] = {}
    for event in events:
        if event.name == "vfio_migration_set_state":
            requests[event.fields["name"]] = event
        elif event.name == "vfio_migration_set_device_state":
            request = requests.pop(event.fields["name"], None)
            if request is not None and request.fields["new_state"] is event.fields["state"]:
                yield event.fields["name"], event.fields["state"], request, event


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Give how much time at least one of the spans covers."""
    covered, reached = 0, -1
    for first, last in sorted(spans):
        covered += max(0, last - max(first, reached))
        reached = max(reached, last)
    return covered


def _key(*, running: bool, prepares: bool) -> str:
    return ("prepare_" if prepares else "") + ("start" if running else "stop")


def _bus(depth: int) -> str:
    return ROOT_BUS if depth == 1 else f"depth-{depth}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


_DEV = re.compile(r"\s*dev: ")
# VFIO's events name a device by its address on the host, or by the name of its mediated device.
_HOST = re.compile(r'\s*(?:host = "?(?P<host>[^"]+?)"?|sysfsdev = "(?:.*/)?(?P<sysfsdev>[^"/]+)/?")\s*')


def _places(qtree: str | Path) -> dict[str, tuple[int, str]]:
    """Read a device tree: depth and type of each device, by its id and by what VFIO's events would call it."""
    try:
        text = Path(qtree).read_text(encoding="utf-8")
        tree = parse_qtree(text)
    except (OSError, ValueError, QtreeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LogImportError(
            f"{qtree}: expected what QEMU's monitor prints for `info qtree`, it cannot be read ({reason})"
        ) from error
    devices = list(tree)
    places = {device.id: (device.depth, device.type) for device in devices if device.id}
    place = -1
    for line in text.removeprefix("\ufeff").splitlines():
        if _DEV.match(line):
            place += 1
            continue
        match = _HOST.fullmatch(line)
        if match is not None and 0 <= place < len(devices):
            name = match["host"] or match["sysfsdev"]
            places.setdefault(name, (devices[place].depth, devices[place].type))
    return places
