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
    DeviceFailedError,
    DeviceLostError,
    LogImportError,
    MigrationCancelledError,
    MigrationFailedError,
    MigrationRefusedError,
    NotArrivedError,
    ScenarioError,
    StreamError,
    TakeoverUnknownError,
    VFIOMigrationError,
    WrongStatusError,
)
from vfio_migration.live import (
    Link,
    Migration,
    MigrationInfo,
    MigrationParameters,
    MigrationReport,
    MigrationStatus,
    Phases,
    Ram,
    RamInfo,
    migrate,
)
from vfio_migration.registered import VFIOMigration

__all__ = [
    "ALL_FLAGS",
    "BlockedTransitionError",
    "Counted",
    "DataFault",
    "DeviceBackend",
    "DeviceBusyError",
    "DeviceFailedError",
    "DeviceLostError",
    "DeviceState",
    "Link",
    "LogImportError",
    "Migration",
    "MigrationCancelledError",
    "MigrationFailedError",
    "MigrationFlags",
    "MigrationInfo",
    "MigrationParameters",
    "MigrationRefusedError",
    "MigrationReport",
    "MigrationStatus",
    "MockDevice",
    "NotArrivedError",
    "Phases",
    "Ram",
    "RamInfo",
    "ScenarioError",
    "StreamError",
    "TakeoverUnknownError",
    "VFIODevice",
    "VFIOMigration",
    "VFIOMigrationError",
    "Watchdog",
    "WrongStatusError",
    "migrate",
    "next_state",
    "transition_path",
]
