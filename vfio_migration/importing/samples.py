"""From the logs of many migrations of one kind of host to one scenario, whose latencies are what they all took."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from vfio_migration.errors import LogImportError
from vfio_migration.importing.accounted_for import accounted_for
from vfio_migration.importing.choice import note_no_destination
from vfio_migration.importing.collected_arcs import collect_arcs
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.fitted_phases import fit_phases
from vfio_migration.importing.logs import ImportedScenario, parsed
from vfio_migration.importing.other_notes import notes_of_all
from vfio_migration.importing.scenario_text import Origin, scenario_text
from vfio_migration.importing.taken_migrations import PairOfLogs, TakenMigration, pair_of_logs
from vfio_migration.wording import ms

_REPORTED = 10  # of the migrations, the first and the last
_Log = str | Path


def import_samples(
    pairs: Iterable[tuple[_Log, _Log | None]], qtree: _Log | None = None, *, all_migrations: bool = False
) -> ImportedScenario:
    """
    Make one scenario of the logs of many migrations: a latency that varied has a sample of each.

    `pairs` are the logs of a source and its destination, or None; `qtree` is as in `import_logs`, for all of them. Of
    each pair the last migration that completed counts, or, with `all_migrations`, every one that did. Devices and arcs
    are matched by name. All that is no latency is that of the median migration, by downtime, of those with a
    destination's log if some are without. Logs are read twice, and of each no more than one migration is kept.

    Raises:
        LogImportError: as `import_logs` does, of any of the logs, whose name is in the message; no migration in any of
            them completed; there is no pair, or two have the same source's log.

    """
    pairs = list(pairs)
    _check(pairs)
    report: list[str] = []
    try:
        return _sampled(report, pairs, qtree, all_migrations=all_migrations)
    except LogImportError as error:
        raise LogImportError(str(error), report) from error


def median_migration(taken: Sequence[TakenMigration]) -> TakenMigration:
    """Give the one with the median downtime, the shorter one of two; without a destination only if all are."""
    whole = [each for each in taken if each.destination is not None]
    inorder = sorted(whole or taken, key=lambda each: each.downtime_s)
    return inorder[(len(inorder) - 1) // 2]


def _check(pairs: Sequence[tuple[_Log, _Log | None]]) -> None:
    if not pairs:
        raise LogImportError("expected one pair of logs or more, got none")
    seen: set[str] = set()
    for source, _ in pairs:
        place = os.path.realpath(source)
        if place in seen:
            raise LogImportError(f"{source}: the log is given twice: its migrations would count twice")
        seen.add(place)


def _sampled(
    report: list[str], pairs: Sequence[tuple[_Log, _Log | None]], qtree: _Log | None, *, all_migrations: bool
) -> ImportedScenario:
    """Import; `report` holds what can be said of the logs whether or not that fails."""
    remarks = Findings()
    logs: list[PairOfLogs] = []
    taken: list[TakenMigration] = []
    for source, destination in pairs:
        logs.append(pair_of_logs(remarks, report, source, destination, all_migrations=all_migrations))
        taken.extend(logs[-1].taken(remarks, qtree))
    refusals = [each.refusal for each in logs if each.refusal is not None]
    if not taken:
        raise refusals[-1]
    median = median_migration(taken)
    findings, origin = median.findings, _origin(median, taken)
    scenario = fit_phases(findings, lambda: parsed(scenario_text(findings, origin, ()), median.log))
    report.extend(_report(median, taken))
    report.extend(accounted_for(scenario, median.took_ns, parallel=findings.overlapping))
    about = Findings()
    _note_what_counts(about, median, taken)
    about.notes.extend(remarks.all_notes())
    collect_arcs(about, findings, [each.findings for each in taken])
    notes = notes_of_all(about, median, taken)
    text = scenario_text(findings, origin, notes)
    return ImportedScenario(text, parsed(text, median.log), notes, tuple(report))


def _origin(median: TakenMigration, taken: Sequence[TakenMigration]) -> Origin:
    return Origin(
        f"Imported from {_counted(len(taken))}: a latency that varied has a sample of each. All else is of the median "
        f"one by downtime, {median}.",
        f"imported from {_counted(len(taken))}; the median one is {median}, downtime {ms(median.downtime_s)} on the "
        "source",
    )


def _report(median: TakenMigration, taken: Sequence[TakenMigration]) -> tuple[str, ...]:
    """Give a line for each migration, or for some of them, and all that is known of the median one."""
    heads = [each.report[0] for each in taken]
    left = len(heads) - 2 * _REPORTED
    if left > 0:
        heads = [*heads[:_REPORTED], f"  ... {left:,} migrations more", *heads[-_REPORTED:]]
    return (*heads, f"the median one by downtime is {median}:", *median.report)


def _note_what_counts(about: Findings, median: TakenMigration, taken: Sequence[TakenMigration]) -> None:
    downtimes = [each.downtime_s for each in taken]
    about.note(
        f"{_counted(len(taken))} of {len({each.log for each in taken}):,} logs of sources count, with downtimes from "
        f"{ms(min(downtimes))} to {ms(max(downtimes))}; the median one, {ms(median.downtime_s)}, is {median}: sizes, "
        "rates, phases, handlers, memory and the link are its own"
    )
    if len(taken) > 1:
        about.note(
            "a run draws each latency by itself, whichever migration it is of: that one slow migration was slow in "
            f"all of them is lost; and none is longer than the longest of {_counted(len(taken))}"
        )
    overlapping = sum(each.findings.overlapping for each in taken)
    if 0 < overlapping < len(taken):
        about.note(
            f"in {overlapping:,} of {_counted(len(taken))} devices changed in parallel, in the others one after "
            "another: where devices wait for each other below QEMU, their latencies are not alike"
        )
    if all(each.destination is None for each in taken):
        note_no_destination(about)


def _counted(number: int) -> str:
    return f"{number:,} migration{'' if number == 1 else 's'}"
