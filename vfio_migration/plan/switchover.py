"""
The plan of a switchover: its passes, their depths, what runs in each; and how long that must take.

Bounds, prediction and tests all work from this one plan. It says nothing of how things are waited for, only
what has to be, in which order, and what may happen at the same time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

from vfio_migration.device import DeviceState, MigrationFlags, transition_path
from vfio_migration.live import Phases
from vfio_migration.plan.planned_state import NO_STATE, PlannedState
from vfio_migration.strategies import DEFAULT_STRATEGY, SECONDS, DepthTimes, Strategy
from vmstate import PassKind

_S = DeviceState
NO_PHASES = Phases()
# The depth of handlers with a plain priority: one of their own, before all devices.
PLAIN = -1


@dataclass(frozen=True)
class PlannedDevice:
    """
    A VFIO device; `arc_s` gives the seconds that an arc takes.

    `transfer_s` is how long its state takes to be read. `state` says more of it, where a link, or loading, has to be
    reckoned with; without it nothing is sent but the time. `multifd` is its `migration_multifd_transfer`.
    """

    id: str
    depth: int
    flags: MigrationFlags
    arc_s: Callable[[DeviceState, DeviceState], float]
    transfer_s: float
    parallel: bool
    state: PlannedState | None = None
    multifd: bool | Literal["auto"] = "auto"

    @property
    def known_state(self) -> PlannedState:
        """Its state, as far as anything is said of it."""
        return self.state or NO_STATE


@dataclass(frozen=True)
class PlannedHandler:
    """An ordinary handler; its callbacks take so many seconds. Depth PLAIN: a plain priority."""

    name: str
    depth: int
    stop_s: float = 0.0
    start_s: float = 0.0
    prepare_stop_s: float = 0.0
    prepare_start_s: float = 0.0


@dataclass(frozen=True)
class Step:
    """What one device or handler does in one pass."""

    name: str
    seconds: float
    arcs: tuple[tuple[DeviceState, DeviceState], ...] = ()


@dataclass(frozen=True)
class DepthPlan:
    """
    What runs at one depth of a pass: threads at the same time as each other and as the handlers.

    The walk launches them in turn, each launch taking it `launch_s`, calls the handlers, and joins the threads in the
    same order, each join taking it `join_s` after that thread has ended. A device with nothing to do has no thread.

    So it is with the strategy `depths`, and `mechanism_s` and what may be slower are of that; what another makes of
    all depths of a pass, `PassPlan` knows.
    """

    depth: int
    threads: tuple[Step, ...]
    handlers: tuple[Step, ...]
    launch_s: float = 0.0
    join_s: float = 0.0

    @property
    def serial_s(self) -> float:
        """All of it one after another."""
        return sum(step.seconds for step in (*self.threads, *self.handlers))

    @cached_property
    def handlers_s(self) -> float:
        """The ordinary handlers, which are always one after another."""
        return sum(step.seconds for step in self.handlers)

    @cached_property
    def mechanism_s(self) -> float:
        """The longest thread or all handlers, whichever is longer, and what launching and joining take the walk."""
        if not (self.launch_s or self.join_s):
            return max([self.handlers_s, *(step.seconds for step in self.threads)])
        return self._walked_s()

    @cached_property
    def times(self) -> DepthTimes[float]:
        """What a strategy has to know of it."""
        launches = tuple(step.seconds for step in self.threads if step.arcs)
        return DepthTimes(launches, self.handlers_s, self.launch_s, self.join_s)

    def slack_s(self, step: Step) -> float:
        """Give by how much one of the threads could be slower at no cost."""
        launched = len(self._places)
        place = self._places.get(step.name, 0)
        around_s = (place + 1) * self.launch_s + (launched - place) * self.join_s if launched else 0.0
        return self.mechanism_s - step.seconds - around_s

    def in_turn_slack_s(self) -> float:
        """Give by how much what comes in turn could be slower at no cost."""
        return self.mechanism_s - self.handlers_s - len(self._places) * (self.launch_s + self.join_s)

    @cached_property
    def _places(self) -> dict[str, int]:
        """Which thread is launched when, counted from 0."""
        return {step.name: place for place, step in enumerate(each for each in self.threads if each.arcs)}

    def _walked_s(self) -> float:
        """Give how long the walk is here: it launches, calls, joins."""
        return DEFAULT_STRATEGY.pass_s((self.times,), SECONDS)


@dataclass(frozen=True)
class PassPlan:
    """One pass of one side, its depths in the order in which the walk meets them."""

    side: str
    kind: PassKind
    depths: tuple[DepthPlan, ...]
    strategy: Strategy = DEFAULT_STRATEGY

    @property
    def serial_s(self) -> float:
        """Everything one after another."""
        return sum(depth.serial_s for depth in self.depths)

    @property
    def mechanism_s(self) -> float:
        """What it takes by its strategy: depth after depth, unless that is another."""
        if self.strategy == DEFAULT_STRATEGY:
            return sum(depth.mechanism_s for depth in self.depths)
        return self.strategy.pass_s([depth.times for depth in self.depths], SECONDS)

    @property
    def ideal_s(self) -> float:
        """If depths overlapped too."""
        threads = [step.seconds for depth in self.depths for step in depth.threads]
        return max([sum(depth.handlers_s for depth in self.depths), *threads])


@dataclass(frozen=True)
class Bounds:
    """How long the switchover must take, in seconds: serial, with the strategy it has, if depths overlapped."""

    serial_s: float
    mechanism_s: float
    ideal_s: float


@dataclass(frozen=True)
class SwitchoverPlan:
    """The passes of both sides, and the transfer between them."""

    passes: tuple[PassPlan, ...]
    transfers: tuple[Step, ...]
    phases: Phases = NO_PHASES

    def side_s(self, side: str, bound: str = "mechanism_s") -> float:
        """Give what one side takes by one of the bounds, with the fixed costs of its phases."""
        fixed = self.phases.source_stop_s if side == "source" else self.phases.destination_start_s
        passes: float = sum(getattr(each, bound) for each in self.passes if each.side == side)
        return fixed + passes

    @property
    def source_stop_s(self) -> float:
        """The source's passes, with this mechanism, and what lies before and after them."""
        return self.side_s("source")

    @property
    def transfer_s(self) -> float:
        """The devices' states, one after another, and what else is sent."""
        return self.phases.transfer_s + sum(step.seconds for step in self.transfers)

    @property
    def destination_start_s(self) -> float:
        """The destination's passes, with this mechanism, and what lies before them."""
        return self.side_s("destination")

    @property
    def bounds(self) -> Bounds:
        """The three bounds; each holds both sides' passes and the transfer."""
        fixed = self.phases.total_s + sum(step.seconds for step in self.transfers)
        return Bounds(
            serial_s=fixed + sum(each.serial_s for each in self.passes),
            mechanism_s=fixed + sum(each.mechanism_s for each in self.passes),
            ideal_s=fixed + sum(each.ideal_s for each in self.passes),
        )


