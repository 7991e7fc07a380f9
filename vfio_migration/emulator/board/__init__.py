"""A machine's board: the tree of buses and devices that a command line makes, and QEMU's objects for it."""

from vfio_migration.emulator.board.board import Board
from vfio_migration.emulator.board.connections import Connectable
from vfio_migration.emulator.board.nodes import BoardBus, BoardDevice
from vfio_migration.emulator.board.objects import Property, QomObject

__all__ = ["Board", "BoardBus", "BoardDevice", "Connectable", "Property", "QomObject"]
