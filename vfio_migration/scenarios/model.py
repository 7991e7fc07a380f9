"""A scenario: what a machine to be migrated consists of, to be planned and to be built any number of times."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import msgspec

from vfio_migration.changes import Watchdog
from vfio_migration.device import DeviceState, MigrationFlags, MockDevice, VFIODevice
from vfio_migration.live import Phases, Ram
from vfio_migration.plan import (
    MigrationPlan,
    PlannedDevice,
    PlannedHandler,
    PlannedState,
    Surroundings,
    plan_migration,
    plan_switchover,
)
from vfio_migration.registered import VFIOMigration, use_strategy
from vfio_migration.scenarios.distributions import Distribution
from vfio_migration.scenarios.entries import TreeDevice, VFIOEntry
from vfio_migration.scenarios.phase_waits import add_phases
from vfio_migration.scenarios.scenario_faults import FaultSpec
from vfio_migration.strategies import DEFAULT_STRATEGY, Strategy, strategy_named
from vfio_migration.wording import listed
from vmstate import (
    Bus,
    Clock,
    Device,
    DeviceTree,
    Machine,
    RunState,
    TraceSink,
    add_device_handler,
    parse_qtree,
)

# Called the same in `MockDevice`.
_OF_MOCK = (
    "state_size",
    "rate",
    "precopy_size",
    "precopy_dirty",
    "contents",
    "write_rate",
    "config_load",
    "initial_size",
)
ROOT_BUS = "main-system-bus"
_RANGE = re.compile(r"(?P<before>[^{}]*)\{(?P<first>\d{1,6})\.\.(?P<last>\d{1,6})\}(?P<after>[^{}]*)")
_MOST_IDS = 100_000
_MOST = 20  # buses in an error
_DESTINATION_SEED = 1_000_003  # apart from the source's, so that equal states can only come from a transfer


@dataclass(frozen=True)
class DeviceSpec:
    """
    A VFIO device of a scenario: what its `[[vfio]]` says, and what that comes to for it; seconds by arc.

    `id` is what it is called: its own or, for one without, what the tree calls it; `place` is where the tree has it.
    `varying` are the arcs whose latency varies: in `latency` stands their mean, or what was drawn.
    """

    id: str
    place: int
    depth: int
    seed: int
    flags: MigrationFlags
    latency: Mapping[tuple[DeviceState, DeviceState], float]
    entry: VFIOEntry
    varying: Mapping[tuple[DeviceState, DeviceState], Distribution] = field(default_factory=dict)

    @property
    def of_mock(self) -> dict[str, Any]:
        """What its `MockDevice` is told beside flags, latencies and a seed."""
        return {name: getattr(self.entry, name) for name in _OF_MOCK}

    @property
    def transfer_s(self) -> float:
        """How long reading the state takes that pre-copy leaves."""
        return 0.0 if self.entry.rate is None else self.entry.state_size / self.entry.rate

    @property
    def planned_state(self) -> PlannedState:
        """Its state as a plan takes it."""
        entry = self.entry
        return PlannedState(
            entry.state_size,
            entry.rate,
            max(entry.precopy_size, entry.initial_size),
            entry.precopy_dirty,
            entry.write_rate,
            entry.config_load,
            entry.initial_size,
        )

    def drawn(self, generator: Random) -> "DeviceSpec":
        """Give the device with a latency drawn for each arc whose latency varies, in the arcs' order."""
        drawn = {arc: each.at(generator.random()) for arc, each in self.varying.items()}
        return replace(self, latency={**self.latency, **drawn}, varying={})

    def changed(self, **entry: Any) -> "DeviceSpec":
        """Give the device with other values that need no check."""
        return replace(self, entry=msgspec.structs.replace(self.entry, **entry))


@dataclass(frozen=True)
class HandlerSpec:
    """An ordinary handler of a scenario: of the tree's device at `place`, or with a plain priority."""

    name: str
    depth: int
    place: int | None
    priority: int
    stop_s: float
    start_s: float
    prepare_stop_s: float
    prepare_start_s: float


