"""What a blackout is made of, in the order in which it passes."""

from dataclasses import dataclass

from vfio_migration.plan.migration import MigrationPlan
from vmstate import NS_PER_SECOND


@dataclass(frozen=True)
class BlackoutPart:
    """A part of the blackout, in seconds: `what` it is, and in which `part` of the switchover it lies."""

    part: str
    what: str
    seconds: float


def blackout_parts(plan: MigrationPlan) -> tuple[BlackoutPart, ...]:
    """Give all parts, whose sum is the switchover; none if there never is one."""
    if plan.never:
        return ()
    phases = plan.switchover.phases
    times = {(each.side, str(each.kind)): each.mechanism_s for each in plan.passes}
    ram_s = latency_s = 0.0
    if plan.transfer is not None:
        ram_s, latency_s = plan.transfer.ram_ns / NS_PER_SECOND, plan.transfer.latency / NS_PER_SECOND
    stop, sent, start = "source_stop_s", "transfer_s", "destination_start_s"
    return tuple(
        BlackoutPart(part, what, seconds)
        for part, what, seconds in (
            (stop, "pause_vcpus_s", phases.pause_vcpus_s),
            (stop, "prepare", times["source", "prepare"]),
            (stop, "main", times["source", "main"]),
            (stop, "flush_block_s", phases.flush_block_s),
            (sent, "final_query_s", phases.final_query_s),
            (sent, "RAM", ram_s),
            (sent, "device states", plan.transfer_s - phases.transfer_s - ram_s),
            (sent, "other_state_s", phases.other_state_s),
            (start, "latency of the link", latency_s),
            (start, "still to be loaded", plan.behind_s - latency_s),
            (start, "config_load", plan.config_s),
            (start, "load_state_s", phases.load_state_s),
            (start, "activate_block_s", phases.activate_block_s),
            (start, "prepare", times["destination", "prepare"]),
            (start, "main", times["destination", "main"]),
        )
    )
