"""A QEMU without hardware: a monitor that real clients drive, over machines that behave, stall and fail."""

from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.monitor_server import MonitorServer
from vfio_migration.emulator.profile import Profile

__all__ = ["MonitorServer", "Profile", "QmpError"]
