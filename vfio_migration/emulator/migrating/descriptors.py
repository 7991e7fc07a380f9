"""File descriptors that clients have given names to (`getfd`, `closefd`)."""

import os
import threading

from vfio_migration.emulator.errors import QmpError


class Descriptors:
    """Named descriptors; `_lock` guards them. What is taken belongs to whoever takes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._named: dict[str, int] = {}

    def keep(self, name: str, descriptor: int) -> None:
        """Keep a descriptor under a name; one that had it before is closed. Raises QmpError of a name that is none."""
        if not name or name[0].isdigit():
            os.close(descriptor)
            raise QmpError("Parameter 'fdname' expects a name not starting with a digit")
        with self._lock:
            old, self._named[name] = self._named.get(name), descriptor
        if old is not None:
            os.close(old)

    def close(self, name: str) -> None:
        """Close one; raises QmpError if there is none."""
        with self._lock:
            descriptor = self._named.pop(name, None)
        if descriptor is None:
            raise QmpError(f"File descriptor named '{name}' not found")
        os.close(descriptor)

    def outgoing(self, uri: str) -> str:
        """Give `fd:NUMBER` for `fd:NAME`, and any other uri as it is; raises QmpError if there is no such name."""
        kind, _, name = uri.partition(":")
        if kind != "fd":
            return uri
        with self._lock:
            descriptor = self._named.pop(name, None)
        if descriptor is None:
            raise QmpError(f"File descriptor named '{name}' has not been found")
        return f"fd:{descriptor}"

    def incoming(self, uri: str) -> str:
        """Do the same for what comes in, where the number of a descriptor does as well."""
        if uri.partition(":")[0] == "fd" and uri.partition(":")[2].isdecimal():
            return uri
        return self.outgoing(uri)

    def close_all(self) -> None:
        """Close what is left."""
        with self._lock:
            left, self._named = self._named, {}
        for descriptor in left.values():
            os.close(descriptor)
