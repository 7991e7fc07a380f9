"""Where the commands write to: files, and standard output if it is called `-`."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console

STANDARD_OUTPUT = "-"


class _ConsoleOfPipe(Console):
    def on_broken_pipe(self) -> None:
        """Go on where nobody reads any more, as before `head`: files are still to be written."""
        self.quiet = True


def console_beside(files: Iterable[str | None]) -> Console:
    """Give a place for what is for people: standard error if figures go to standard output."""
    return _ConsoleOfPipe(stderr=STANDARD_OUTPUT in files, highlight=False)


def check_outputs(files: Iterable[str | None], inputs: Iterable[str | None] = ()) -> None:
    """
    Say before anything runs that a file cannot be written, would replace an input, or would be written twice.

    Raises:
        typer.Exit: with status 2, after a line on standard error.

    """
    read = {_real(file) for file in inputs if file is not None}
    seen: set[str | Path] = set()
    for file in (file for file in files if file is not None):
        place = STANDARD_OUTPUT if file == STANDARD_OUTPUT else _checked(file, read)
        if place in seen:
            _refuse(file, "two outputs cannot go there")
        if place is not None:
            seen.add(place)


def write_text(file: str, text: str) -> None:
    """
    Write text to a file, or to standard output.

    Raises:
        typer.Exit: with status 2, after a line on standard error.

    """
    try:
        if file == STANDARD_OUTPUT:
            sys.stdout.write(text)
        else:
            Path(file).write_text(text, encoding="utf-8")
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        cannot_write(file, error)


def write_json(file: str, data: Any) -> None:
    """Write data as JSON, as `write_text` does."""
    write_text(file, json.dumps(data, indent=2) + "\n")


@contextmanager
def printing() -> Iterator[None]:
    """
    Print what is for people.

    Raises:
        typer.Exit: it cannot be, which was said; with status 2.

    """
    try:
        yield
    except OSError as error:
        cannot_write(STANDARD_OUTPUT, error)


def cannot_write(file: str, error: Exception) -> NoReturn:
    """
    Say why a file was not written.

    Raises:
        typer.Exit: with status 2.

    """
    _refuse(file, f"cannot be written ({getattr(error, 'strerror', None) or error})")


def _checked(file: str, read: set[Path]) -> Path | None:
    """Give the file's one name; None if it is a pipe or a device, that takes whatever is written."""
    try:
        place = _real(file)
        new = not place.exists()
        if not new and not place.is_file() and not place.is_dir():
            return None
        if place in read:
            _refuse(file, "is what this command reads, and would be overwritten: give another name")
        with place.open("a", encoding="utf-8"):
            pass
        if new:
            place.unlink()  # what fails before there is something to write leaves no empty file
    except (OSError, ValueError) as error:
        cannot_write(file, error)
    return place


def _real(file: str) -> Path:
    """Give a file's one name; that of a loop of links is its own, and opening it says so."""
    return Path(os.path.realpath(file))


def _refuse(file: str, why: str) -> NoReturn:
    typer.echo(f"error: {'standard output' if file == STANDARD_OUTPUT else repr(file)}: {why}", err=True)
    raise typer.Exit(2)
