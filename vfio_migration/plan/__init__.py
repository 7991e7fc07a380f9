"""What a migration takes, worked out and not tried."""

from vfio_migration.plan.blackout import BlackoutPart, blackout_parts
from vfio_migration.plan.migration import MigrationPlan, plan_migration
from vfio_migration.plan.planned_saving import PlannedSaving
from vfio_migration.plan.planned_state import NO_STATE, PlannedState
from vfio_migration.plan.precopy import PrecopyPlan
from vfio_migration.plan.side_by_side import EXACT_PIECES, Loader, SideBySidePlan, plan_alone, plan_side_by_side
from vfio_migration.plan.surroundings import NO_SURROUNDINGS, PlannedRam, Surroundings
from vfio_migration.plan.switchover import (
    NO_PHASES,
    PLAIN,
    Bounds,
    DepthPlan,
    PassPlan,
    PlannedDevice,
    PlannedHandler,
    Step,
    SwitchoverPlan,
    plan_switchover,
)
from vfio_migration.plan.transfer import Stretch, TransferPlan, joined, stretch_of

__all__ = [
    "EXACT_PIECES",
    "NO_PHASES",
    "NO_STATE",
    "NO_SURROUNDINGS",
    "PLAIN",
    "BlackoutPart",
    "Bounds",
    "DepthPlan",
    "Loader",
    "MigrationPlan",
    "PassPlan",
    "PlannedDevice",
    "PlannedHandler",
    "PlannedRam",
    "PlannedSaving",
    "PlannedState",
    "PrecopyPlan",
    "SideBySidePlan",
    "Step",
    "Stretch",
    "Surroundings",
    "SwitchoverPlan",
    "TransferPlan",
    "blackout_parts",
    "joined",
    "plan_alone",
    "plan_migration",
    "plan_side_by_side",
    "plan_switchover",
    "stretch_of",
]
