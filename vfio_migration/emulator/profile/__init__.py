"""What a QEMU knows of itself: recorded once from a real one, and read when a client asks."""

from vfio_migration.emulator.profile.profile import Profile

__all__ = ["Profile"]
