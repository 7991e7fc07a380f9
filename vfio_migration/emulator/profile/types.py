"""The hierarchy of a QEMU's types."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TypeInfo:
    """A type's parent (empty for a root) and whether it is abstract: nothing can be made of it alone."""

    parent: str
    abstract: bool


class Types:
    """All types of a QEMU, in its order, and who implements which interface."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        abstract = set(record["abstract"])
        self.all: dict[str, TypeInfo] = {name: TypeInfo(parent, name in abstract) for name, parent in record["all"]}
        self._interfaces = {name: frozenset(types) for name, types in record["interfaces"].items()}

    def is_a(self, name: str, ancestor: str) -> bool:
        """Tell whether a type is another, descends from it or implements it (QEMU's `object_class_dynamic_cast`)."""
        if ancestor in self._interfaces:
            return name in self._interfaces[ancestor]
        while name != ancestor:
            info = self.all.get(name)
            if info is None or not info.parent:
                return False
            name = info.parent
        return True

    def listing(self, implements: object = None, *, abstract: bool = False) -> list[dict[str, Any]]:
        """Give what `qom-list-types` returns (QEMU's `qmp_qom_list_types`)."""
        return [
            {
                "name": name,
                **({"abstract": True} if info.abstract else {}),
                **({"parent": info.parent} if info.parent else {}),
            }
            for name, info in self.all.items()
            if (abstract or not info.abstract) and (implements is None or self.is_a(name, str(implements)))
        ]
