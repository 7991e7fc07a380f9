"""How a command says that what it was given cannot be used."""

from typing import NoReturn

import typer


def refuse(message: str) -> NoReturn:
    """
    End with status 2, after one line on standard error.

    Raises:
        typer.Exit: always.

    """
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)
