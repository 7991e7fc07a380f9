"""What goes wrong in a QEMU without hardware."""

from vfio_migration.errors import VFIOMigrationError


class QmpError(VFIOMigrationError):
    """An error as the monitor answers it: its text is QEMU's, `kind` is the class that QEMU names."""

    def __init__(self, desc: str, kind: str = "GenericError") -> None:
        super().__init__(desc)
        self.kind = kind


class ProfileError(VFIOMigrationError):
    """A profile cannot be read, or does not hold what is asked of it."""


class RecordingError(ProfileError):
    """A QEMU does not answer as one that can be recorded."""
