"""
The plan of a whole migration: pre-copy and its end, the passes of both sides, the transfer, and what is to be loaded.

Where neither a link nor loading is given, the transfer is a sum, and nothing is simulated for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from vfio_migration.device import DeviceState, MigrationFlags, transition_path
from vfio_migration.plan.planned_saving import PlannedSaving
from vfio_migration.plan.planned_state import PlannedState
from vfio_migration.plan.precopy import PrecopyPlan, plan_precopy
from vfio_migration.plan.side_by_side import EXACT_PIECES, SideBySidePlan, plan_side_by_side
from vfio_migration.plan.surroundings import NO_SURROUNDINGS, Surroundings
from vfio_migration.plan.switchover import Bounds, PassPlan, PlannedDevice, Step, SwitchoverPlan
from vfio_migration.plan.transfer import Stretch, TransferPlan, behind, plan_transfer
from vmstate import NS_PER_SECOND, seconds_to_ns

_S = DeviceState
_NEVER = Bounds(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class MigrationPlan:
    """
    A whole migration. Times are in seconds; math.inf is never.

    `transfer` is None where it is a sum. `config_load_s` is what the devices' configurations take to be loaded.
    """

    switchover: SwitchoverPlan
    surroundings: Surroundings
    precopy: PrecopyPlan
    transfer: TransferPlan | SideBySidePlan | None
    config_load_s: float

    @property
    def never(self) -> str:
        """Why the switchover is never decided; empty if it is."""
        return self.precopy.never

    @property
    def passes(self) -> tuple[PassPlan, ...]:
        """The passes of both sides."""
        return self.switchover.passes

    @cached_property
    def transfers(self) -> tuple[Step, ...]:
        """What each device takes of the transfer, in turn."""
        steps = self.switchover.transfers
        if self.transfer is None:
            return steps
        return tuple(
            replace(step, seconds=taken / NS_PER_SECOND)
            for step, taken in zip(steps, self.transfer.devices, strict=True)
        )

    @property
    def source_stop_s(self) -> float:
        """From telling the source to stop until saving begins."""
        return math.inf if self.never else self.switchover.source_stop_s

    @property
    def transfer_s(self) -> float:
        """From there until the last byte is out."""
        if self.never:
            return math.inf
        return self.switchover.transfer_s if self.transfer is None else self.transfer.sending / NS_PER_SECOND

    @property
    def destination_start_s(self) -> float:
        """From there until the destination's machine runs."""
        if self.never:
            return math.inf
        return self.behind_s + self.config_s + self.switchover.destination_start_s

    @property
    def behind_s(self) -> float:
        """How long after the last byte was sent the destination has loaded all but the configurations."""
        return self._behind_s(self.switchover.source_stop_s)

    @property
    def config_s(self) -> float:
        """How long after that the last of the configurations is loaded."""
        return self._config_s(self.switchover.source_stop_s)

    @cached_property
    def bounds(self) -> Bounds:
        """The three bounds; each holds all that is not a change of a state, too."""
        if self.never:
            return _NEVER
        if self.transfer is None and not self.config_load_s:
            return self.switchover.bounds
        serial, mechanism, ideal = (self._total_s(bound) for bound in ("serial_s", "mechanism_s", "ideal_s"))
        return Bounds(serial, mechanism, ideal)

    def after_stop_s(self, source_stop_s: float, whole: Stretch, config_load_s: float) -> float:
        """Give what lies between a stop that takes so long and the start, with such a transfer."""
        assert isinstance(self.transfer, TransferPlan)  # noqa: S101 - of plans that have one only
        late = behind(whole, self.transfer.latency, self.lag_ns(source_stop_s))
        return (whole.sending + late) / NS_PER_SECOND + config_load_s

    def _total_s(self, bound: str) -> float:
        stop_s = self.switchover.side_s("source", bound)
        between_s = self.transfer_s + self._behind_s(stop_s) + self._config_s(stop_s)
        return stop_s + between_s + self.switchover.side_s("destination", bound)

    def _behind_s(self, source_stop_s: float) -> float:
        if self.transfer is None:
            return 0.0
        return self.transfer.behind_ns(self.lag_ns(source_stop_s)) / NS_PER_SECOND

    def _config_s(self, source_stop_s: float) -> float:
        if isinstance(self.transfer, SideBySidePlan):
            return self.transfer.config_ns(self.lag_ns(source_stop_s)) / NS_PER_SECOND
        return self.config_load_s

    def lag_ns(self, source_stop_s: float) -> int:
        """Give when what pre-copy sent is loaded, after a stop that takes so long: a slow one may still be at it."""
        return self.precopy.done_ns - self.precopy.decided_ns - seconds_to_ns(source_stop_s)


