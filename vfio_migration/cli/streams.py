"""Standard streams as a shell may leave them: closed, full, or read by nobody any more."""

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

_FAILED = 2


def in_spite_of_streams(command: Callable[..., Any], *arguments: Any, **options: Any) -> NoReturn:
    """
    Run a command to its exit; a standard stream that cannot be written is an error of ours.

    Raises:
        SystemExit: always.

    """
    if sys.stderr is None:  # `2>&-`: there is nobody to tell
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for as long as the process lasts
    if sys.stdout is None:  # `>&-`
        _tell("is closed")
        sys.exit(_FAILED)
    code: Any = 0
    try:
        command(*arguments, **options)
    except SystemExit as end:
        code = end.code
    except OSError as error:
        _tell(f"or a file could not be used ({error.strerror or error})")
        code = _FAILED
    sys.exit(_flushed(code))


def _flushed(code: Any) -> Any:
    """Write what is still to be written, and give the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                _tell(f"cannot be written ({error.strerror or error})")
                code = code or _FAILED
            # What is left in the buffer would be tried again when the interpreter ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
    return code


def _tell(what: str) -> None:
    try:
        sys.stderr.write(f"error: standard output {what}\n")
    except OSError:
        return