def plan_switchover(
    devices: Sequence[PlannedDevice],
    handlers: Sequence[PlannedHandler] = (),
    phases: Phases = NO_PHASES,
    strategy: Strategy = DEFAULT_STRATEGY,
) -> SwitchoverPlan:
    """Plan the switchover of a machine that is live on the source and runs on the destination."""
    ways = {device.id: _way(device.flags) for device in devices}
    passes = []
    for side, kind in (
        ("source", PassKind.PREPARE),
        ("source", PassKind.MAIN),
        ("destination", PassKind.PREPARE),
        ("destination", PassKind.MAIN),
    ):
        depths = sorted({each.depth for each in devices} | {each.depth for each in handlers}, reverse=side == "source")
        passes.append(
            PassPlan(
                side,
                kind,
                tuple(
                    _depth_plan(
                        depth,
                        [(each, _step(each, ways[each.id][side, kind])) for each in devices if each.depth == depth],
                        [_handler_step(each, side, kind) for each in handlers if each.depth == depth],
                        side,
                        phases,
                    )
                    for depth in depths
                ),
                strategy,
            )
        )
    transfers = []
    for device in devices:
        step = _step(device, ways[device.id]["transfer"])
        transfers.append(Step(device.id, step.seconds + device.transfer_s, step.arcs))
    return SwitchoverPlan(tuple(passes), tuple(transfers), phases)


_Arcs = tuple[tuple[DeviceState, DeviceState], ...]


@cache
def _way(flags: MigrationFlags) -> dict[object, _Arcs]:
    """Follow one device through the switchover: the arcs of each pass and of the transfer."""
    p2p = MigrationFlags.P2P in flags
    precopy = MigrationFlags.PRE_COPY in flags
    way: dict[object, _Arcs] = {}
    state = _S.PRE_COPY if precopy else _S.RUNNING

    def go(leg: object, target: DeviceState) -> None:
        nonlocal state
        entered = transition_path(state, target, flags)
        way[leg] = tuple(zip((state, *entered), entered, strict=False))
        state = target

    stay = state
    go(("source", PassKind.PREPARE), (_S.PRE_COPY_P2P if precopy else _S.RUNNING_P2P) if p2p else stay)
    go(("source", PassKind.MAIN), _S.STOP_COPY if precopy else _S.STOP)
    go("transfer", _S.STOP_COPY)
    state = stay = _S.RESUMING
    go(("destination", PassKind.PREPARE), _S.RUNNING_P2P if p2p else stay)
    go(("destination", PassKind.MAIN), _S.RUNNING)
    return way


def _step(device: PlannedDevice, arcs: _Arcs) -> Step:
    return Step(device.id, sum(device.arc_s(*arc) for arc in arcs), arcs)


def _handler_step(handler: PlannedHandler, side: str, kind: PassKind) -> Step:
    if kind is PassKind.PREPARE:
        seconds = handler.prepare_stop_s if side == "source" else handler.prepare_start_s
    else:
        seconds = handler.stop_s if side == "source" else handler.start_s
    return Step(handler.name, seconds)


def _depth_plan(
    depth: int, devices: list[tuple[PlannedDevice, Step]], handlers: list[Step], side: str, phases: Phases
) -> DepthPlan:
    threads = [step for device, step in devices if device.parallel]
    if side == "source":  # the walk of a stop meets last what was registered first
        threads.reverse()
    serial = (step for device, step in devices if not device.parallel)
    return DepthPlan(depth, tuple(threads), (*serial, *handlers), phases.launch_s, phases.join_s)
