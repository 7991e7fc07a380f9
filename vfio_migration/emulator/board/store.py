"""All objects of a machine, by path."""

from collections.abc import Callable, Sequence
from typing import Any

from vfio_migration.emulator.board.hash_order import HashOrder
from vfio_migration.emulator.board.objects import Property, QomObject
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.profile.recorded_objects import PLAIN

_READ_ONLY = ("type", "hotplugged", "hotpluggable", "parent_bus", "busnr")
_SORTED = ("/machine/peripheral", "/machine/peripheral-anon")
_REGION = (
    ("container", "link<memory-region>", ""),
    ("addr", "uint64", 0),
    ("size", "uint64", 0),
    ("priority", "uint32", 0),
)
Check = Callable[[str, str, str, Any], Any]  # path, name, type and value of what is set; gives the value that is kept


class ObjectStore:
    """
    Holds objects by path, each listed by its parent, and finds them by path or by part of one.

    `check` is asked whenever a property is set from outside, and raises QmpError where it cannot be.
    """

    def __init__(self, check: Check) -> None:
        self.objects: dict[str, QomObject] = {}
        self._check = check
        self._cells: dict[tuple[str, str], list[Any]] = {}
        self._orders = {path: HashOrder() for path in _SORTED}
        self._by_name: dict[str, dict[str, QomObject]] = {}  # by the last part of their paths

    def add(self, path: str, listing: Sequence[Sequence[Any]]) -> QomObject:
        """Make an object of what was recorded of one."""
        kind = next((each[2] for each in listing if each[0] == "type"), "")
        made = self._keep(QomObject(path, kind))
        for name, type_, *value in listing:
            made.properties[name] = self._property(path, name, type_, value)
            if type_[6:-1] in PLAIN and type_.startswith("child<"):
                self._plain(f"{path.rstrip('/')}/{name}", type_[6:-1])
        return made

    def attach(self, path: str) -> None:
        """Have an object's parent list it."""
        above, _, name = path.rpartition("/")
        parent, child = self.objects.get(above or "/"), self.objects[path]
        if parent is None or name in parent.properties:
            return
        parent.properties[name] = Property(f"child<{child.type}>", lambda: path)
        if above in self._orders:
            self._orders[above].add(name)
            self._sort(above)

    def remove(self, path: str) -> None:
        """Take away an object and all below it."""
        above, _, name = path.rpartition("/")
        if above in self.objects:
            self.objects[above].properties.pop(name, None)
        if above in self._orders:
            self._orders[above].remove(name)
            self._sort(above)
        gone = {each for each in self.objects if each == path or each.startswith(f"{path}/")}
        for each in gone:
            del self.objects[each]
            del self._by_name[each.rpartition("/")[2]][each]
        for cell in [cell for cell in self._cells if cell[0] in gone]:
            del self._cells[cell]

    def value(self, path: str, name: str) -> Any:
        """Give the value of a property; None if there is no such object or property."""
        return self._cells.get((path, name), [None])[0]

    def put(self, path: str, name: str, value: Any) -> None:
        """Give a property its value, if there is such a property."""
        cell = self._cells.get((path, name))
        found = self.objects.get(path)
        if cell is not None:
            cell[0] = value
        elif found is not None and name in found.properties:
            found.properties[name] = self._property(path, name, found.properties[name].type, [value])

    def find(self, path: str, *, ambiguous: str = "") -> QomObject:
        """
        Find an object by its path, or by the last parts of one that only one object has (QEMU's `object_resolve_path`).

        Raises:
            QmpError: there is none (DeviceNotFound), or more than one; then with the words `ambiguous` if given.

        """
        parts = [part for part in path.split("/") if part]
        if path.startswith("/"):
            at = self.objects.get("/" + "/".join(parts))
            matches = [] if at is None else [at]
        else:
            end = "/" + "/".join(parts)
            # Of a copy: who asks about a fault holds no lock, while others may be unplugging.
            named = self._by_name.get(parts[-1] if parts else "", {}).copy()
            matches = [each for place, each in named.items() if place.endswith(end)]
        if ambiguous and (len(matches) > 1 or not path):
            raise QmpError(ambiguous)
        if len(matches) != 1 or not path:
            raise QmpError(f"Device '{path}' not found", "DeviceNotFound")
        return matches[0]

    def _sort(self, path: str) -> None:
        found = self.objects[path]
        order = self._orders[path].listing()
        children = [name for name in order if name in found.properties]
        rest = [name for name in found.properties if name not in children]
        found.properties = {name: found.properties[name] for name in (*rest, *children)}

    def _keep(self, made: QomObject) -> QomObject:
        self.objects[made.path] = made
        self._by_name.setdefault(made.path.rpartition("/")[2], {})[made.path] = made
        return made

    def _plain(self, path: str, kind: str) -> None:
        region = _REGION if kind == "memory-region" else ()
        listing = (("type", "string", kind), *region)
        self._keep(QomObject(path, kind, {name: _fixed(type_, value) for name, type_, value in listing}))

    def _property(self, path: str, name: str, kind: str, value: Sequence[Any]) -> Property:
        if kind.startswith("child<"):
            at = f"{path.rstrip('/')}/{name}"
            return Property(kind, lambda: at)
        cell = list(value)
        if value:
            self._cells[path, name] = cell

        def put(new: Any) -> None:
            cell[:] = [self._check(path, name, kind, new)]

        return Property(kind, (lambda: cell[0]) if value else None, None if name in _READ_ONLY else put)


def _fixed(kind: str, value: Any) -> Property:
    return Property(kind, lambda: value)