@dataclass(frozen=True)
class ScenarioMachine:
    """A machine built from a scenario, and the mocks behind its VFIO devices."""

    machine: Machine
    mocks: dict[str, MockDevice] = field(default_factory=dict)

    def close(self) -> None:
        """Take all devices away, and with them the threads that are kept for them; raises as `VFIOMigration.close`."""
        for each in self.machine.migratables:
            if isinstance(each, VFIOMigration):
                each.close()


def _several(key: str, entry: TreeDevice) -> list[str]:
    """Give the ids that `nic{0..7}` stands for."""
    match = _RANGE.fullmatch(entry.ids)
    first, last = (int(match["first"]), int(match["last"])) if match else (1, 0)
    if match is None or first > last or last - first >= _MOST_IDS:
        raise KeyError(
            f"{key}.ids: expected a range of numbers such as 'nic{{0..7}}', of at most {_MOST_IDS:,}, got {entry.ids!r}"
        )
    if entry.id or entry.buses:
        raise KeyError(f"{key}.ids: expected no `id` and no `buses` beside it, as it is for several devices")
    return [f"{match['before']}{number}{match['after']}" for number in range(first, last + 1)]


@dataclass(frozen=True)
class TreeSource:
    """Where a scenario's device tree comes from; each machine gets one of its own."""

    qtree: bytes | None
    devices: tuple[TreeDevice, ...]

    def build(self) -> DeviceTree:
        """
        Build the tree anew.

        Raises:
            QtreeError: the text of `info qtree` cannot be read.
            KeyError: a device sits on a bus that none before it has; the key says which and where.

        """
        if self.qtree is not None:
            return parse_qtree(self.qtree)
        buses = {ROOT_BUS: Bus(ROOT_BUS)}
        for number, entry in enumerate(self.devices):
            key = f"tree.devices[{number}]"
            if entry.bus not in buses:
                known = listed(list(buses), "buses", _MOST)
                raise KeyError(f"{key}.bus: expected a bus named before it ({known}), got {entry.bus!r}")
            if entry.ids:
                for id_ in _several(key, entry):
                    Device(id_, buses[entry.bus], entry.type)
                continue
            device = Device(entry.id, buses[entry.bus], entry.type)
            for bus in entry.buses:
                if bus in buses:
                    raise KeyError(f"{key}.buses: a bus {bus!r} is there already")
                buses[bus] = Bus(bus, device)
        return DeviceTree(buses[ROOT_BUS])


def _bus_at(depth: int) -> Bus:
    """Make a bus on which devices have this depth."""
    bus = Bus(ROOT_BUS)
    for number in range(1, depth):
        bus = Bus(f"depth-{number + 1}", Device("", bus, "bridge"))
    return bus


