"""
Pre-copy, and the decision to switch over (QEMU's `migration_iteration_run`): when it comes, and what is left then.

Before each iteration what is left is estimated. If that can be sent within the downtime limit, at the bandwidth that
was reached, it is asked for exactly; if that fits too, the switchover begins, in the middle of a pass of memory if it
so happens. A guest that dirties faster than the link sends never gets there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from vfio_migration.device import CHUNK
from vfio_migration.plan.pipeline import Flow, Pipeline
from vfio_migration.plan.planned_state import PlannedState
from vfio_migration.plan.surroundings import PlannedRam, Surroundings
from vmstate import NS_PER_SECOND

_WINDOW_NS = 100_000_000  # for as long, at least, the bandwidth is measured
_ITERATION_S = 0.1  # of the link's time
_IDLE = 2  # iterations without anything to send: the first may still end a window, the second shows that all stands
_HOPELESS = 2_000  # iterations that are tried where reckoning says that it never comes
_MOST = 200_000  # iterations, beside those of the first pass
_NEAR = 1_000  # iterations before a decision that are made one by one
_NO_RAM = PlannedRam(0)


@dataclass(frozen=True)
class PrecopyPlan:
    """
    How pre-copy goes; times in nanoseconds, from when the source's set-up begins, sizes in bytes.

    `never` says why the switchover is never decided, and is empty if it is. `passes` is the number of the last
    `MIGRATION_PASS`, the exact query of the set-up being 1. What the switchover has to send is `ram_left`, and of each
    device what is `left` of what pre-copy sends; of each so much was `loaded`. The destination has loaded what was sent
    at `done_ns`.
    """

    never: str = ""
    setup_ns: int = 0
    decided_ns: int = 0
    passes: int = 1
    iterations: int = 0
    measured: float | None = None
    ram_left: int = 0
    left: tuple[int, ...] = ()
    loaded: tuple[int, ...] = ()
    done_ns: int = 0


def plan_precopy(
    states: Sequence[PlannedState],
    surroundings: Surroundings,
    setup_ns: int,
    ready_ns: int,
    acks: Sequence[bool] = (),
) -> PrecopyPlan:
    """
    Plan pre-copy of devices with these states, in their order.

    The source's set-up ends at `setup_ns`; the destination's takes `ready_ns` from when it hears of the migration. The
    source is not stopped before it has heard in turn that the destination can receive; nor, where `acks` says so of
    devices, before it has heard that what these have to send first is loaded.
    """
    precopy = _Precopy(states, surroundings, setup_ns, ready_ns, list(acks))
    never = precopy.without_link() if surroundings.bandwidth is None else precopy.over_link()
    return PrecopyPlan(
        never,
        setup_ns,
        precopy.pipeline.now,
        precopy.passes,
        precopy.iterations,
        precopy.measured,
        precopy.known,
        tuple(each.pending for each in precopy.devices),
        tuple(each.flow.loaded for each in precopy.devices),
        precopy.pipeline.done,
    )


@dataclass
class _Device:
    """
    A device in pre-copy: what is pending of this round, and the rounds to come.

    `first` bytes, in whole chunks, are to be loaded before the source may stop (None: nobody waits for them). When it
    hears of that is `acked_ns`.
    """

    flow: Flow
    pending: int
    rounds: list[int]
    first: int | None = None
    acked_ns: int | None = None

    def carry(self, pipeline: Pipeline, size: int) -> None:
        if self.first is not None and self.acked_ns is None:
            some = min(size, self.first)
            self._carry(pipeline, some)
            self.first -= some
            if self.first == 0:
                self.mark(pipeline)
            size -= some
        self._carry(pipeline, size)

    def mark(self, pipeline: Pipeline) -> None:
        """Have the destination acknowledge what it has by now."""
        self.acked_ns = max(pipeline.done, pipeline.now + pipeline.latency) + pipeline.latency

    def _carry(self, pipeline: Pipeline, size: int) -> None:
        if not size:
            return
        pipeline.carry(self.flow, size)
        self.pending -= size
        if self.pending == 0 and self.rounds:  # the guest has dirtied some of it meanwhile
            self.pending = self.rounds.pop()
            self.flow.read = 0


@dataclass
class _Window:
    """In which the bandwidth is measured, while the link is busy: to be idle does not lower it."""

    start: int
    carried: int = 0
    busy: int = 0


@dataclass
class _Precopy:
    states: Sequence[PlannedState]
    surroundings: Surroundings
    setup_ns: int
    ready_ns: int
    acks: list[bool]
    passes: int = 1
    iterations: int = 0
    measured: float | None = None
    devices: list[_Device] = field(init=False)

    def __post_init__(self) -> None:
        around = self.surroundings
        self.ram = around.ram or _NO_RAM
        self.known = self.ram.size
        self._dirtied = 0  # in all, at the last sync
        self.devices = [_Device(Flow(each), 0, list(reversed(each.precopy_runs))) for each in self.states]
        for each in self.devices:
            each.pending = each.rounds.pop() if each.rounds else 0
        for each, acks in zip(self.devices, self.acks, strict=False):
            if acks:
                chunks = max(1, -(-each.flow.state.initial_size // CHUNK))
                each.first = min(each.pending, chunks * CHUNK)
        self._active = [each for each in self.devices if each.pending]
        self._at_stop = sum(each.size for each in self.states)
        self.pipeline = Pipeline(
            around.precopy_bandwidth, around.latency_ns, self.setup_ns, self.ready_ns + around.latency_ns
        )
        self._heard_ns = self.ready_ns + 2 * around.latency_ns  # there and back
        self._window = _Window(self.setup_ns)

    def without_link(self) -> str:
        """Make passes of all that is pending, until nothing is and the destination can receive."""
        while True:
            if not self._estimate():
                self._mark_the_rest()
                acked = (each.acked_ns for each in self.devices if each.acked_ns is not None)
                self.pipeline.now = max(self.pipeline.now, self._heard_ns, *acked)
                self.passes += 1
                self._sync()
                if not any(each.pending for each in self._active):  # memory takes no time to be sent, however dirty
                    return ""
            self.known = 0  # takes no time, and the exact query will say what was dirtied meanwhile
            self._send_devices()
            self.iterations += 1

    def over_link(self) -> str:
        """Iterate until what is left fits; gives why it never will, or nothing."""
        most = _HOPELESS if self._is_hopeless() else _MOST + self.ram.size // max(1, self._budget())
        idle = 0
        while True:
            fits = self._estimate() <= self._threshold()
            if fits and self._acked() and self._exact() <= self._threshold():
                if self.pipeline.now >= self._heard_ns:
                    return ""
                self.pipeline.now = self._heard_ns
                continue
            self._skip_alike()
            idle = 0 if self._iteration() or not self._acked() else idle + 1
            stands = not (self.ram.size and self.ram.dirty_rate)
            if (idle >= _IDLE and stands) or self.iterations >= most:
                return self._why()

    def _acked(self) -> bool:
        """Whether the source has heard of all; of what comes just then it hears when it looks again."""
        return all(
            each.acked_ns is not None and each.acked_ns < self.pipeline.now
            for each in self.devices
            if each.first is not None
        )

    def _mark_the_rest(self) -> None:
        """Have acknowledged what there is of those that have nothing to send, for which the first iteration will do."""
        for each in self.devices:
            if each.first == 0 and each.acked_ns is None:
                each.mark(self.pipeline)

    def _estimate(self) -> int:
        return self.known + sum(each.pending for each in self._active)

    def _exact(self) -> int:
        self._sync()
        self.passes += 1
        return self._estimate() + self._at_stop

    def _sync(self) -> None:
        dirtied = int(self.ram.dirty_rate * (self.pipeline.now - self.setup_ns) / NS_PER_SECOND)
        self.known = min(self.ram.size, self.known + dirtied - self._dirtied)
        self._dirtied = dirtied

    def _threshold(self) -> float:
        parameters = self.surroundings.parameters
        bandwidth = parameters.switchover_bandwidth
        if bandwidth is None:
            bandwidth = self.measured or 0.0
        return parameters.downtime_limit_s * bandwidth if parameters.downtime_limit_s else 0.0

    def _budget(self) -> int:
        return max(1, int((self.pipeline.bandwidth or 0.0) * _ITERATION_S))

    def _skip_alike(self) -> None:
        """Send at once what many iterations would, in which nothing but memory is sent and nothing is decided."""
        budget = self._budget()
        left = max(0.0, self.known - self._threshold())
        count = int(left // budget) - _NEAR
        if count > _NEAR and self.measured is not None:
            before = self.pipeline.busy
            self.pipeline.send(count * budget)
            self.known -= count * budget
            self._window.carried += count * budget
            self._window.busy += self.pipeline.busy - before
            self.iterations += count

    def _iteration(self) -> int:
        """Send what fits into one iteration, memory first; gives how many bytes that were."""
        pipeline, window = self.pipeline, self._window
        carried, busy = pipeline.carried, pipeline.busy
        budget = self._budget()
        ram = min(self.known, budget)
        if ram:
            pipeline.send(ram)
            self.known -= ram
        if not self.known and ram < budget:
            self._send_devices(budget - ram)
        self._mark_the_rest()
        window.carried += pipeline.carried - carried
        window.busy += pipeline.busy - busy
        if pipeline.carried == carried:
            end = window.start + _WINDOW_NS
            pipeline.now = end if end >= pipeline.now else pipeline.now + _WINDOW_NS
        if pipeline.now - window.start >= _WINDOW_NS:
            if window.carried > 0:
                self.measured = window.carried * NS_PER_SECOND / window.busy if window.busy > 0 else math.inf
            self._window = _Window(pipeline.now)
        self.iterations += 1
        return pipeline.carried - carried

    def _send_devices(self, budget: int | None = None) -> None:
        """Send what is pending of each in turn, in whole chunks: the last is sent if any of the budget is left."""
        for each in self._active if self.iterations else self.devices:
            if each.first == 0 and each.acked_ns is None:
                each.mark(self.pipeline)
            if not each.pending:
                continue
            size = each.pending
            if budget is not None:
                size = min(size, -(-budget // CHUNK) * CHUNK)
                budget -= size
            each.carry(self.pipeline, size)
            if budget is not None and budget <= 0:
                break
        self._active = [each for each in self._active if each.pending]

    def _is_hopeless(self) -> bool:
        """Say whether it cannot come, but for what is rounded where hardly anything is sent."""
        rate = self.pipeline.bandwidth or 0.0
        parameters = self.surroundings.parameters
        fits = parameters.downtime_limit_s * (parameters.switchover_bandwidth or rate)
        too_fast = self.ram.dirty_rate >= rate and self.ram.size + self._at_stop > fits
        return self._at_stop > fits or too_fast

    def _why(self) -> str:
        """Say why the switchover is never decided, and what to do."""
        rate = self.pipeline.bandwidth or 0.0
        parameters = self.surroundings.parameters
        if self.measured is None and parameters.switchover_bandwidth is None:
            return "nothing is sent before the stop by which a bandwidth could be measured: give switchover_bandwidth"
        if self._at_stop > self._threshold():
            return (
                f"the devices have {self._at_stop:,} bytes to send once they are stopped, and the downtime limit of "
                f"{parameters.downtime_limit_s * 1000:,.1f} ms allows {self._threshold():,.0f}: raise the limit"
            )
        if self.ram.dirty_rate >= rate:
            return (
                f"the guest dirties {self.ram.dirty_rate:,.0f} bytes per second and the link sends {rate:,.0f}: "
                "raise the limit, or slow the guest down"
            )
        return f"it is not decided within {self.iterations:,} iterations: raise the limit, or slow the guest down"
