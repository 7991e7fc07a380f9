"""What a device or a handler puts into a plan, as the ledgers reckon with it."""

from dataclasses import dataclass

from vfio_migration.forecast.transfer_ledger import Saving
from vfio_migration.plan import PlannedDevice, PlannedHandler, plan_switchover
from vmstate import seconds_to_ns

PASSES = 4


@dataclass(frozen=True)
class Part:
    """
    What a device or a handler puts into each of the four passes at its depth, in seconds, and into the transfer.

    `launched` says in which of the passes it has a thread.
    """

    depth: int
    thread: bool
    seconds: tuple[float, ...]
    transfer_s: float
    launched: tuple[bool, ...] = (False,) * PASSES
    saving: Saving = Saving()  # noqa: RUF009 - frozen


@dataclass(frozen=True)
class Placed:
    """A group as the ledger takes it: what one of it puts in, and the places of all of it in the machine's order."""

    part: Part
    places: tuple[int, ...]

    def last(self, count: int) -> tuple[int, ...]:
        """Give the places of the last so many."""
        return self.places[len(self.places) - count :]


def part_of(which: PlannedDevice | PlannedHandler) -> Part:
    """Give what a device or handler puts into a plan, from a plan of it alone."""
    if isinstance(which, PlannedHandler):
        plan = plan_switchover([], [which])
        return Part(which.depth, False, tuple(each.serial_s for each in plan.passes), 0.0)
    plan = plan_switchover([which])
    (step,) = plan.transfers
    arcs_ns = sum(seconds_to_ns(which.arc_s(*arc)) for arc in step.arcs)
    plain_ns = 0 if which.state is not None else seconds_to_ns(which.transfer_s)
    return Part(
        which.depth,
        which.parallel,
        tuple(each.serial_s for each in plan.passes),
        plan.transfer_s,
        tuple(any(step.arcs for depth in each.depths for step in depth.threads) for each in plan.passes),
        Saving(which.known_state, arcs_ns, plain_ns, which.multifd),
    )
