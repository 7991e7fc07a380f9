"""What devices do that are no VFIO devices: the handlers that the real ones have, and their part of a stream."""

import struct
from collections.abc import Callable

from vfio_migration.emulator.board import BoardDevice
from vfio_migration.errors import StreamError
from vmstate import (
    HandlerEntry,
    LoadStream,
    Machine,
    MigrationEvent,
    RunState,
    SaveStream,
    add_device_handler,
)

_PLAIN_PRIORITY = 0
# Bytes of a device's section, about what QEMU's takes. They matter: a destination that fails in the middle of them has
# a source that has not sent all yet.
_SIZE, _PCI_SIZE, _VIRTIO_SIZE = 340, 4180, 45_600
_LARGEST = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")


def add_handlers(machine: Machine, device: BoardDevice, *, is_a: Callable[[str, str], bool]) -> list[HandlerEntry]:
    """
    Register the handlers that QEMU's device of this type has.

    Every virtio device has one at its depth (`virtio_init`), so has a SCSI device (`scsi_qdev_realize`); the random
    number generator has a plain one as well (`virtio_rng_device_realize`). `is_a` says whether a type is another's.
    """
    entries: list[HandlerEntry] = []
    if is_a(device.type, "virtio-device"):
        entries.append(add_device_handler(machine.handlers, device.device, _traced(machine, device, _virtio)))
    if is_a(device.type, "virtio-rng-device"):
        entries.append(machine.handlers.add(_traced(machine, device, _rng), priority=_PLAIN_PRIORITY))
    if is_a(device.type, "scsi-device"):
        entries.append(add_device_handler(machine.handlers, device.device, _nothing_to_restart))
    return entries


def section_size(device: BoardDevice, is_a: Callable[[str, str], bool]) -> int:
    """Give about how many bytes a device's section takes."""
    if is_a(device.type, "virtio-device"):
        return _VIRTIO_SIZE
    return _PCI_SIZE if is_a(device.type, "pci-device") else _SIZE


class OrdinarySection:
    """
    A device's part of a stream (`vmstate.Migratable`), so that a destination that lacks the device finds that out.

    What it holds is of no matter; one that does not come is not missed, as with QEMU.
    """

    state_only = True  # as with QEMU, a destination hears of it at the end of the stream

    def __init__(self, id_: str, size: int) -> None:
        self.id = id_
        self._size = size

    def save_setup(self, stream: SaveStream) -> None:
        """Send nothing yet."""

    def pending(self) -> int:
        """Have nothing to send before the machine stops."""
        return 0

    def save_iterate(self, stream: SaveStream) -> int:
        """Send nothing."""
        return 0

    def save_complete(self, stream: SaveStream) -> None:
        """Send nothing in pieces."""

    def save_state(self, stream: SaveStream) -> None:
        """Send the configuration."""
        stream.write(_LENGTH.pack(self._size) + bytes(self._size))

    def save_cleanup(self) -> None:
        """Keep nothing."""

    def load_setup(self) -> None:
        """Need nothing."""

    def load(self, stream: LoadStream) -> None:
        """Take the configuration."""
        (size,) = _LENGTH.unpack(stream.read(_LENGTH.size))
        if size > _LARGEST:
            raise StreamError(f"{self.id}: a section of {size} bytes; at most {_LARGEST} are allowed")
        stream.read(size)

    def load_complete(self) -> None:
        """Miss nothing."""

    def load_cleanup(self) -> None:
        """Keep nothing."""

    def notify(self, event: MigrationEvent) -> None:
        """Do nothing."""

    def reset(self) -> None:
        """Have nothing to reset."""


def _traced(
    machine: Machine, device: BoardDevice, announce: Callable[[Machine, int, bool, RunState], None]
) -> Callable[[bool, RunState], None]:
    address = 0x560000000000 + (id(device) & 0xFFFFFFFF)  # tells devices apart within a log, and nothing else

    def changed(running: bool, state: RunState) -> None:
        announce(machine, address, running, state)

    return changed


def _virtio(machine: Machine, address: int, running: bool, state: RunState) -> None:
    machine.emit("virtio_set_status", vdev=f"{address:#x}", val=0)


def _rng(machine: Machine, address: int, running: bool, state: RunState) -> None:
    machine.emit("virtio_rng_vm_state_change", rng=f"{address:#x}", running=int(running), state=state.number)


def _nothing_to_restart(running: bool, state: RunState) -> None:
    """Restart no requests: without a guest there are none."""
