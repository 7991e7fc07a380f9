"""What QEMU says of a migration that has failed: in its words, where the cause is one that QEMU has too."""

import errno
import os
import re

from vfio_migration.errors import StreamError, described
from vfio_migration.live import MigrationInfo, MigrationStatus
from vmstate import ChannelClosedError

_UNKNOWN = re.compile(r"a section for b['\"](?P<id>.*)['\"], which this machine does not have")
_CUT = ("ends here", "cut off")
_LOAD = "load of migration failed: Invalid argument: "
_NO_SUCH_SECTION = (
    "Unknown section or instance '{}' 0. Make sure that your current VM setup matches your saved VM setup, including "
    "any hotplugged devices"
)


def source_words(error: BaseException, info: MigrationInfo, reached: MigrationStatus) -> str:
    """Give what a source's `query-migrate` says; `reached` is the last status before it began to fail."""
    cause = _lost_connection(error)
    if cause is None:
        return described(error)
    if info.setup_s is None:  # of which QEMU says `active` all the same, before it fails
        return f"ram_save_setup failed: {os.strerror(errno.EIO)}"
    if reached is MigrationStatus.DEVICE and info.states_saved:
        # Of what was sent last a destination that fails has not read all, which is how the system tells.
        return f"Failed to flush QEMUFile: {_not_written(errno.ECONNRESET)}"
    if reached is MigrationStatus.DEVICE:
        return f"Failed to save iterable device state: {_not_written(cause)}"
    return _not_written(cause)


def destination_words(error: BaseException) -> str:
    """Give what a destination's `query-migrate` says, and QEMU prints when it ends because of that."""
    if not isinstance(error, StreamError):
        return f"load of migration failed: Input/output error: {described(error)}"
    text = str(error)
    unknown = _UNKNOWN.search(text)
    if unknown is not None:
        return _LOAD + _NO_SUCH_SECTION.format(unknown["id"])
    if any(words in text for words in _CUT):
        # Where QEMU's stream is cut is nearly always in its memory, and so in section 2.
        return f"{_LOAD}Section footer error, section_id: 2"
    if text.startswith("no migration stream"):
        return f"{_LOAD}Not a migration stream"
    return _LOAD + text


def _not_written(cause: int) -> str:
    return f"Unable to write to socket: {os.strerror(cause)}"


def _lost_connection(error: BaseException) -> int | None:
    """Give the errno of a connection that was lost, None if that is not what happened."""
    seen: BaseException | None = error
    found = None
    while seen is not None:
        if isinstance(seen, ChannelClosedError):
            found = found or errno.EPIPE
        elif isinstance(seen, ConnectionResetError):
            found = errno.ECONNRESET
        seen = seen.__cause__
    if found is None and isinstance(error, StreamError):  # an answer was waited for
        return errno.EPIPE
    return found
