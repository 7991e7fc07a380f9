"""Every error that `vfio_migration` raises on purpose, in one hierarchy."""

import errno
from collections.abc import Iterable

from vmstate import VmStateError


class VFIOMigrationError(Exception):
    """Base of all errors of `vfio_migration`."""


class BlockedTransitionError(VFIOMigrationError, OSError):
    """A device cannot be asked for this state: EINVAL, as the kernel answers."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EINVAL, message)


class DeviceLostError(VFIOMigrationError):
    """A device failed, and so did its reset: nothing can be asked of it until it is taken away."""


class DeviceBusyError(VFIOMigrationError):
    """A device cannot be taken away now: its state is being changed, or it is being migrated."""


class MigrationRefusedError(VFIOMigrationError):
    """A migration cannot even begin: these machines, or their devices, cannot be migrated like this."""


class MigrationCancelledError(VFIOMigrationError):
    """The migration was cancelled."""


class MigrationFailedError(VFIOMigrationError):
    """The migration failed for a reason that is not one device's own error."""


class StreamError(VFIOMigrationError):
    """The migration stream is cut short, out of order or altered; the message names device and offset."""


class ScenarioError(VFIOMigrationError):
    """A scenario cannot be used; the message names file, key and what was expected."""


class LogImportError(ScenarioError):
    """
    QEMU's logs cannot be made a scenario; the message names file and line, and what was missing.

    `report` is what could be read off them all the same, a line each.
    """

    def __init__(self, message: str, report: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.report = tuple(report)


def described(error: BaseException) -> str:
    """Say on one line what went wrong and, as notes tell, of which device; the type where the text needs it."""
    text = str(error)
    if not isinstance(error, OSError | VFIOMigrationError | VmStateError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    notes = getattr(error, "__notes__", [])
    return f"{text} ({'; '.join(notes)})" if notes else text
