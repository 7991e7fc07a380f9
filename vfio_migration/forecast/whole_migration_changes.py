"""What if: the same for what no device is, the link, memory and parameters, each planned anew with its own decision."""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from vfio_migration.forecast.what_if import Change, ChangeKind
from vfio_migration.plan import MigrationPlan, SideBySidePlan, Surroundings

_CHANNELS = 8  # that are suggested at most


def whole_migration_changes(plan: MigrationPlan, anew: Callable[[Surroundings], MigrationPlan]) -> list[Change]:
    """Give every such change; `anew` plans the migration with other surroundings."""
    devices = len(plan.switchover.transfers)
    # Planned as the others are, to be compared with them: of much that is sent side by side in the same larger pieces.
    now = (anew(plan.surroundings) if isinstance(plan.transfer, SideBySidePlan) else plan).bounds.mechanism_s
    found = []
    for kind, name, what, surroundings in (*_channels(plan.surroundings, devices), *_variants(plan.surroundings)):
        then = anew(surroundings).bounds.mechanism_s
        if math.isinf(now) and math.isinf(then):
            continue
        gain = now - then if math.isinf(now - then) else round(now - then, 9) + 0.0
        share = gain / now if now and math.isfinite(gain) else 0.0
        found.append(Change(kind, (name,), one_of=False, what=what, gain_s=gain, share=share, then_s=then))
    return found


def _channels(around: Surroundings, devices: int) -> Iterator[tuple[ChangeKind, str, str, Surroundings]]:
    """Give devices side by side where they are saved in turn, and in turn where they are side by side."""
    parameters = around.parameters
    if devices > 1 or parameters.multifd_channels:
        count = 0 if parameters.multifd_channels else min(devices, _CHANNELS)
        with_them = replace(around, parameters=replace(parameters, multifd_channels=count))
        yield ChangeKind.PARAMETER, "multifd_channels", f"set to {count}", with_them


def _variants(around: Surroundings) -> Iterator[tuple[ChangeKind, str, str, Surroundings]]:
    """Give what could be changed: nothing of it counts where there is no link."""
    link, ram, parameters = around.link, around.ram, around.parameters
    if link is None or link.bandwidth is None:
        return
    with suppress(ValueError):  # there is no faster one
        faster = replace(link, bandwidth=link.bandwidth * 2)
        yield ChangeKind.LINK, "link", "twice as fast", replace(around, link=faster)
    if link.latency_s > 0:
        yield (
            ChangeKind.LINK,
            "link",
            "latency halved",
            replace(around, link=replace(link, latency_s=link.latency_s / 2)),
        )
    if ram is not None and ram.dirty_rate > 0:
        slower = replace(ram, dirty_rate=ram.dirty_rate / 2)
        yield ChangeKind.RAM, "ram", "dirtied half as fast", replace(around, ram=slower)
    for word, factor in (("halved", 0.5), ("doubled", 2.0)):
        with suppress(ValueError):  # there is no longer one
            limited = replace(parameters, downtime_limit_s=parameters.downtime_limit_s * factor)
            yield ChangeKind.PARAMETER, "downtime_limit_s", word, replace(around, parameters=limited)
    if parameters.max_bandwidth is not None and parameters.max_bandwidth < link.rate:
        free = replace(parameters, max_bandwidth=None)
        yield ChangeKind.PARAMETER, "max_bandwidth", "lifted", replace(around, parameters=free)
