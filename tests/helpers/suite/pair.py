"""A pair of machines with the same devices, in virtual time, for migrating one into the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from suite.machines import register
from vfio_migration import (
    ALL_FLAGS,
    DeviceState,
    MigrationFlags,
    MigrationReport,
    MockDevice,
    VFIOMigration,
    Watchdog,
    migrate,
)
from vfio_migration.changes.launchers import DEFAULT_THREADS
from vmstate import Bus, Clock, Device, Machine, MonitorEvent, Recorder, RunState, VirtualClock

NO_PRECOPY = MigrationFlags.STOP_COPY | MigrationFlags.P2P
NO_P2P = MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY
BARE = MigrationFlags.STOP_COPY


@dataclass
class Side:
    """One machine, its devices by id, and what its monitor announced."""

    machine: Machine
    mocks: dict[str, MockDevice] = field(default_factory=dict)
    migrations: dict[str, VFIOMigration] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    announced: list[MonitorEvent] = field(default_factory=list)

    def events(self) -> list[str]:
        """Name what was announced, a migration's status in place of MIGRATION."""
        return [
            str(event.data["status"]) if event.name == "MIGRATION" else event.name
            for event in self.announced
            if event.name != "VFIO_MIGRATION"
        ]

    def states(self) -> dict[str, DeviceState]:
        return {name: each.device_state for name, each in self.migrations.items()}

    def hashes(self) -> dict[str, str]:
        return {name: mock.state_hash for name, mock in self.mocks.items()}


@dataclass
class Pair:
    """Source and destination, sharing a clock and a recorder."""

    source: Side
    destination: Side
    recorder: Recorder
    clock: Clock

    def migrate(self, *, back: bool = False, **options: object) -> MigrationReport:
        there, here = (self.source, self.destination) if not back else (self.destination, self.source)
        return migrate(there.machine, here.machine, **options)  # type: ignore[arg-type]

    def trace(self, side: Side, *names: str) -> list[str]:
        """Give what was traced of one side, as name and decisive field."""
        return [
            " ".join([event.name, *map(str, event.fields.values())])
            for event in self.recorder.select(*names, machine=side.machine.name)
        ]


def make_pair(
    ids: Sequence[str] = ("vf0", "vf1"),
    *,
    flags: MigrationFlags | Mapping[str, MigrationFlags] = ALL_FLAGS,
    threads: str | Mapping[str, str] = DEFAULT_THREADS,
    latency: float = 0.01,
    depths: Mapping[str, int] | None = None,
    state_size: int = 5000,
    rate: float | None = 1e6,
    events: bool = False,
    clock: Clock | None = None,
    run_state: RunState = RunState.PRELAUNCH,
    start: bool = True,
    watchdog: Watchdog | None = None,
) -> Pair:
    """Build it; devices sit at depth 2 unless `depths` says otherwise; `threads` as in `register`."""
    clock = clock or VirtualClock()
    recorder = Recorder()

    def side(name: str, seed: int, state: RunState) -> Side:
        result = Side(Machine(name, clock=clock, trace=recorder, run_state=state))
        result.machine.monitor.subscribe(result.announced.append)
        for place, device_id in enumerate(ids):
            device = Device(device_id, bus_at((depths or {}).get(device_id, 2)))
            mock = MockDevice(
                flags=flags if isinstance(flags, MigrationFlags) else flags[device_id],
                latency=latency,
                state_size=state_size,
                rate=rate,
                seed=seed + place,
                precopy_size=2000,
                precopy_dirty=(1000, 300),
            )
            result.devices[device_id] = device
            result.mocks[device_id] = mock
            result.migrations[device_id] = register(
                result.machine,
                device,
                mock,
                threads=threads if isinstance(threads, str) else threads[device_id],
                events=events,
                watchdog=watchdog,
            )
        return result

    pair = Pair(side("src", 0, run_state), side("dst", 1000, RunState.PRELAUNCH), recorder, clock)
    if start:
        pair.source.machine.start()
    return pair


def bus_at(depth: int) -> Bus:
    """Make a bus on which a device has this depth."""
    bus = Bus("main-system-bus")
    for level in range(1, depth):
        bus = Bus(f"bus{level}", Device(f"bridge{level}", bus))
    return bus
