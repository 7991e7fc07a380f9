"""What `query-migrate` would say of a migration, as a value; a monitor only prints it."""

from dataclasses import dataclass

from vfio_migration.live.parameters import MigrationParameters
from vfio_migration.live.status import MigrationStatus


@dataclass(frozen=True)
class RamInfo:
    """Counters of a machine's memory, in bytes (QAPI `MigrationStats`)."""

    total: int
    transferred: int
    remaining: int
    dirty_sync_count: int


@dataclass(frozen=True)
class MigrationInfo:
    """
    How a migration stands (QAPI `MigrationInfo`); times in seconds, None where there is nothing to say yet.

    `remaining` is what was known to be left at the last look, memory and devices; `bandwidth` what was measured last,
    in bytes per second; `expected_downtime_s` what is left over it, as long as the machine is not stopped.
    `states_saved`: all that is saved in pieces is out, memory and VFIO devices' states.
    """

    status: MigrationStatus
    parameters: MigrationParameters
    error: BaseException | None = None
    setup_s: float | None = None
    total_s: float | None = None
    downtime_s: float | None = None
    expected_downtime_s: float | None = None
    remaining: int = 0
    bandwidth: float | None = None
    ram: RamInfo | None = None
    vfio_devices: int = 0
    vfio_transferred: int = 0
    states_saved: bool = False
