"""What a switchover takes, worked out and not tried."""

from vfio_migration.plan.switchover import (
    NO_PHASES,
    PLAIN,
    Bounds,
    DepthPlan,
    PlannedDevice,
    PlannedHandler,
    SwitchoverPlan,
    plan_switchover,
)

__all__ = [
    "NO_PHASES",
    "PLAIN",
    "Bounds",
    "DepthPlan",
    "PlannedDevice",
    "PlannedHandler",
    "SwitchoverPlan",
    "plan_switchover",
]
