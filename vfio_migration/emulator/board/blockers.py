"""What devices say against a migration, with their places as QEMU writes them."""

from collections.abc import Callable, Iterable

from vfio_migration.emulator.board.nodes import BoardDevice

_NO_STATE = "non-migratable device: "
IsA = Callable[[str, str], bool]


def words_of(device: BoardDevice, words: Iterable[str], is_a: IsA) -> tuple[str, ...]:
    """Give the words of a device, in which a template names another place."""
    if str(device.options.get("master", "")) == "on" and device.type == "ivshmem-plain":
        return ()
    found = []
    for each in words:
        head, slash, name = each.rpartition("/")
        moved = head.startswith(_NO_STATE) and slash
        found.append(f"{_NO_STATE}{device_path(device, is_a)}/{name}" if moved else each)
    return tuple(found)


def in_order(blockers: Iterable[str]) -> list[str]:
    """Put blockers in the order of `query-migrate`: as they came, then devices without a state from the last on."""
    every = list(blockers)
    stateless = [each for each in every if each.startswith(_NO_STATE)]
    return [each for each in every if each not in stateless] + stateless[::-1]


def device_path(device: BoardDevice, is_a: IsA) -> str:
    """Give a device's place: by slots of PCI, then ports of USB (QEMU's `qdev_get_dev_path`)."""
    bus = device.parent
    above = bus.parent if bus is not None else None
    if is_a(device.type, "pci-device"):
        slots = []
        here: BoardDevice | None = device
        number = 0
        while here is not None and is_a(here.type, "pci-device") and here.parent is not None:
            slots.append(here.value("addr") or "00.0")
            number, here = here.parent.number, here.parent.parent
        return f"0000:{number:02x}:" + ":".join(reversed(slots))
    if is_a(device.type, "usb-device") and above is not None:
        port = next((line.partition(", port ")[2].partition(",")[0] for line in device.lines if ", port " in line), "")
        return f"{device_path(above, is_a)}/{port}"
    return device_path(above, is_a) if above is not None else ""