def plan_migration(
    switchover: SwitchoverPlan,
    devices: Sequence[PlannedDevice],
    surroundings: Surroundings = NO_SURROUNDINGS,
    *,
    most_pieces: int = EXACT_PIECES,
) -> MigrationPlan:
    """Plan the migration of a machine whose passes and devices are these; `most_pieces`: see `plan_side_by_side`."""
    precopy = plan_precopy(
        [_precopy_state(each) for each in devices],
        surroundings,
        sum(_source_setup_ns(each) for each in devices),
        sum(_destination_setup_ns(each) for each in devices),
        [surroundings.parameters.switchover_ack and MigrationFlags.PRE_COPY in each.flags for each in devices],
    )
    insists = next((each.id for each in devices if each.multifd is True), None)
    if insists is not None and not surroundings.parameters.multifd_channels:
        never = f"device {insists!r} has multifd on, and there are no channels: give multifd_channels"
        precopy = replace(precopy, never=never)
    config_load_s = sum(each.known_state.config_load_s for each in devices)
    transfer = None if precopy.never else _plan_transfer(switchover, devices, surroundings, precopy, most_pieces)
    return MigrationPlan(switchover, surroundings, precopy, transfer, config_load_s)


def _plan_transfer(
    switchover: SwitchoverPlan,
    devices: Sequence[PlannedDevice],
    surroundings: Surroundings,
    precopy: PrecopyPlan,
    most_pieces: int,
) -> TransferPlan | SideBySidePlan | None:
    """Plan the transfer; None where it is a sum."""
    in_thread = [surroundings.in_thread(each.multifd) for each in devices]
    loads_slowly = any(each.known_state.write_rate for each in devices)
    if surroundings.link is None and not loads_slowly and not any(in_thread):
        return None
    phases = switchover.phases
    before_ns, after_ns = seconds_to_ns(phases.final_query_s), seconds_to_ns(phases.other_state_s)
    savings = [
        PlannedSaving(
            device.known_state,
            sum(seconds_to_ns(device.arc_s(*arc)) for arc in step.arcs),
            precopy.left[place],
            precopy.loaded[place],
            0 if device.state is not None else seconds_to_ns(device.transfer_s),
            in_thread[place],
        )
        for place, (device, step) in enumerate(_with_steps(switchover, devices))
    ]
    if any(in_thread):
        return plan_side_by_side(savings, precopy.ram_left, surroundings, before_ns, after_ns, most_pieces=most_pieces)
    return plan_transfer(savings, precopy, surroundings, before_ns, after_ns)


def _with_steps(switchover: SwitchoverPlan, devices: Sequence[PlannedDevice]) -> list[tuple[PlannedDevice, Step]]:
    return list(zip(devices, switchover.transfers, strict=True))


def _precopy_state(device: PlannedDevice) -> PlannedState:
    """Give its state with nothing to send before the stop, if it has no pre-copy."""
    if MigrationFlags.PRE_COPY in device.flags:
        return device.known_state
    return replace(device.known_state, precopy_size=0, precopy_dirty=())


def _source_setup_ns(device: PlannedDevice) -> int:
    """Give how long it takes to go to PRE_COPY, if it can."""
    if MigrationFlags.PRE_COPY not in device.flags:
        return 0
    return _way_ns(device, _S.PRE_COPY)


def _destination_setup_ns(device: PlannedDevice) -> int:
    return _way_ns(device, _S.RESUMING)


def _way_ns(device: PlannedDevice, target: DeviceState) -> int:
    """Give how long the way from RUNNING takes."""
    entered = transition_path(_S.RUNNING, target, device.flags)
    arcs = zip((_S.RUNNING, *entered), entered, strict=False)
    return sum(seconds_to_ns(device.arc_s(*arc)) for arc in arcs)
