"""The command `vfio-switchover import`: from a real QEMU's logs to a scenario."""

from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from vfio_migration.cli.outputs import STANDARD_OUTPUT, check_outputs, write_text
from vfio_migration.errors import LogImportError
from vfio_migration.importing import ImportedScenario, import_logs, import_samples

_LOGS = "SOURCE.log[,DESTINATION.log]"
_Pair = tuple[str, str | None]


def import_command(
    source: Annotated[str, typer.Argument(metavar="SOURCE.log", help="The log of the source's QEMU.")],
    destination: Annotated[
        str | None, typer.Argument(metavar="DESTINATION.log", help="That of the destination's.", show_default=False)
    ] = None,
    qtree: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What the source's monitor printed for `info qtree`: the devices' depths."),
    ] = None,
    output: Annotated[
        str, typer.Option(metavar="FILE.toml", help="Write the scenario there; '-': standard output.")
    ] = STANDARD_OUTPUT,
    migration: Annotated[
        int | None, typer.Option(metavar="N", help="Which of the log's migrations; else the last that completed.")
    ] = None,
    all_migrations: Annotated[
        bool,
        typer.Option("--all-migrations", help="Every migration of the logs that completed is a sample of latencies."),
    ] = False,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar=_LOGS, help="More logs of the same kind of host, more samples; any number of times."),
    ] = None,
) -> None:
    """
    Make a scenario of the -trace logs of a real QEMU's migration, or of many migrations.

    What the logs hold, and what they do not say, is written to standard error.

    Exit status: 0, or 2 if the logs cannot be used or the file cannot be written.
    """
    pairs = [(source, destination), *map(_pair, also or ())]
    check_outputs((output,), inputs=(*(file for pair in pairs for file in pair), qtree))
    write_text(output, _imported_text(pairs, qtree, migration, all_migrations=all_migrations))
    if output != STANDARD_OUTPUT:
        typer.echo(f"written: {output}", err=True)


def _imported_text(pairs: Sequence[_Pair], qtree: str | None, migration: int | None, *, all_migrations: bool) -> str:
    """Give the scenario's text; what there is to say of it goes to standard error."""
    try:
        imported = _imported(pairs, qtree, migration, all_migrations=all_migrations)
    except LogImportError as error:
        for line in error.report:
            typer.echo(line, err=True)
        _refuse(str(error))
    for line in (*imported.report, *(f"note: {note}" for note in imported.notes)):
        typer.echo(line, err=True)
    return imported.text


def _imported(
    pairs: Sequence[_Pair], qtree: str | None, migration: int | None, *, all_migrations: bool
) -> ImportedScenario:
    if not all_migrations and len(pairs) == 1:
        return import_logs(*pairs[0], qtree, migration)
    if migration is not None:
        _refuse(
            "--migration: it takes one migration of one log; expected no --all-migrations and no --also beside it, "
            "which take samples of several"
        )
    return import_samples(pairs, qtree, all_migrations=all_migrations)


def _pair(text: str) -> _Pair:
    """Read `SOURCE.log,DESTINATION.log`, or `SOURCE.log` alone."""
    source, *others = text.split(",")
    if not source or len(others) > 1 or not all(others):
        _refuse(f"--also {text!r}: expected {_LOGS}, names without commas")
    return source, others[0] if others else None


def _refuse(why: str) -> NoReturn:
    typer.echo(f"error: {why}", err=True)
    raise typer.Exit(2)
