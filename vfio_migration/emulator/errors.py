"""What goes wrong in a QEMU without hardware."""

from vfio_migration.errors import StreamError, VFIOMigrationError


class QmpError(VFIOMigrationError):
    """An error as the monitor answers it: its text is QEMU's, `kind` is the class that QEMU names."""

    def __init__(self, desc: str, kind: str = "GenericError") -> None:
        super().__init__(desc)
        self.kind = kind


class ProfileError(VFIOMigrationError):
    """A profile cannot be read, or does not hold what is asked of it."""


class RecordingError(ProfileError):
    """A QEMU does not answer as one that can be recorded."""


class DifferentMachineError(StreamError):
    """The source's machine is another than this one; `printed` are the lines that say more of it."""

    def __init__(self, text: str, *printed: str) -> None:
        super().__init__(text)
        self.printed = printed
        for line in printed:
            self.add_note(line)  # for logs, and the source: the text alone does not say what differs
