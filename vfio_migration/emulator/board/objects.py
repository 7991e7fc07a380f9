"""QEMU's objects: what has a path, a type and properties that can be listed, read and set."""

import builtins
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vfio_migration.emulator.errors import QmpError

Getter = Callable[[], Any]
Setter = Callable[[Any], None]


@dataclass
class Property:
    """
    A property: its type as `qom-list` gives it, and what reads and sets it.

    Without `get` it cannot be read, without `set` not be written. Both raise QmpError, in QEMU's words.
    """

    type: str
    get: Getter | None = None
    set: Setter | None = None


class QomObject:
    """An object: `properties` by name, in the order in which they are listed. Whoever owns it may add to them."""

    def __init__(self, path: str, type: str, properties: Mapping[str, Property] | None = None) -> None:  # noqa: A002 - QEMU's word
        self.path = path
        self.type = type
        self.properties: dict[str, Property] = dict(properties or {})

    def list(self) -> list[dict[str, Any]]:
        """Give what `qom-list` returns (QEMU's `qmp_qom_list`)."""
        return [{"name": name, "type": each.type} for name, each in self.properties.items()]

    def list_get(self) -> builtins.list[dict[str, Any]]:
        """Give the properties of `qom-list-get`; one that cannot be read has no value (QEMU's `qmp_qom_list_get`)."""
        found = []
        for name, each in self.properties.items():
            entry = {"name": name, "type": each.type}
            if each.get is not None:
                with suppress(QmpError):
                    entry["value"] = each.get()
            found.append(entry)
        return found

    def get(self, name: str) -> Any:
        """
        Read a property (QEMU's `object_property_get`).

        Raises:
            QmpError: there is no such property, or it cannot be read.

        """
        found = self._find(name)
        if found.get is None:
            raise QmpError(f"Property '{self.type}.{name}' is not readable")
        return found.get()

    def set(self, name: str, value: Any) -> None:
        """
        Set a property (QEMU's `object_property_set`).

        Raises:
            QmpError: there is no such property, it cannot be set (any more), or not to this.

        """
        found = self._find(name)
        if found.set is None:
            raise QmpError(f"Property '{self.type}.{name}' is not writable")
        found.set(value)

    def _find(self, name: str) -> Property:
        found = self.properties.get(name)
        if found is None:
            raise QmpError(f"Property '{self.type}.{name}' not found")
        return found

    def __repr__(self) -> str:
        return f"<QomObject {self.path!r} type={self.type!r}>"
