"""Finds the bus that a device goes on."""

from collections.abc import Callable

from vfio_migration.emulator.board.nodes import BoardBus

_ROOM = {"virtio-pci-bus": 1, "virtio-mmio-bus": 1, "virtio-bus": 1, "floppy-bus": 2}  # most devices on one


def is_full(bus: BoardBus) -> bool:
    """Tell whether no device fits on a bus any more (QEMU's `qbus_is_full`)."""
    return len(bus.devices) >= _ROOM.get(bus.type, len(bus.devices) + 1)


def find_bus(bus: BoardBus, matches: Callable[[BoardBus], bool]) -> BoardBus | None:
    """
    Find the first bus that matches and has room, depth first, newest devices first; else the first that matches.

    QEMU's `qbus_find_recursive`.
    """
    picked = bus if matches(bus) else None
    if picked is not None and not is_full(picked):
        return picked
    for device in reversed(bus.devices):
        for each in reversed(device.buses):
            found = find_bus(each, matches)
            if found is not None and not is_full(found):
                return found
            picked = picked or found
    return picked
