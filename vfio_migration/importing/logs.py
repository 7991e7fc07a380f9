"""
Makes a scenario of the logs of a migration of a real QEMU: what a device and a handler took, and how deep they are.

Source and destination have clocks of their own, so times are only ever subtracted within one log.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vfio_migration.device import DeviceState
from vfio_migration.errors import LogImportError, ScenarioError
from vfio_migration.importing.accounted_for import accounted_for
from vfio_migration.importing.around_the_passes import find_phases, took_ns
from vfio_migration.importing.attempts import LoggedMigration, LoggedMigrations, Window
from vfio_migration.importing.choice import Arrival, arrival_of, chosen_migration
from vfio_migration.importing.depths import find_depths, find_stages
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.fitted_phases import fit_phases
from vfio_migration.importing.log_reader import TOLERANCE_NS, QemuLog, read_log
from vfio_migration.importing.logged_changes import Interval, LoggedChanges, find_changes
from vfio_migration.importing.logged_handlers import find_handlers
from vfio_migration.importing.logged_sizes import find_sizes
from vfio_migration.importing.paired_devices import find_devices, paired_names
from vfio_migration.importing.parallel_sides import ParallelSide, changes_in_parallel, find_parallel_sides
from vfio_migration.importing.scenario_text import scenario_text
from vfio_migration.importing.transfer import find_transfer
from vfio_migration.scenarios import Scenario, parse_scenario
from vfio_migration.wording import ms

_S = DeviceState


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
    report: list[str] = []
    logs = read_log(source), None if destination is None else read_log(destination)
    try:
        return _imported(report, *logs, qtree, migration)
    except LogImportError as error:
        raise LogImportError(str(error), report) from error


def _imported(
    report: list[str], source: QemuLog, destination: QemuLog | None, qtree: str | Path | None, number: int | None
) -> ImportedScenario:
    """Import; `report` holds what can be said of the logs whether or not that fails."""
    findings = Findings()
    outgoing = _found_in(findings, source, report, number)
    migration = chosen_migration(findings, source, outgoing, number)
    incoming = None if destination is None else _found_in(findings, destination, report, migration.number)
    stop = migration.stop()
    if stop is None:
        raise LogImportError(
            f"{source.name}, line {migration.last_line}: migration {migration.number} "
            f"({migration.status}) holds no switchover: the source was never told to stop, or it was not running"
        )
    arrival = arrival_of(findings, migration, outgoing, destination, incoming)
    names = paired_names(findings, migration, stop, arrival)
    find_devices(findings, migration, stop, arrival, names)
    find_depths(findings, qtree, [migration, *([] if arrival is None else [arrival.migration])], names)
    walked: list[ParallelSide] = []
    transfer = _source_side(findings, migration, stop, walked)
    if arrival is not None:
        _destination_side(findings, arrival, names, walked)
    find_parallel_sides(findings, walked)
    find_sizes(findings, migration, stop, arrival, names)
    find_phases(findings, migration, stop, transfer, arrival)
    if not findings.overlapping:
        findings.note(
            "the changes of state in the log come one after another; in this scenario parallel changes are on: "
            "--set '*.parallel=false' gives the switchover as it was"
        )

    def text() -> str:
        return scenario_text(findings, migration, None if destination is None else destination.name)

    scenario = fit_phases(findings, lambda: _parsed(text(), source.name))
    report.extend(accounted_for(scenario, took_ns(findings, migration, arrival), parallel=findings.overlapping))
    return ImportedScenario(text(), scenario, findings.all_notes(), tuple(report))


def _parsed(text: str, log: str) -> Scenario:
    try:
        return parse_scenario(text, Path(f"{Path(log).stem}.toml"))
    except ScenarioError as error:
        raise LogImportError(f"{log}: what it says makes no scenario: {error}") from error


def _found_in(findings: Findings, log: QemuLog, report: list[str], number: int | None) -> LoggedMigrations:
    found = LoggedMigrations(log, number)
    if log.unknown:
        report.append(f"{log.name}: {log.unknown:,} of {log.lines:,} lines are not known here, passed over")
    for odd in log.odd:
        findings.note(odd)
    if log.back_ns > TOLERANCE_NS:
        findings.note(
            f"{log.name}: timestamps run back by up to {ms(log.back_ns / 1e9)}, as threads take the time and then wait "
            "for the log; each device's own lines are in order, and only these are held against each other"
        )
    report.extend(found.report)
    return found


def _source_side(
    findings: Findings, migration: LoggedMigration, stop: Window, walked: list[ParallelSide]
) -> Window | None:
    """Take what the source did; gives the window of the transfer, if the log shows it."""
    changes = find_changes(migration)
    found = changes.within(findings, migration.log, stop)
    _note_beginnings(findings, migration, changes)
    for each in found:
        device = findings.devices[each.device]
        before = _S.PRE_COPY if device.precopy else _S.RUNNING
        prepared = (_S.PRE_COPY_P2P if device.precopy else _S.RUNNING_P2P) if device.p2p else before
        ways = {prepared: before, (_S.STOP_COPY if device.precopy else _S.STOP): prepared}
        if each.target in ways and ways[each.target] is not each.target:
            device.take((ways[each.target], each.target), each.ns)
        else:
            _note_odd(findings, migration, each)
    parallel = changes_in_parallel(findings, migration, found)
    find_stages(findings, found)
    if parallel:
        walked.append(ParallelSide(stop, found, running=False))
    else:
        find_handlers(findings, stop, found, running=False)
    _around(findings, changes, stop)
    try:
        transfer = migration.transfer(stop)
    except LogImportError:
        if migration.completed:
            raise
        findings.note("the log does not show the end of the transfer: the states take no time in this scenario")
        return None
    find_transfer(findings, migration, changes, transfer)
    return transfer


def _note_beginnings(findings: Findings, migration: LoggedMigration, changes: LoggedChanges) -> None:
    """Say where the beginnings of changes come from, if not from the log."""
    if changes.done:
        findings.note(
            f"{migration.log} is of a QEMU (8.0 to 9.0) that writes only when a device has come to a state; it changes "
            "one device after another, so each change is taken to begin where the step before had ended"
        )
    elif changes.found and not changes.began:
        findings.note(
            f"{migration.log} does not say when a change of state began (no vfio_migration_set_state): it is "
            "taken to begin at the event before, so that ordinary handlers count as the device's time"
        )


def _around(findings: Findings, changes: LoggedChanges, stop: Window) -> None:
    """Take what lies outside the switchover: the way to pre-copy before, the clean-up after."""
    for each in changes.found:
        device = findings.devices.get(each.device)
        arc = {_S.PRE_COPY: _S.RUNNING, _S.STOP: _S.STOP_COPY}.get(each.target)
        if device is None or arc is None or (each.target is _S.PRE_COPY and not device.precopy):
            continue
        before, after = each.last_line < stop.begin.line, each.line > stop.end.line
        if before if each.target is _S.PRE_COPY else after:
            device.arcs.setdefault((arc, each.target), each.ns)


def _destination_side(
    findings: Findings, arrival: Arrival, names: Mapping[str, str], walked: list[ParallelSide]
) -> None:
    changes = find_changes(arrival.migration, names)
    found = changes.within(findings, arrival.migration.log, arrival.start)
    _note_beginnings(findings, arrival.migration, changes)
    for each in found:
        device = findings.devices[each.device]
        if each.target is _S.RUNNING_P2P or (each.target is _S.RUNNING and not device.p2p):
            device.take((_S.RESUMING, _S.STOP), each.ns)
        elif each.target is _S.RUNNING:
            device.take((_S.RUNNING_P2P, _S.RUNNING), each.ns)
        else:
            _note_odd(findings, arrival.migration, each)
    findings.note(
        "RESUMING -> STOP holds the whole way from RESUMING to RUNNING_P2P (to RUNNING, for a device without "
        "P2P): a log shows these arcs as one interval, and loading happens in the first"
    )
    if changes_in_parallel(findings, arrival.migration, found):
        walked.append(ParallelSide(arrival.start, found, running=True))
    else:
        find_handlers(findings, arrival.start, found, running=True)


def _note_odd(findings: Findings, migration: LoggedMigration, each: Interval) -> None:
    findings.note(
        f"{migration.log}, line {each.line}: {each.device!r} goes to {each.target.name}, which a switchover of "
        f"such a device does not ask for here: {ms(each.ns / 1e9, digits=3)} are left out",
        f"changes in {migration.log} that a switchover does not ask for",
    )
