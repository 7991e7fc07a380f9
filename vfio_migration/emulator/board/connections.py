"""What a device is connected to behind the scenes: it has to be there, and free (QEMU's `set_drive`, `set_netdev`)."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import Any

from vfio_migration.emulator.board.nodes import BoardDevice
from vfio_migration.emulator.errors import QmpError

_LINK = "link<"


@dataclass(frozen=True)
class Connectable:
    """What there is to connect devices to, by names, as it is at any time."""

    objects: Container[str]
    drives: Container[str]
    netdevs: Container[str]
    chardevs: Container[str]


def check_connection(
    connectable: Connectable,
    name: str,
    type_: str,
    value: Any,
    owner: str,
    everywhere: Iterable[BoardDevice],
    is_a: Callable[[str, str], bool],
) -> None:
    """
    See that what a property names is there; `owner` is the type that has the property.

    Raises:
        QmpError: it is not, or another device has it.

    """
    if not isinstance(value, str):
        return
    if type_.startswith(_LINK):
        if not is_a(type_.removeprefix(_LINK)[:-1], "device") and value not in connectable.objects:
            raise QmpError(f"Device '{value}' not found", "DeviceNotFound")
        return
    known = {"drive": connectable.drives, "netdev": connectable.netdevs, "chardev": connectable.chardevs}.get(name)
    if known is None or (name == "drive" and not value):
        return
    if value not in known:
        raise QmpError(f"Property '{owner}.{name}' can't find value '{value}'")
    if name == "netdev" and any(each.options.get(name) == value for each in everywhere):
        raise QmpError(f"Property '{owner}.{name}' can't take value '{value}', it's in use")
