"""What the tests of `vfio_migration` share: machines in virtual time, devices to break, and their traces."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from vfio_migration import ALL_FLAGS, DeviceState, MockDevice, VFIODevice, VFIOMigration, Watchdog
from vfio_migration.changes.launchers import DEFAULT_THREADS
from vfio_migration.changes.set_or_recover import StateSetter
from vfio_migration.device.mock import Arc
from vfio_migration.device.state_machine import MigrationFlags
from vfio_migration.recorded.timeline import Span, SpanKind, build_timeline
from vfio_migration.scenarios.file import parse_scenario
from vfio_migration.scenarios.model import Scenario
from vmstate import (
    Bus,
    Clock,
    Device,
    Machine,
    MonitorEvent,
    Recorder,
    RunState,
    TraceEvent,
    VirtualClock,
    add_device_handler,
)

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
SERIAL = "serial"  # where tests say how a device's threads come about: it has none, parallel changes are off
LIMIT = 30.0  # seconds of real time after which a test has failed

after_the_test = ExitStack()  # closed by a fixture when a test is over


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


def register(
    machine: Machine,
    device: Device,
    backend: MockDevice,
    *,
    threads: str = DEFAULT_THREADS,
    events: bool = False,
    watchdog: Watchdog | None = None,
) -> VFIOMigration:
    """Register a device until the test is over; `threads`: a launcher's name, or SERIAL."""
    parallel = threads != SERIAL
    vfio_device = VFIODevice(device, backend, migration_parallel_states=parallel, migration_events=events)
    migration = VFIOMigration(machine, vfio_device, threads=threads if parallel else DEFAULT_THREADS, watchdog=watchdog)
    after_the_test.callback(migration.close)
    after_the_test.callback(backend.release)  # first: what stalls, and was given up, comes back
    return migration


def state_of(device: VFIOMigration | StateSetter) -> DeviceState:
    """What QEMU believes of a device; a function, so that type checkers do not remember its last answer."""
    return device.device_state


def launched() -> list[str]:
    """Names of the state-change threads that are at work."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("vfio_vmstate_change")]


@contextmanager
def without_threads(monkeypatch: pytest.MonkeyPatch, pattern: str = "*") -> Iterator[None]:
    """Have the system refuse every thread whose name matches."""
    real_start = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if fnmatchcase(thread.name, pattern):
            raise RuntimeError("can't start new thread")
        real_start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield


class Rig:
    """A machine, usually in virtual time, with all that it traced and announced; `threads` as in `register`."""

    def __init__(self, threads: str = DEFAULT_THREADS, clock: Clock | None = None) -> None:
        self.threads = threads
        self.recorder = Recorder()
        self.clock = clock or VirtualClock()
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
        threads: str | None = None,
        events: bool = False,
        watchdog: Watchdog | None = None,
    ) -> VFIOMigration:
        """Register a device whose threads come about as those of the others, unless told otherwise."""
        return register(
            self.machine,
            Device(name, self.bus_at(depth)),
            backend if backend is not None else Backend(),
            threads=threads or self.threads,
            events=events,
            watchdog=watchdog,
        )

    def begin_attempt(self) -> Attempt:
        """Tie the machine to a migration, until that or the test ends."""
        attempt = Attempt()
        self.machine.begin_attempt(attempt)
        after_the_test.callback(self.machine.end_attempt)
        return attempt

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
