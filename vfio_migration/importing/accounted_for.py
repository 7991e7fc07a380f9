"""What of the logged switchover an imported scenario accounts for, part by part, for people."""

from vfio_migration.plan import blackout_parts
from vfio_migration.scenarios import Scenario
from vfio_migration.wording import ms

_SIDES = {"source_stop_s": "source", "transfer_s": "transfer", "destination_start_s": "destination"}


def accounted_for(scenario: Scenario, took_ns: int | None, *, parallel: bool) -> tuple[str, ...]:
    """
    Give a line for each part of the switchover as it was, and one for their sum and what the logs say.

    `took_ns` is what passed from `src-downtime-start` to the destination's running, where one clock says so; `parallel`
    whether devices changed in parallel.
    """
    parts = [each for each in blackout_parts((scenario if parallel else scenario.serial()).plan()) if each.seconds]
    whole = sum(each.seconds for each in parts)
    logged = "" if took_ns is None else f", of {ms(took_ns / 1e9, digits=3)} in the logs"
    return (
        f"accounted for: {ms(whole, digits=3)}{logged}",
        *(f"  {_SIDES[each.part]}: {each.what}: {ms(each.seconds, digits=3)}" for each in parts),
    )
