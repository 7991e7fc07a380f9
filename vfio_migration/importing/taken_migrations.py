"""Which migrations of a pair of logs count as samples, and what each of them took."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vfio_migration.errors import LogImportError
from vfio_migration.importing.around_the_passes import took_ns
from vfio_migration.importing.attempts import LoggedMigration, LoggedMigrations, Role, logged_migrations
from vfio_migration.importing.choice import arrival_in, chosen_migration, last_arrived
from vfio_migration.importing.destinations import destinations_of
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.log_reader import read_log
from vfio_migration.importing.logs import note_reading
from vfio_migration.importing.one_migration import find_migration, switchover_of
from vfio_migration.wording import listed

_MOST = 20
_Log = str | Path


@dataclass(frozen=True)
class TakenMigration:
    """
    A migration that counts: where it stands, what was found of it, and how long it stopped the guest.

    `log` and `destination` (None: unknown) are the logs' names; `took_ns` is None where no one clock says it.
    """

    log: str
    number: int
    destination: str | None
    downtime_s: float
    took_ns: int | None
    findings: Findings
    report: tuple[str, ...]

    def __str__(self) -> str:
        also = "" if self.destination is None else f" and {self.destination!r}"
        return f"migration {self.number} of {self.log!r}{also}"


@dataclass(frozen=True)
class PairOfLogs:
    """
    Two logs of one pair of machines; `wanted` are its migrations that count, each with the destination's.

    `refusal` says why none does, if none does.
    """

    source: _Log
    destination: _Log | None
    wanted: Mapping[int, int | None]
    refusal: LogImportError | None = None

    def taken(self, remarks: Findings, qtree: _Log | None) -> Iterator[TakenMigration]:
        """
        Give the migrations that count, one after another; of those that cannot be used, the remarks say why.

        Raises:
            LogImportError: none can be used, or the logs can be read only once.

        """
        refused: list[LogImportError] = []
        for migration, there in self._matched():
            try:
                yield _taken(migration, there, qtree)
            except LogImportError as error:
                refused.append(error)
        if refused and len(refused) == len(self.wanted):
            raise refused[-1]
        for each in refused:
            remarks.note(f"left out: {each}", "migrations that completed and cannot be used")

    def _matched(self) -> Iterator[tuple[LoggedMigration, LoggedMigration | None]]:
        """Give both sides of each; numbers rise on both, so no more than one of each log is held at a time."""
        there = _only(self.destination, "destination", [each for each in self.wanted.values() if each is not None])
        for migration in _only(self.source, "source", self.wanted):
            yield migration, None if self.wanted[migration.number] is None else next(there)


def pair_of_logs(
    remarks: Findings, report: list[str], source: _Log, destination: _Log | None, *, all_migrations: bool
) -> PairOfLogs:
    """
    Read a pair of logs once, to see which of their migrations count: all that completed, or the last of them.

    Raises:
        LogImportError: a log cannot be read, is none of a source (of a destination), or nothing arrived in it.

    """
    log = read_log(source)
    found = LoggedMigrations(log)
    note_reading(remarks, log, report)
    statuses = found.statuses["source"]
    try:
        chosen_migration(Findings(), log, found, None)
    except LogImportError as error:
        if not statuses:
            raise
        _note_left_out(remarks, log.name, statuses, ())
        return PairOfLogs(source, destination, {}, error)
    arrived: list[str] = []
    if destination is not None:
        there = read_log(destination)
        incoming = LoggedMigrations(there)
        note_reading(remarks, there, report)
        last_arrived(there, incoming)
        arrived = incoming.statuses["destination"]
    pairs = destinations_of(statuses, arrived)
    last = max(pairs)
    wanted = pairs if all_migrations else {last: pairs[last]}
    _note_left_out(remarks, log.name, statuses, wanted)
    if destination is not None:
        _note_unknown(remarks, f"{log.name} and {destination}", statuses, arrived, wanted)
    return PairOfLogs(source, destination, wanted)


def _note_left_out(remarks: Findings, name: str, statuses: list[str], wanted: Collection[int]) -> None:
    left = [(number, status) for number, status in enumerate(statuses, 1) if number not in wanted]
    if not left:
        return
    named = listed([f"{number} ({status})" for number, status in left], "migrations", _MOST)
    more = any(status == "completed" for _, status in left)
    hint = ": only the last that completed counts, without --all-migrations" if more else ""
    remarks.note(f"{name}: left out: {named}{hint}", "logs of which migrations are left out")


def _note_unknown(
    remarks: Findings, logs: str, statuses: list[str], arrived: list[str], wanted: Mapping[int, int | None]
) -> None:
    unknown = [str(number) for number, other in wanted.items() if other is None]
    if unknown:
        left, arrivals = (f"{len(each):,} ({each.count('completed'):,} completed)" for each in (statuses, arrived))
        remarks.note(
            f"{logs} hold {left} and {arrivals} migrations: what the destination took is unknown for "
            f"{listed(unknown, 'migrations', _MOST)}, and in no sample",
            "logs whose migrations on the destination are unknown",
        )


def _only(log: _Log | None, role: Role, numbers: Collection[int]) -> Iterator[LoggedMigration]:
    """Give the migrations of a role that have these numbers."""
    left = set(numbers)
    if log is None or not left:
        return
    with closing(logged_migrations(read_log(log))) as migrations:
        for each in migrations:
            if each.role == role and each.number in left:
                left.remove(each.number)
                yield each
            if not left:
                return
    raise LogImportError(f"{log}: holds less when it is read once more: expected a file that stays as it is, no pipe")


def _taken(migration: LoggedMigration, there: LoggedMigration | None, qtree: _Log | None) -> TakenMigration:
    findings = Findings()
    stop = switchover_of(migration)
    arrival = None if there is None else arrival_in(there)
    find_migration(findings, migration, stop, arrival, qtree)
    downtime_s = migration.downtime_s
    if downtime_s is None:  # no checkpoints before QEMU 8.2
        downtime_s = (migration.transfer(stop).end.time_ns - stop.begin.time_ns) / 1e9
    return TakenMigration(
        migration.log,
        migration.number,
        None if there is None else there.log,
        downtime_s,
        took_ns(findings, migration, arrival),
        findings,
        (*migration.report(), *(() if there is None else there.report())),
    )
