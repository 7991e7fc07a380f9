"""Statuses of a migration."""

from enum import StrEnum


class MigrationStatus(StrEnum):
    """How a migration stands, in QAPI's spelling (QAPI `MigrationStatus`, as far as it is used here)."""

    NONE = "none"
    SETUP = "setup"
    ACTIVE = "active"
    PRE_SWITCHOVER = "pre-switchover"
    DEVICE = "device"
    COMPLETED = "completed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILING = "failing"
    FAILED = "failed"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (MigrationStatus.COMPLETED, MigrationStatus.CANCELLED, MigrationStatus.FAILED)
