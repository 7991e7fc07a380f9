"""The command `vfio-switchover import`: from a real QEMU's logs to a scenario."""

from typing import Annotated

import typer

from vfio_migration.cli.outputs import STANDARD_OUTPUT, check_outputs, write_text
from vfio_migration.errors import LogImportError
from vfio_migration.importing import import_logs


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
) -> None:
    """
    Make a scenario of the -trace logs of a real QEMU's migration.

    What the logs hold, and what they do not say, is written to standard error.

    Exit status: 0, or 2 if the logs cannot be used or the file cannot be written.
    """
    check_outputs((output,), inputs=(source, destination, qtree))
    try:
        imported = import_logs(source, destination, qtree, migration)
    except LogImportError as error:
        for line in error.report:
            typer.echo(line, err=True)
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    for line in (*imported.report, *(f"note: {note}" for note in imported.notes)):
        typer.echo(line, err=True)
    write_text(output, imported.text)
    if output != STANDARD_OUTPUT:
        typer.echo(f"written: {output}", err=True)
