"""
What a migration took, found part by part: its devices and how deep they are, the source's side, the destination's.

Source and destination have clocks of their own, so times are only ever subtracted within one log.
"""

from collections.abc import Mapping
from pathlib import Path

from vfio_migration.device import DeviceState
from vfio_migration.errors import LogImportError
from vfio_migration.importing.around_the_passes import find_phases
from vfio_migration.importing.attempts import LoggedMigration, Window
from vfio_migration.importing.choice import Arrival
from vfio_migration.importing.depths import find_depths, find_stages
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.logged_changes import Interval, LoggedChanges, find_changes
from vfio_migration.importing.logged_handlers import find_handlers
from vfio_migration.importing.logged_sizes import find_sizes
from vfio_migration.importing.paired_devices import find_devices, paired_names
from vfio_migration.importing.parallel_sides import ParallelSide, changes_in_parallel, find_parallel_sides
from vfio_migration.importing.transfer import find_transfer
from vfio_migration.wording import ms

_S = DeviceState


def switchover_of(migration: LoggedMigration) -> Window:
    """
    Give where the source is told to stop and has stopped.

    Raises:
        LogImportError: it was never told to, or the log ends before.

    """
    stop = migration.stop()
    if stop is None:
        raise LogImportError(
            f"{migration.log}, line {migration.last_line}: migration {migration.number} "
            f"({migration.status}) holds no switchover: the source was never told to stop, or it was not running"
        )
    return stop


def find_migration(
    findings: Findings, migration: LoggedMigration, stop: Window, arrival: Arrival | None, qtree: str | Path | None
) -> None:
    """
    Find what a migration took; `stop` is its switchover, `arrival` where the destination takes over.

    Raises:
        LogImportError: no VFIO device migrates, the sides' devices are not the same, or not in the tree; a log that is
            cut off.

    """
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
