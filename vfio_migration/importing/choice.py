"""Which of the migrations in the logs is imported, and where the destination takes over."""

from dataclasses import dataclass

from vfio_migration.errors import LogImportError
from vfio_migration.importing.attempts import LoggedMigration, LoggedMigrations, Window
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.log_reader import SWITCHES, QemuLog
from vfio_migration.wording import listed

_MOST = 20


@dataclass(frozen=True)
class Arrival:
    """The migration in the destination's log, and its start of the machine."""

    migration: LoggedMigration
    start: Window


def chosen_migration(
    findings: Findings, source: QemuLog, found: LoggedMigrations, number: int | None
) -> LoggedMigration:
    """
    Choose the migration with this number, or the last that completed.

    Raises:
        LogImportError: there is none.

    """
    name = source.name
    statuses = found.statuses["source"]
    last = found.last("source")
    if last is None:
        what = "it is the log of a destination" if len(found) else "no event of one"
        if source.unknown == source.lines:
            what = "none of its lines is one that QEMU traces" if source.lines else "it is empty"
        raise LogImportError(
            f"{name}, line {source.lines}: no switchover of a source in the log up to its end ({what}): "
            f"expected the log of QEMU with {SWITCHES}"
        )
    numbers = listed([f"{place} ({status})" for place, status in enumerate(statuses, 1)], "migrations", _MOST)
    if number is not None:
        chosen = found.wanted("source")
        if chosen is None:
            raise LogImportError(f"{name}: no migration {number} in the log; there are {numbers}")
        if not chosen.completed:
            findings.note(f"migration {chosen.number} did not complete: its status is {chosen.status!r}")
        return chosen
    completed = found.completed("source")
    if completed is None:
        raise LogImportError(
            f"{name}, line {last.last_line}: no migration in the log completed; there are {numbers}: if one is only "
            "cut off, give the whole log; one that stopped its source before it ended can be imported all the same, "
            "by its number (--migration)"
        )
    if len(statuses) > 1:
        findings.note(f"{name} holds the migrations {numbers}; this is {completed.number}")
    return completed


def arrival_of(
    findings: Findings,
    migration: LoggedMigration,
    outgoing: LoggedMigrations,
    destination: QemuLog | None,
    found: LoggedMigrations | None,
) -> Arrival | None:
    """
    Find where the destination takes over; None if no log says so.

    If the destination's log holds as many migrations as the source's (`outgoing`), they belong together in turn.

    Raises:
        LogImportError: the log that should does not.

    """
    if destination is None or found is None:
        note_no_destination(findings)
        return None
    name, statuses = destination.name, found.statuses["destination"]
    if found.completed("destination") is None and not migration.completed:
        findings.note(f"{name}: nothing completed there, so the destination's arcs are unknown, and 0")
        return None
    taken = last_arrived(destination, found)
    if len(statuses) > 1:
        which, same = "the last that completed", found.wanted("destination")
        if len(statuses) == len(outgoing.statuses["source"]) and same is not None and same.completed:
            taken, which = same, "the one in the same place as the source's"
        findings.note(f"{name} holds {len(statuses)} migrations into the machine; {which} is taken, {taken.number}")
    return arrival_in(taken)


def last_arrived(destination: QemuLog, found: LoggedMigrations) -> LoggedMigration:
    """
    Give the last migration that completed in a destination's log.

    Raises:
        LogImportError: none did.

    """
    taken, last = found.completed("destination"), found.last("destination")
    if taken is None:
        raise LogImportError(
            f"{destination.name}, line {last.last_line if last else destination.lines}: no migration into this machine "
            "completed in the log: it is cut off, or not that of the destination"
        )
    return taken


def note_no_destination(findings: Findings) -> None:
    """Say that nothing is known of the destination."""
    findings.note(
        "without a log of the destination, the time of its arcs and handlers is unknown: "
        "0 stands for it, and forecasts are too short by it"
    )


def arrival_in(taken: LoggedMigration) -> Arrival:
    """
    Find where a destination's migration starts its machine.

    Raises:
        LogImportError: it does not, or the log ends before.

    """
    start = taken.start()
    if start is None:
        raise LogImportError(
            f"{taken.log}, line {taken.last_line}: the destination's machine was never started: "
            f"expected `vm_state_notify running 1` (switch it on: {SWITCHES})"
        )
    return Arrival(taken, start)
