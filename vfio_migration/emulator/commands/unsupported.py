"""What a QEMU does and this one does not: said to whoever asks, and in the log."""

from collections.abc import Mapping
from typing import Any

from vfio_migration.emulator.errors import QmpError
from vmstate import get_logger


def unsupported(command: str, arguments: Mapping[str, Any]) -> QmpError:
    """Give the error of a command that only hardware or a guest could carry out, and note it in the log."""
    _log.warning("a command that is not supported here", command=command, arguments=dict(arguments))
    return QmpError(f"The command {command} is not supported here: this QEMU has no hardware and no guest")


_log = get_logger("vfio_migration.emulator.commands")
