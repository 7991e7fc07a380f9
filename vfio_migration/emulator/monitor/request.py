"""What a client's message asks for (QEMU's `qmp_dispatch_check_obj`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vfio_migration.emulator.errors import QmpError


class _NoId:
    """Stands for the id of a message that has none: null is an id like any other."""


NO_ID = _NoId()


@dataclass(frozen=True)
class Request:
    """A command with its arguments; `oob`: it is to be carried out at once, whatever else is waiting."""

    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: Any = NO_ID
    oob: bool = False


def id_of(message: object) -> Any:
    """Give a message's id, as it has to be in the answer whatever is wrong with the rest."""
    return message.get("id", NO_ID) if isinstance(message, Mapping) else NO_ID


def read_request(message: object, *, oob_allowed: bool) -> Request:
    """
    Take a message apart; `oob_allowed`: the client has negotiated out-of-band commands.

    Raises:
        QmpError: it is no command.

    """
    if not isinstance(message, Mapping):
        raise QmpError("QMP input must be a JSON object")
    command: str | None = None
    oob = False
    arguments: Mapping[str, Any] = {}
    for member, value in message.items():
        if member == "execute" or (member == "exec-oob" and oob_allowed):
            if not isinstance(value, str):
                raise QmpError(f"QMP input member '{member}' must be a string")
            if command is not None:
                raise QmpError("QMP input member 'exec-oob' clashes with 'execute'")
            command, oob = value, member == "exec-oob"
        elif member == "arguments":
            if not isinstance(value, Mapping):
                raise QmpError("QMP input member 'arguments' must be an object")
            arguments = value
        elif member != "id":
            raise QmpError(f"QMP input member '{member}' is unexpected")
    if command is None:
        raise QmpError("QMP input lacks member 'execute'")
    return Request(command, arguments, message.get("id", NO_ID), oob)
