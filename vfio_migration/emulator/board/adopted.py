"""Devices of a tree that no command line made: shown on a board with all that lies above them."""

from collections.abc import Callable

from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice, below, buses_below
from vfio_migration.emulator.board.store import ObjectStore
from vmstate import Bus, Device

_UNATTACHED = "/machine/unattached"


class AdoptedTrees:
    """
    Keeps which nodes of other trees a board shows; `roots` are the board's own, to which theirs are added.

    `bus_type` gives the type of the bus that a type of device has, empty if it is not known.
    """

    def __init__(
        self, store: ObjectStore, roots: list[BoardBus], free_path: "FreePath", bus_type: Callable[[str], str]
    ) -> None:
        self._store = store
        self._roots = roots
        self._free_path = free_path
        self._bus_type = bus_type
        self._devices: dict[int, BoardDevice] = {}  # by the identity of their nodes

    def adopt(self, device: Device) -> BoardDevice:
        """Take in a device, its ancestors and their buses; one that is known is given as it is."""
        known = self._devices.get(id(device))
        if known is not None:
            return known
        bus = self._bus(device.bus) if device.bus is not None else None
        made = BoardDevice(device.id, device.type, self._free_path(device.id), {}, device)
        made.adopted = True
        made.lines = [f'{name} = "{value}"' for name, value in device.properties.items() if name != "addr"]
        made.lines += [f"addr = {device.properties['addr']}"] if "addr" in device.properties else []
        listing = [["type", "string", device.type], *([name, "str", text] for name, text in device.properties.items())]
        self._store.add(made.path, listing)
        self._store.attach(made.path)
        self._devices[id(device)] = made
        if bus is not None:
            made.plug(bus)
        return made

    def forget(self, device: BoardDevice) -> None:
        """Forget a device that is gone, with all below it."""
        for each in (device, *(one for bus in device.buses for one in below(bus))):
            self._devices.pop(id(each.device), None)

    def _bus(self, bus: Bus) -> BoardBus:
        for root in self._roots:
            for each in buses_below(root):
                if each.bus is bus:
                    return each
        above = self.adopt(bus.parent) if bus.parent is not None else None
        path = f"{above.path if above is not None else _UNATTACHED}/{bus.name}"
        kind = "System" if above is None else self._bus_type(above.type) or bus.name.partition(".")[0]
        made = BoardBus(bus.name, kind, path, above, bus)
        if above is None:
            if len(self._roots) == 1 and not self._roots[0].devices:
                self._roots.clear()
            self._roots.append(made)
        self._store.add(path, [["type", "string", kind]])
        self._store.attach(path)
        return made


class FreePath:
    """Gives each device its path: by its id below `peripheral`, else the next number below `peripheral-anon`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._anonymous = 0

    def __call__(self, id_: str) -> str:
        """Give a path that no object has."""
        path = f"/machine/peripheral/{id_}"
        if id_ and path not in self._store.objects:
            return path
        self._anonymous += 1
        return f"/machine/peripheral-anon/device[{self._anonymous - 1}]"
