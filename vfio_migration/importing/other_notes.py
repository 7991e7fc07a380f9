"""What there is to say of many migrations: of all together, of the median one, and of others what is not said yet."""

import re
from collections.abc import Iterator, Sequence

from vfio_migration.importing.findings import Findings
from vfio_migration.importing.taken_migrations import TakenMigration

_NAMES = re.compile(r"'[^']*'(, (\.\.\., )?'[^']*')*")
_FIGURES = re.compile(r"[0-9][0-9.,:]*")


def notes_of_all(about: Findings, median: TakenMigration, taken: Sequence[TakenMigration]) -> tuple[str, ...]:
    """
    Give the notes on all of them, then the median one's, then of the others' one of each kind that it does not have.

    Two are of a kind if they differ in names, figures and logs only.
    """
    others = Findings()
    own = median.findings.all_notes()
    said = {_kind(note, median) for note in own}
    for each, note in _notes(taken):
        kind = _kind(note, each)
        if kind not in said:
            said.add(kind)
            others.note(f"{each}: {note}", "notes on other migrations")
    whose = [f"what follows is of the median migration, {median}"] if len(taken) > 1 and own else []
    return (*about.all_notes(), *whose, *own, *others.all_notes())


def _notes(taken: Sequence[TakenMigration]) -> Iterator[tuple[TakenMigration, str]]:
    return ((each, note) for each in taken for note in each.findings.all_notes())


def _kind(note: str, migration: TakenMigration) -> str:
    for log in (migration.log, migration.destination):
        note = note.replace(log, "LOG") if log else note
    return _FIGURES.sub("#", _NAMES.sub("NAME", note))
