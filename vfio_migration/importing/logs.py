"""Makes a scenario of the logs of a migration of a real QEMU."""

from dataclasses import dataclass
from pathlib import Path

from vfio_migration.errors import LogImportError, ScenarioError
from vfio_migration.importing.accounted_for import accounted_for
from vfio_migration.importing.around_the_passes import took_ns
from vfio_migration.importing.attempts import LoggedMigrations
from vfio_migration.importing.choice import arrival_of, chosen_migration
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.fitted_phases import fit_phases
from vfio_migration.importing.log_reader import TOLERANCE_NS, QemuLog, read_log
from vfio_migration.importing.one_migration import find_migration, switchover_of
from vfio_migration.importing.scenario_text import origin_of, scenario_text
from vfio_migration.scenarios import Scenario, parse_scenario
from vfio_migration.wording import ms


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
    stop = switchover_of(migration)
    arrival = arrival_of(findings, migration, outgoing, destination, incoming)
    find_migration(findings, migration, stop, arrival, qtree)
    origin = origin_of(migration, None if destination is None else destination.name)
    scenario = fit_phases(findings, lambda: parsed(scenario_text(findings, origin, ()), source.name))
    report.extend(accounted_for(scenario, took_ns(findings, migration, arrival), parallel=findings.overlapping))
    notes = findings.all_notes()
    return ImportedScenario(scenario_text(findings, origin, notes), scenario, notes, tuple(report))


def parsed(text: str, log: str) -> Scenario:
    """
    Read what was written of a log.

    Raises:
        LogImportError: what the log says makes no scenario.

    """
    try:
        return parse_scenario(text, Path(f"{Path(log).stem}.toml"))
    except ScenarioError as error:
        raise LogImportError(f"{log}: what it says makes no scenario: {error}") from error


def _found_in(findings: Findings, log: QemuLog, report: list[str], number: int | None) -> LoggedMigrations:
    found = LoggedMigrations(log, number)
    note_reading(findings, log, report)
    report.extend(found.report)
    return found


def note_reading(findings: Findings, log: QemuLog, report: list[str]) -> None:
    """Say what is odd in a log that has been read."""
    if log.unknown:
        report.append(f"{log.name}: {log.unknown:,} of {log.lines:,} lines are not known here, passed over")
    for odd in log.odd:
        findings.note(odd)
    if log.back_ns > TOLERANCE_NS:
        findings.note(
            f"{log.name}: timestamps run back by up to {ms(log.back_ns / 1e9)}, as threads take the time and then wait "
            "for the log; each device's own lines are in order, and only these are held against each other"
        )
