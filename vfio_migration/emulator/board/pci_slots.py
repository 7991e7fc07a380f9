"""Where on a PCI bus a device goes, and why it cannot (QEMU's `do_pci_register_device`)."""

from collections.abc import Mapping

from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice
from vfio_migration.emulator.errors import QmpError

FUNCTIONS = 8
_ADDRESSES = 256


def addresses(bus: BoardBus) -> dict[int, BoardDevice]:
    """Give the devices of a bus by slot times eight plus function."""
    found = {}
    for device in bus.devices:
        shown = device.value("addr")
        if shown is not None and "." in shown:
            slot, _, function = shown.partition(".")
            found[int(slot, 16) * FUNCTIONS + int(function, 16)] = device
    return found


def choose(bus: BoardBus, type_: str, wanted: int, *, multifunction: bool, hotplugged: bool, single_slot: bool) -> int:
    """
    Give the address that a device gets; `wanted` is negative when it takes the first slot that is free.

    Raises:
        QmpError: it is taken, none is free, or the slot's functions do not go together.

    """
    taken = addresses(bus)
    if wanted < 0:
        wanted = next((each for each in range(0, _ADDRESSES, FUNCTIONS) if each not in taken), -1)
        if wanted < 0:
            raise QmpError(f"PCI: no slot/function available for {type_}, all in use or reserved")
    slot, function = divmod(wanted, FUNCTIONS)
    if wanted in taken:
        by = taken[wanted]
        raise QmpError(
            f"PCI: slot {slot} function {function} not available for {type_}, "
            f"in use by {by.type},id={by.id or '(null)'}"
        )
    first = taken.get(0 if single_slot else slot * FUNCTIONS)
    if hotplugged and first is not None:
        raise QmpError(
            f"PCI: slot {slot if not single_slot else 0} function 0 already occupied by {first.type}, "
            f"new func {type_} cannot be exposed to guest."
        )
    _check_functions(taken, slot, function, multifunction=multifunction)
    return wanted


def _check_functions(taken: Mapping[int, BoardDevice], slot: int, function: int, *, multifunction: bool) -> None:
    """Check that function 0 says so where a slot has several (QEMU's `pci_init_multifunction`)."""
    if function:
        first = taken.get(slot * FUNCTIONS)
        if first is not None and first.value("multifunction") != "true":
            raise QmpError(f"PCI: single function device can't be populated in function {slot:x}.{function:x}")
        return
    for other in range(1, FUNCTIONS):
        if not multifunction and slot * FUNCTIONS + other in taken:
            raise QmpError(f"PCI: {slot:x}.0 indicates single function, but {slot:x}.{other:x} is already populated.")