@dataclass(frozen=True)
class Scenario:
    """A machine to be migrated, any number of times."""

    name: str
    description: str
    tree: TreeSource
    devices: tuple[DeviceSpec, ...]
    handlers: tuple[HandlerSpec, ...]
    watchdog: Watchdog = field(default_factory=Watchdog)
    faults: tuple[FaultSpec, ...] = ()
    phases: Phases = field(default_factory=Phases)
    surroundings: Surroundings = field(default_factory=Surroundings)
    strategy: Strategy = DEFAULT_STRATEGY
    notes: tuple[str, ...] = ()  # what of its files was passed over

    def plan(self) -> MigrationPlan:
        """Plan its migration."""
        devices = self.planned_devices()
        return plan_migration(
            plan_switchover(devices, self.planned_handlers(), self.phases, self.strategy), devices, self.surroundings
        )

    def planned_devices(self) -> list[PlannedDevice]:
        """Give its VFIO devices as a plan takes them."""
        return [
            PlannedDevice(
                spec.id,
                spec.depth,
                spec.flags,
                lambda current, target, latency=spec.latency: latency.get((current, target), 0.0),  # type: ignore[misc]
                spec.transfer_s,
                spec.entry.parallel,
                spec.planned_state,
                spec.entry.multifd,
            )
            for spec in self.devices
        ]

    def planned_handlers(self) -> list[PlannedHandler]:
        """Give its ordinary handlers as a plan takes them."""
        return [
            PlannedHandler(spec.name, spec.depth, spec.stop_s, spec.start_s, spec.prepare_stop_s, spec.prepare_start_s)
            for spec in self.handlers
        ]

    def serial(self) -> "Scenario":
        """Give the same machine with parallel changes off for every device."""
        return replace(self, devices=tuple(spec.changed(parallel=False) for spec in self.devices))

    @property
    def varies(self) -> bool:
        """Whether the latency of any arc varies."""
        return any(spec.varying for spec in self.devices)

    def drawn(self, generator: Random) -> "Scenario":
        """
        Give the same machine with plain latencies, those that vary drawn: device after device, arc after arc.

        One number of the generator's for each (`distributions`), whatever its distribution.
        """
        if not self.varies:
            return self
        return replace(self, devices=tuple(spec.drawn(generator) for spec in self.devices))

    def with_strategy(self, strategy: str | Strategy) -> "Scenario":
        """
        Give the same machine with its devices treated so by each pass.

        Raises:
            ValueError: there is no strategy of this name.

        """
        return replace(self, strategy=strategy_named(strategy) if isinstance(strategy, str) else strategy)

    def with_threads(self, threads: str) -> "Scenario":
        """Give the same machine with all state-change threads coming about in this way."""
        return replace(self, devices=tuple(spec.changed(threads=threads) for spec in self.devices))

    def build(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        trace: TraceSink | None = None,
        destination: bool = False,
    ) -> ScenarioMachine:
        """
        Build one machine of the pair, its devices' states other than the counterpart's, its faults arranged.

        Raises:
            RuntimeError: the system refuses a thread that a device is to keep; no thread is left behind.

        """
        machine = Machine(name, clock=clock, trace=trace)
        use_strategy(machine, self.strategy)
        tree = self.tree.build()
        places = list(tree)
        for handler in self.handlers:
            self.add_handler(machine, handler, places)
        built = ScenarioMachine(machine)
        deepest = max([spec.depth for spec in self.devices] + [spec.depth for spec in self.handlers])
        add_phases(machine, self.phases, deepest, destination=destination)
        if self.surroundings.ram is not None:
            Ram(machine, self.surroundings.ram.size, dirty_rate=self.surroundings.ram.dirty_rate)
        try:
            for spec in self.devices:
                built.mocks[spec.id] = self._add_device(machine, spec, places, destination=destination)
            for fault in self.faults:
                if fault.entry.side == ("destination" if destination else "source"):
                    fault.arrange(built.mocks[fault.device])
        except BaseException:
            built.close()
            raise
        return built

    def _add_device(self, machine: Machine, spec: DeviceSpec, places: list[Device], *, destination: bool) -> MockDevice:
        mock = MockDevice(
            flags=spec.flags,
            latency=spec.latency,
            seed=spec.seed + (_DESTINATION_SEED if destination else 0),
            **spec.of_mock,
        )
        place = places[spec.place]
        if place.depth != spec.depth:
            place = Device(spec.id, _bus_at(spec.depth), place.type)  # as if it were there; what is below it stays
        if not place.id:
            place.id = spec.id  # by which both sides' devices are paired
        device = VFIODevice(
            place,
            mock,
            migration_parallel_states=spec.entry.parallel,
            migration_events=spec.entry.events,
            migration_multifd_transfer=spec.entry.multifd,
        )
        VFIOMigration(
            machine,
            device,
            threads=spec.entry.threads,
            watchdog=self.watchdog,
            launch_s=self.phases.launch_s,
            join_s=self.phases.join_s,
        )
        return mock

    @staticmethod
    def add_handler(machine: Machine, spec: HandlerSpec, places: list[Device]) -> None:
        """Add one of its ordinary handlers to a machine whose devices are at these places."""

        def main(running: bool, state: RunState) -> None:
            machine.clock.sleep(spec.start_s if running else spec.stop_s)

        def prepare(running: bool, state: RunState) -> None:
            machine.clock.sleep(spec.prepare_start_s if running else spec.prepare_stop_s)

        prepare_cb = prepare if spec.prepare_start_s or spec.prepare_stop_s else None
        if spec.place is None:
            machine.handlers.add(main, prepare_cb=prepare_cb, priority=spec.priority, name=spec.name)
        else:
            add_device_handler(machine.handlers, places[spec.place], main, prepare_cb=prepare_cb)
