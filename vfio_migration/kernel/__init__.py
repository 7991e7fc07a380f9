"""Real VFIO devices: the kernel's uAPI behind the same protocol as the mock."""

from vfio_migration.kernel.descriptors import KernelDeviceError
from vfio_migration.kernel.kernel_device import KernelDevice
from vfio_migration.kernel.locating import Located, locate
from vfio_migration.kernel.system import LinuxSystem, System

__all__ = ["KernelDevice", "KernelDeviceError", "LinuxSystem", "Located", "System", "locate"]
