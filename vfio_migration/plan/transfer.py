"""
The transfer, and what the destination still has to load after it.

Memory's rest is sent, then the state of each device in turn, read, sent and loaded chunk behind chunk. What one
device does to that is a *stretch*; stretches one after another are a stretch again, so that with another device in the
place of one not all has to be worked out anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

from vfio_migration.plan.pipeline import LONG_AGO, Flow, Pipeline
from vfio_migration.plan.planned_saving import PlannedSaving
from vfio_migration.plan.precopy import PrecopyPlan
from vfio_migration.plan.surroundings import Surroundings


@dataclass(frozen=True)
class Stretch:
    """
    A part of the transfer, in nanoseconds.

    The source takes `sending`. A destination that has nothing else to do is done `following` after it began; one that
    is behind is done `loading` after it was done with what came before, whichever is later.
    """

    sending: int = 0
    loading: int = 0
    following: int = LONG_AGO

    def then(self, other: "Stretch") -> "Stretch":
        """Give both, one after the other."""
        return Stretch(
            self.sending + other.sending,
            self.loading + other.loading,
            max(self.following + other.loading, self.sending + other.following),
        )


@dataclass(frozen=True)
class TransferPlan:
    """
    The transfer from the status `device` to the last byte; nanoseconds.

    Before the first device pass `before_ns`, of which `ram_ns` are memory's rest; `latency` comes after it all.
    """

    whole: Stretch
    before_ns: int
    ram_ns: int
    latency: int
    devices: tuple[int, ...]

    @property
    def sending(self) -> int:
        """How long it takes the source."""
        return self.whole.sending

    def behind_ns(self, lag_ns: int) -> int:
        """Give how long after the last byte all is there and loaded; `lag_ns`: when pre-copy was, after `device`."""
        return behind(self.whole, self.latency, lag_ns)


def behind(whole: Stretch, latency: int, lag_ns: int) -> int:
    """Give how long after the end of a transfer the destination has all of it."""
    return max(latency, whole.following - whole.sending, lag_ns + whole.loading - whole.sending)


def plan_transfer(
    savings: Sequence[PlannedSaving], precopy: PrecopyPlan, surroundings: Surroundings, before_ns: int, after_ns: int
) -> TransferPlan:
    """Plan the transfer; `before_ns` and `after_ns` pass before the first byte and after the last."""
    pipeline = Pipeline(surroundings.bandwidth, surroundings.latency_ns, before_ns)
    if precopy.ram_left:
        pipeline.send(precopy.ram_left)
    ram_ns = pipeline.now - before_ns
    ends = [pipeline.now]
    for each in savings:
        _save(pipeline, each)
        ends.append(pipeline.now)
    devices = tuple(end - begin for begin, end in pairwise(ends))
    loading = sum(each.loading_ns for each in savings)
    return TransferPlan(
        Stretch(pipeline.now + after_ns, loading, pipeline.done), ends[0], ram_ns, surroundings.latency_ns, devices
    )


def stretch_of(saving: PlannedSaving, surroundings: Surroundings) -> Stretch:
    """Give what one device does to the transfer."""
    pipeline = Pipeline(surroundings.bandwidth, surroundings.latency_ns)
    _save(pipeline, saving)
    return Stretch(pipeline.now, saving.loading_ns, pipeline.done)


def joined(stretches: Iterable[Stretch]) -> Stretch:
    """Give them all, one after another."""
    return reduce(Stretch.then, stretches, Stretch())


def _save(pipeline: Pipeline, saving: PlannedSaving) -> None:
    flow = Flow(saving.state, loaded=saving.loaded)
    pipeline.now += saving.arcs_ns + saving.plain_ns
    # What pre-copy left is read anew with the rest, though in chunks of its own: a chunk is of one piece of the state.
    pipeline.carry(flow, saving.left)
    pipeline.carry(flow, saving.state.size)
