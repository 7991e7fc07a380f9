"""The seam under real devices: all that they ask of the operating system."""

import fcntl
import os
from typing import Protocol


class System(Protocol):
    """
    What is asked of the system; failures are OSErrors with the system's errno.

    Everything above goes through this, so that it is tested without a kernel that has devices.
    """

    def open(self, path: str) -> int:
        """Open for reading and writing; gives the descriptor."""
        ...

    def close(self, descriptor: int) -> None:
        """Close."""
        ...

    def ioctl(self, descriptor: int, request: int, argument: bytearray | int = 0) -> int:
        """Ask; what the kernel answers stands in `argument` if that is a bytearray, and what it returns is given."""
        ...

    def read(self, descriptor: int, size: int) -> bytes:
        """Read up to so many bytes."""
        ...

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of them; says how many."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def names(self, folder: str) -> list[str]:
        """Name what is in a folder; nothing if there is none."""
        ...

    def target(self, link: str) -> str:
        """Give what a link names."""
        ...


class LinuxSystem:
    """The system that this process runs on."""

    def open(self, path: str) -> int:
        """Open; descriptors are not passed on to other programs."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        """Close."""
        os.close(descriptor)

    def ioctl(self, descriptor: int, request: int, argument: bytearray | int = 0) -> int:
        """Ask; other threads go on meanwhile."""
        return fcntl.ioctl(descriptor, request, argument)

    def read(self, descriptor: int, size: int) -> bytes:
        """Read."""
        return os.read(descriptor, size)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write."""
        return os.write(descriptor, data)

    def exists(self, path: str) -> bool:
        """Look."""
        return os.path.exists(path)  # noqa: PTH110 - of paths that are names of the kernel's

    def names(self, folder: str) -> list[str]:
        """Look."""
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 - as above
        except FileNotFoundError:
            return []

    def target(self, link: str) -> str:
        """Look."""
        return os.readlink(link)  # noqa: PTH115 - as above
