"""Makes the nodes of a board out of what was recorded: trees as text, objects by path."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice
from vfio_migration.emulator.profile.recorded_objects import Listing
from vfio_migration.emulator.profile.tree_text import BusText, DeviceText

_CHILD = re.compile(r"child\[(\d+)\]")
SYSTEM_BUS = "/machine/unattached/sysbus"
Rename = Callable[[str], str]
BusName = Callable[[BusText, BoardDevice], str]


class Builder:
    """Builds nodes; `objects` are the recorded listings by path, by which nodes and paths find each other."""

    def __init__(self, objects: Mapping[str, Listing], bus_name: BusName | None = None, rename: Rename = str) -> None:
        self._objects = objects
        self._rename = rename
        self.moved: dict[str, str] = {}  # where buses were recorded, and where they are
        self._bus_name: BusName = bus_name or (lambda text, _: text.name)

    def root(self, text: BusText) -> BoardBus:
        """Build a whole tree."""
        bus = BoardBus(text.name, text.type, SYSTEM_BUS)
        self._fill(bus, text, SYSTEM_BUS)
        return bus

    def below(self, device: BoardDevice, text: DeviceText, recorded: str) -> None:
        """Give a device its lines and all that lies below it; `recorded` is the path that it was recorded with."""
        device.lines = [self._rename(line) for line in text.lines]
        for each in reversed(text.buses):
            name = self._bus_name(each, device)
            bus = BoardBus(name, each.type, f"{device.path}/{name}", device)
            self.moved[f"{recorded}/{each.name}"] = bus.path
            self._fill(bus, each, f"{recorded}/{each.name}")

    def _fill(self, bus: BoardBus, text: BusText, recorded: str) -> None:
        paths = iter(_children(self._objects.get(recorded, ())))
        for each in reversed(text.devices):
            at = next(paths, "")
            path = at
            if bus.parent is not None and at.startswith(recorded.rpartition("/")[0] + "/"):
                path = bus.parent.path + at[len(recorded.rpartition("/")[0]) :]
            device = BoardDevice(self._rename(each.id), each.type, path, {})
            device.plug(bus)
            self.below(device, each, at)


def _children(listing: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Give the paths of a bus's devices, the oldest first."""
    found = [(int(match[1]), each[2]) for each in listing if (match := _CHILD.fullmatch(each[0]))]
    for _, path in sorted(found):
        yield path
