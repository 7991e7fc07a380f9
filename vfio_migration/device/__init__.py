"""A device as the kernel and its driver show it: states and arcs, what drives it, and the mock."""

from vfio_migration.device.backend import CHUNK, Counted, DeviceBackend, StateBytes
from vfio_migration.device.mock import MockDevice
from vfio_migration.device.mock_faults import DataFault
from vfio_migration.device.state_machine import (
    ALL_FLAGS,
    SAVING,
    DeviceState,
    MigrationFlags,
    is_arc,
    next_state,
    transition_path,
)
from vfio_migration.device.vfio_device import VFIODevice

__all__ = [
    "ALL_FLAGS",
    "CHUNK",
    "SAVING",
    "Counted",
    "DataFault",
    "DeviceBackend",
    "DeviceState",
    "MigrationFlags",
    "MockDevice",
    "StateBytes",
    "VFIODevice",
    "is_arc",
    "next_state",
    "transition_path",
]
