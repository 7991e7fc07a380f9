"""What a command is: a function of a call, and how it stands to the machine's big lock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vfio_migration.emulator.emulated import Emulated
from vfio_migration.emulator.monitor.session import Session


@dataclass(frozen=True)
class Call:
    """A command that is carried out, its arguments checked; `session` is who asks, None for what is asked inside."""

    emulated: Emulated
    session: Session | None
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """
    How a command is carried out.

    `locked`: under the machine's big lock, as QEMU's main loop holds it: it waits while a migration stops the machine
    or saves it. One that is not waits for nobody, or takes the lock itself.
    """

    run: Callable[[Call], Any]
    locked: bool = True


class CommandTable:
    """Commands by name, filled by decorators."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}

    def command(self, name: str, *, locked: bool = True) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
        """Have a function carry out the command of this name; what it returns is answered, None as `{}`."""

        def add(run: Callable[[Call], Any]) -> Callable[[Call], Any]:
            self.commands[name] = Command(run, locked)
            return run

        return add
