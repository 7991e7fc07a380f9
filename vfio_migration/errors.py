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


class DeviceFailedError(VFIOMigrationError, OSError):
    """A device failed; says which one, of which machine, in what, with the errno that its backend raised."""

    def __init__(self, what: str, error: OSError) -> None:
        super().__init__(error.errno or errno.EIO, f"{what}: {error.strerror or error}")


class NotArrivedError(VFIOMigrationError):
    """A device's backend says that it is done, and is not in the state that it was asked for."""


class DeviceBusyError(VFIOMigrationError):
    """A device cannot be taken away now: its state is being changed, or it is being migrated."""


class MigrationRefusedError(VFIOMigrationError):
    """A migration cannot even begin: these machines, or their devices, cannot be migrated like this."""


class MigrationCancelledError(VFIOMigrationError):
    """The migration was cancelled."""


class MigrationFailedError(VFIOMigrationError):
    """The migration failed; the message names the device where it was one's."""


class TakeoverUnknownError(MigrationFailedError):
    """The connection ended after the source's last message: only the destination knows whether it runs."""


class AddressError(MigrationRefusedError):
    """A uri says nothing that a migration could go to or come from."""


class WrongStatusError(VFIOMigrationError):
    """A migration cannot be steered like this in the status that it has."""


class StreamError(VFIOMigrationError):
    """The migration stream is cut short, out of order or altered; the message names device and offset."""


class NoHelloError(StreamError):
    """Who came is no source of ours: `came` is what he said first, as far as it was read."""

    def __init__(self, text: str, came: bytes) -> None:
        super().__init__(text)
        self.came = came


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


def named(error: BaseException, device: str, what: str) -> BaseException:
    """Give an error that names the device: the same one if it does, with a note of `what` was going on."""
    where = f"device {device!r}, {what}"
    if repr(device) in str(error):
        error.add_note(where)
        return error
    made = (
        DeviceFailedError(where, error) if isinstance(error, OSError) else MigrationFailedError(f"{where}: {error!r}")
    )
    made.__cause__ = error
    return made


def described(error: BaseException) -> str:
    """Say on one line what went wrong and, as notes tell, of which device; the type where the text needs it."""
    text = str(error)
    if not isinstance(error, OSError | VFIOMigrationError | VmStateError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    notes = getattr(error, "__notes__", [])
    return f"{text} ({'; '.join(notes)})" if notes else text
