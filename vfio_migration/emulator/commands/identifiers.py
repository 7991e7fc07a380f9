"""What clients may call what they make (QEMU's `id_wellformed`)."""

import re

from vfio_migration.emulator.errors import QmpError

_WELL_FORMED = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


def is_well_formed(name: str) -> bool:
    """Whether a name begins with a letter, and has nothing but letters, digits, `-`, `.` and `_`."""
    return _WELL_FORMED.fullmatch(name) is not None


def check_identifier(name: str) -> str:
    """Give a name that may be an id; raises QmpError of one that may not."""
    if not is_well_formed(name):
        raise QmpError("Parameter 'id' expects an identifier")
    return name
