"""
VFIO devices in a machine of `vmstate`: state changes serial or in parallel, and live migration.

Rules and words are those of QEMU 11.1 and the kernel's VFIO uAPI. Importing this loads the standard library
and structlog only; the command line, scenarios and pictures are in modules of their own.
"""

from vfio_migration.changes import Watchdog
from vfio_migration.device import (
    ALL_FLAGS,
    Counted,
    DataFault,
    DeviceBackend,
    DeviceState,
    MigrationFlags,
    MockDevice,
    VFIODevice,
    next_state,
    transition_path,
)
from vfio_migration.errors import (
    BlockedTransitionError,
    DeviceBusyError,
    DeviceLostError,
    LogImportError,
    MigrationCancelledError,
    MigrationFailedError,
    MigrationRefusedError,
    ScenarioError,
    StreamError,
    VFIOMigrationError,
)
from vfio_migration.live import Migration, MigrationReport, MigrationStatus, migrate
from vfio_migration.registered import VFIOMigration

__all__ = [
    "ALL_FLAGS",
    "BlockedTransitionError",
    "Counted",
    "DataFault",
    "DeviceBackend",
    "DeviceBusyError",
    "DeviceLostError",
    "DeviceState",
    "LogImportError",
    "Migration",
    "MigrationCancelledError",
    "MigrationFailedError",
    "MigrationFlags",
    "MigrationRefusedError",
    "MigrationReport",
    "MigrationStatus",
    "MockDevice",
    "ScenarioError",
    "StreamError",
    "VFIODevice",
    "VFIOMigration",
    "VFIOMigrationError",
    "Watchdog",
    "migrate",
    "next_state",
    "transition_path",
]
