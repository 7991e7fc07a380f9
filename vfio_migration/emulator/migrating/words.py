"""What QEMU says of a migration that has failed: in its words, where the cause is one that QEMU has too."""

import errno
import os
import re

from vfio_migration.emulator.errors import DifferentMachineError
from vfio_migration.emulator.migrating.same_machine import NO_SUCH_SECTION
from vfio_migration.errors import NoHelloError, StreamError, described
from vfio_migration.live import MigrationInfo, MigrationStatus
from vmstate import ChannelClosedError

_UNKNOWN = re.compile(r"a section for b['\"](?P<id>.*)['\"], which this machine does not have")
_DIFFERING = re.compile(r"(switchover_ack|multifd_channels) is (\w+) at the source and (\w+) here")
_CUT = ("ends here", "cut off")
_TOLD = "the destination failed: "
_LOAD = "load of migration failed: Invalid argument: "
CHANNEL_ERROR = f"Channel error: {os.strerror(errno.EIO)}"  # what a return path says that has lost its connection
_MAGIC_SIZE = 4  # bytes of a connection that QEMU looks at first
_SIBLING = "Sibling indicated error 1"
_NOT_WRITTEN = "Unable to write to socket: "
_WHILE_SENDING = (CHANNEL_ERROR, _SIBLING, _NOT_WRITTEN)


def source_words(error: BaseException, info: MigrationInfo, reached: MigrationStatus) -> str:
    """Give what a source's `query-migrate` says; `reached` is the last status before it began to fail."""
    told = _TOLD in str(error)
    cause = _lost_connection(error) or (errno.EPIPE if told else None)
    if cause is None:
        return described(error)
    if info.parameters.return_path:  # which hears last words of the destination, and else is the first to see the end
        return _SIBLING if told else CHANNEL_ERROR
    # Of a set-up that fails QEMU says `active` all the same. What a destination says against it comes later there, as
    # the set-up's bytes go out at its end.
    if info.setup_s is None and not told:
        return f"ram_save_setup failed: {os.strerror(errno.EIO)}"
    if reached is not MigrationStatus.DEVICE:
        return _not_written(cause)
    # Of what was sent last a destination that fails has not read all, which is how the system tells.
    return (
        f"Failed to flush QEMUFile: {_not_written(errno.ECONNRESET)}"
        if info.states_saved
        else f"Failed to save iterable device state: {_not_written(cause)}"
    )


def printed_before(words: str, reached: MigrationStatus, ram_section: int) -> tuple[str, ...]:
    """Give what a source prints before these words of its failure: while memory is sent, that it could not be."""
    if reached is not MigrationStatus.ACTIVE or not words.startswith(_WHILE_SENDING):
        return ()
    return (f"failed to save SaveStateEntry with id(name): {ram_section}(ram): -{errno.EIO}",)


def destination_words(error: BaseException, ram_section: int) -> tuple[str, ...]:
    """
    Give what QEMU prints when it ends because of that, line by line; the last is what its `query-migrate` says.

    `ram_section` is the number of the memory's section.
    """
    if isinstance(error, DifferentMachineError):
        return (*error.printed, _LOAD + str(error))
    if not isinstance(error, StreamError):
        return (f"load of migration failed: Input/output error: {described(error)}",)
    if any(words in str(error) for words in _CUT):
        # Where QEMU's stream is cut is nearly always in its memory.
        footer = f"check_section_footer: Read section footer failed: -{errno.EIO}"
        return (footer, f"{_LOAD}Section footer error, section_id: {ram_section}")
    return (_LOAD + _loading_words(error),)


def _loading_words(error: StreamError) -> str:
    if isinstance(error, NoHelloError):
        return "Not a migration stream"
    unknown = _UNKNOWN.search(str(error))
    if unknown is not None:
        return NO_SUCH_SECTION.format(unknown["id"])
    differing = _DIFFERING.search(str(error))
    return str(error) if differing is None else _what_differs(*differing.groups())


def _what_differs(name: str, theirs: str, ours: str) -> str:
    """Say it by the names that a client of the monitor has for it."""
    if name == "multifd_channels" and "0" in (theirs, ours):
        name, theirs, ours = "multifd", *("off" if each == "0" else "on" for each in (theirs, ours))
    switches = {"True": "on", "False": "off"}
    theirs, ours = switches.get(theirs, theirs), switches.get(ours, ours)
    return f"{name.replace('_', '-')} is {theirs} at the source and {ours} here: give both sides the same"


def greeting_words(error: BaseException | None) -> str | None:
    """
    Give what QEMU prints of somebody who has connected and is no source; None if it is not that which has failed.

    It looks at the first bytes before it takes him for the migration, whose `query-migrate` says nothing of it.
    """
    if not isinstance(error, NoHelloError):
        return None
    if len(error.came) < _MAGIC_SIZE:
        return "Failed to peek at channel"
    return f"unknown channel magic: {int.from_bytes(error.came[:_MAGIC_SIZE])}"


def _not_written(cause: int) -> str:
    return f"{_NOT_WRITTEN}{os.strerror(cause)}"


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
