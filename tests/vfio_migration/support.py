"""What the tests of `vfio_migration` share: machines in virtual time, devices to break, and their traces."""

from collections.abc import Callable, Mapping
from pathlib import Path

from vfio_migration import ALL_FLAGS, DeviceState, MockDevice, VFIODevice, VFIOMigration
from vfio_migration.mock import Arc
from vfio_migration.scenario import Scenario, parse_scenario
from vfio_migration.setstate import StateSetter
from vfio_migration.states import MigrationFlags
from vfio_migration.timeline import Span, SpanKind, build_timeline
from vmstate import Bus, Device, Machine, MonitorEvent, Recorder, RunState, TraceEvent, VirtualClock, add_device_handler

S = DeviceState
ARCS = frozenset(
    {
        (S.RUNNING, S.RUNNING_P2P),
        (S.RUNNING_P2P, S.RUNNING),
        (S.RUNNING_P2P, S.STOP),
        (S.STOP, S.RUNNING_P2P),
        (S.STOP, S.STOP_COPY),
        (S.STOP_COPY, S.STOP),
        (S.STOP, S.RESUMING),
        (S.RESUMING, S.STOP),
        (S.RUNNING, S.PRE_COPY),
        (S.PRE_COPY, S.RUNNING),
        (S.PRE_COPY, S.PRE_COPY_P2P),
        (S.PRE_COPY_P2P, S.PRE_COPY),
        (S.RUNNING_P2P, S.PRE_COPY_P2P),
        (S.PRE_COPY_P2P, S.RUNNING_P2P),
        (S.PRE_COPY_P2P, S.STOP_COPY),
    }
)
BARE = MigrationFlags.STOP_COPY
P2P_ONLY = BARE | MigrationFlags.P2P
PRECOPY_ONLY = BARE | MigrationFlags.PRE_COPY
FEATURES = (BARE, P2P_ONLY, PRECOPY_ONLY, ALL_FLAGS)


class Backend(MockDevice):
    """A mock that notes its arcs and resets, whose reset can fail, and which runs `on_arc` before each arc."""

    def __init__(self, *, flags: MigrationFlags = ALL_FLAGS, latency: float | Mapping[Arc, float] = 0.0) -> None:
        super().__init__(flags=flags, latency=latency, state_size=64, precopy_size=16)
        self.asked: list[str] = []
        self.reset_error: BaseException | None = None
        self.dies = False  # a failing arc leaves it in ERROR
        self.on_arc: Callable[[], object] = lambda: None

    def set_arc(self, target: DeviceState) -> None:
        self.asked.append(target.name)
        self.on_arc()
        try:
            super().set_arc(target)
        except OSError:
            if self.dies:
                self._state = S.ERROR
            raise

    def reset(self) -> None:
        self.asked.append("reset")
        if self.reset_error is not None:
            raise self.reset_error
        super().reset()


class Attempt:
    """A migration that a machine is tied to, as far as state changes know it."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def note_error(self, error: BaseException) -> None:
        self.errors.append(error)


def state_of(device: VFIOMigration | StateSetter) -> DeviceState:
    """What QEMU believes of a device; a function, so that type checkers do not remember its last answer."""
    return device.device_state


class Rig:
    """A machine in virtual time, with all that it traced and announced."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.clock = VirtualClock()
        self.machine = Machine(clock=self.clock, trace=self.recorder)
        self.bus = Bus("main-system-bus")
        self.announced: list[MonitorEvent] = []
        self.machine.monitor.subscribe(self.announced.append)

    def bus_at(self, depth: int) -> Bus:
        """A bus whose devices have this depth."""
        bus = self.bus
        for level in range(1, depth):
            bus = Bus(f"bus{level}", Device("", bus))
        return bus

    def add(
        self,
        name: str,
        backend: MockDevice | None = None,
        *,
        depth: int = 1,
        parallel: bool = True,
        events: bool = False,
    ) -> VFIOMigration:
        device = VFIODevice(
            Device(name, self.bus_at(depth)),
            backend if backend is not None else Backend(),
            migration_parallel_states=parallel,
            migration_events=events,
        )
        return VFIOMigration(self.machine, device)

    def add_handler(self, name: str, seconds: float, *, depth: int | None) -> None:
        """An ordinary handler that takes so long in each pass; without a depth, of a plain priority."""

        def work(running: bool, state: RunState) -> None:
            self.clock.sleep(seconds)

        if depth is None:
            self.machine.handlers.add(work, prepare_cb=work, name=name)
        else:
            add_device_handler(self.machine.handlers, Device(name, self.bus_at(depth)), work, prepare_cb=work)

    def on_handler(self, *actions: Callable[[], object], depth: int = 1, prepare: bool = False) -> None:
        """Do these things in an ordinary handler of that depth, in one pass only."""

        def act(running: bool, state: RunState) -> None:
            for action in actions:
                action()

        device = Device("ordinary", self.bus_at(depth))
        add_device_handler(self.machine.handlers, device, None if prepare else act, prepare_cb=act if prepare else None)

    def traced(self, *names: str) -> list[TraceEvent]:
        return self.recorder.select(*names)

    def spans(self) -> tuple[Span, ...]:
        """What took time: arcs, and handlers that are not a VFIO device's own."""
        spans = build_timeline(self.recorder.events).spans
        devices = {each.id for each in self.machine.migratables}
        return tuple(each for each in spans if each.kind is SpanKind.ARC or each.name not in devices)

    def states_announced(self) -> list[str]:
        return [event.data["device-state"] for event in self.announced if event.name == "VFIO_MIGRATION"]


SMALL = """
[tree]
devices = [
    { bus = "main-system-bus", type = "host", buses = ["pcie.0"] },
    { bus = "pcie.0", type = "vfio-pci", id = "vf0" },
    { bus = "pcie.0", type = "vfio-pci", id = "vf1" },
]

[[vfio]]
devices = "vf*"
latency = { default = 0.010 }
"""


def small(name: str = "small") -> Scenario:
    """A scenario of two devices."""
    return parse_scenario(SMALL, Path(f"{name}.toml"))
