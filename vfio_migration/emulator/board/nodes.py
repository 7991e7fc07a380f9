"""The nodes of a board: buses and devices, each with the node of the device tree that it stands for."""

from collections.abc import Iterator, Mapping
from typing import Any

from vmstate import Bus, Device


class BoardBus:
    """
    A bus on a board: its name, its type, its path among QEMU's objects, its devices from the oldest on.

    `number` is that of a PCI root bus, all others have none before firmware has run; or of a USB bus.
    """

    def __init__(
        self,
        name: str,
        type: str,  # noqa: A002 - QEMU's word
        path: str,
        parent: "BoardDevice | None" = None,
        node: Bus | None = None,
    ) -> None:
        self.name = name
        self.type = type
        self.path = path
        self.parent = parent
        self.bus = Bus(name, parent.device if parent is not None else None) if node is None else node
        self.devices: list[BoardDevice] = []
        self.number = 0
        if parent is not None:
            parent.buses.append(self)

    def __repr__(self) -> str:
        return f"<BoardBus {self.name!r} type={self.type!r}>"


class BoardDevice:
    """
    A device on a board.

    `device` is its node of the device tree, `path` that of its object, `options` what it was given, `parent` the bus
    that it sits on, `maker` the device that it was made with, `children` the devices that were made with it, `beside`
    those that came with it elsewhere, `pci` its entry of `query-pci`, and `lines` what `info qtree` says of it before
    its buses.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - QEMU's word
        type: str,  # noqa: A002
        path: str,
        options: Mapping[str, object],
        node: Device | None = None,
    ) -> None:
        self.id = id
        self.type = type
        self.path = path
        self.options = dict(options)
        self.device = Device(id, type=type) if node is None else node
        self.parent: BoardBus | None = None
        self.buses: list[BoardBus] = []
        self.lines: list[str] = []
        self.hotplugged = False
        self.adopted = False
        self.unplug_asked = False
        self.blockers: tuple[str, ...] = ()
        self.pci: Mapping[str, Any] | None = None
        self.beside: list[BoardDevice] = []

    @property
    def children(self) -> "list[BoardDevice]":
        """The devices on its buses that were made with it."""
        return [each for bus in self.buses for each in bus.devices if each.maker is self]

    @property
    def maker(self) -> "BoardDevice | None":
        """The device on whose bus it sits and that it was made with; None if it is one of its own."""
        above = self.parent.parent if self.parent is not None else None
        return above if above is not None and self.path.startswith(f"{above.path}/") else None

    def plug(self, bus: BoardBus) -> None:
        """Put it on a bus, after all that sit there."""
        self.parent = bus
        bus.devices.append(self)
        if self.device.bus is None:
            self.device.plug(bus.bus)

    def unplug(self) -> None:
        """Take it off its bus."""
        if self.parent is not None:
            self.parent.devices.remove(self)
            self.device.unplug()
            self.parent = None

    def value(self, name: str) -> str | None:
        """Give what a property's line says after the equals sign; None: it has no such line."""
        start = f"{name} = "
        return next((line[len(start) :] for line in self.lines if line.startswith(start)), None)

    def number(self, name: str) -> int | None:
        """Give what a property's line says if that is a number: `7 (0x7)`."""
        shown = (self.value(name) or "").partition(" ")[0]
        return int(shown) if shown.lstrip("-").isdigit() else None

    def set_value(self, name: str, shown: str) -> bool:
        """Put what a property's line says; tell whether there is such a line."""
        start = f"{name} = "
        for number, line in enumerate(self.lines):
            if line.startswith(start):
                self.lines[number] = start + shown
                return True
        return False

    def __repr__(self) -> str:
        return f"<BoardDevice {self.path!r} type={self.type!r}>"


def below(bus: BoardBus) -> Iterator[BoardDevice]:
    """Give every device below a bus in the order of `info qtree`: the newest first, each before its own buses."""
    for device in reversed(bus.devices):
        yield device
        for each in reversed(device.buses):
            yield from below(each)


def buses_below(bus: BoardBus) -> Iterator[BoardBus]:
    """Give a bus and every bus below it, in the same order."""
    yield bus
    for device in reversed(bus.devices):
        for each in reversed(device.buses):
            yield from buses_below(each)


def tree_text(bus: BoardBus) -> str:
    """Write a tree as the monitor does (QEMU's `qbus_print`)."""
    return "".join(f"{line}\r\n" for line in _bus_lines(bus, ""))


def _bus_lines(bus: BoardBus, indent: str) -> Iterator[str]:
    yield f"{indent}bus: {bus.name}"
    yield f"{indent}  type {bus.type}"
    for device in reversed(bus.devices):
        yield f'{indent}  dev: {device.type}, id "{device.id}"'
        for line in device.lines:
            yield f"{indent}    {line}"
        for each in reversed(device.buses):
            yield from _bus_lines(each, f"{indent}    ")
