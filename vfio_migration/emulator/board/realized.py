"""Setting properties of a machine that has been made: most of a device's cannot be set any more."""

from collections.abc import Callable
from typing import Any

from vfio_migration.emulator.board.nodes import BoardDevice
from vfio_migration.emulator.board.store import ObjectStore
from vfio_migration.emulator.board.values import read_value
from vfio_migration.emulator.errors import QmpError

_CAN_BE_SET = ("drive",)  # properties of a device's class that may be set while it runs
FindDevice = Callable[[str], BoardDevice | None]


def check_set(store: ObjectStore, device_at: FindDevice, path: str, name: str, kind: str, value: Any) -> Any:
    """
    Give the value that a property is set to (QEMU's `field_prop_set`).

    Raises:
        QmpError: it cannot be set after the device was realized, or not to this.

    """
    device = device_at(path)
    if device is not None:
        if name == "realized":
            return read_value(name, "bool", value, device.type, typed=True)
        _check_realized(store, device, name, kind)
    owner = store.objects[path].type
    if kind.startswith("link<"):
        return _check_link(store, name, kind[5:-1], value)
    return read_value(name, kind, value, owner, typed=True)


def _check_realized(store: ObjectStore, device: BoardDevice, name: str, kind: str) -> None:
    """Refuse what the device, or the one that was made with it and lends it the property, has as a line."""
    owner = next((each for each in [device, *device.children] if each.value(name) is not None), None)
    if owner is None or name in _CAN_BE_SET or store.value(owner.path, "realized") is False:
        return
    which = f"device '{owner.id}'" if owner.id else "anonymous device"
    what = "link property" if kind.startswith("link<") else "property"
    raise QmpError(f"Attempt to set {what} '{name}' on {which} (type '{owner.type}') after it was realized")


def _check_link(store: ObjectStore, name: str, kind: str, value: Any) -> str:
    if not isinstance(value, str):
        raise QmpError(f"Invalid parameter type for '{name}', expected: string")
    if not value:
        return value
    found = store.find(value)
    if found.type != kind:
        raise QmpError(f"Invalid parameter type for '{name}', expected: {kind}")
    return found.path
