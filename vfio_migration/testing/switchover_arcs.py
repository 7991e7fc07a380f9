"""The arcs that a device walks in a switchover, as texts: to parametrise a test over, each a place for a fault."""

from vfio_migration.device import ALL_FLAGS, MigrationFlags
from vfio_migration.plan import PlannedDevice, plan_switchover
from vfio_migration.wording import arc_name


def switchover_arcs(flags: MigrationFlags = ALL_FLAGS) -> tuple[str, ...]:
    """Give the arcs of a device with these features in the order in which it walks them, the source's first."""
    plan = plan_switchover([PlannedDevice("", 1, flags, lambda current, target: 0.0, 0.0, parallel=True)])
    passes = {"source": list[str](), "destination": list[str]()}
    for each in plan.passes:
        for depth in each.depths:
            passes[each.side] += [arc_name(*arc) for step in depth.threads for arc in step.arcs]
    transfer = [arc_name(*arc) for step in plan.transfers for arc in step.arcs]
    return (*passes["source"], *transfer, *passes["destination"])


SWITCHOVER_ARCS = switchover_arcs()
"""The arcs of a device that has all features."""
