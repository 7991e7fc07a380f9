"""Machines to test with: mock devices at any depth, ordinary handlers, a recorder, all taken away at the end."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from vfio_migration.changes import DEFAULT_THREADS, Watchdog
from vfio_migration.device import DeviceBackend, DeviceState, MockDevice, VFIODevice
from vfio_migration.errors import DeviceBusyError
from vfio_migration.live import MigrationReport, migrate
from vfio_migration.recorded import Timeline, build_timeline
from vfio_migration.registered import VFIOMigration
from vfio_migration.testing.invariants import Invariants
from vfio_migration.wording import parse_arc
from vmstate import (
    Bus,
    Clock,
    Device,
    HandlerEntry,
    Machine,
    MonitorEvent,
    Recorder,
    RunState,
    VirtualClock,
    add_device_handler,
)

Fault = str
"""An arc that fails once: `"PRE_COPY -> PRE_COPY_P2P"`."""


class MachineRig:
    """
    A machine that is traced and listened to, and what is attached to it; a context manager that closes it.

    `mocks` and `devices` are by id, `announced` is what its monitor announced. It runs unless told otherwise.
    """

    def __init__(
        self,
        name: str = "vm",
        *,
        clock: Clock | None = None,
        recorder: Recorder | None = None,
        run_state: RunState = RunState.RUNNING,
    ) -> None:
        self.clock: Clock = VirtualClock() if clock is None else clock
        self.recorder = Recorder() if recorder is None else recorder
        self.machine = Machine(name, clock=self.clock, run_state=run_state, trace=self.recorder)
        self.mocks: dict[str, MockDevice] = {}
        self.devices: dict[str, VFIOMigration] = {}
        self.announced: list[MonitorEvent] = []
        self.machine.monitor.subscribe(self.announced.append)
        self._buses: list[Bus] = []

    @property
    def timeline(self) -> Timeline:
        """What was recorded so far."""
        return build_timeline(self.recorder.events)

    @property
    def device_states(self) -> dict[str, DeviceState]:
        """The states of all devices, by id."""
        return {id_: device.device_state for id_, device in self.devices.items()}

    def bus(self, depth: int) -> Bus:
        """Give the bus on which devices have this depth (1 or more)."""
        if depth < 1:
            raise ValueError(f"a device on a bus has a depth of 1 or more; got {depth}")
        while len(self._buses) < depth:
            parent = Device(f"bridge{len(self._buses)}", self._buses[-1]) if self._buses else None
            self._buses.append(Bus(f"bus{len(self._buses)}", parent))
        return self._buses[depth - 1]

    def add_device(
        self,
        id: str = "vf0",  # noqa: A002 - QEMU's word
        *,
        depth: int = 1,
        latency: float | Mapping[str, float] | Mapping[tuple[DeviceState, DeviceState], float] = 0.0,
        fail: Fault | Sequence[Fault] = (),
        stall: Fault | Sequence[Fault] = (),
        parallel: bool = True,
        events: bool = False,
        threads: str = DEFAULT_THREADS,
        watchdog: Watchdog | None = None,
        backend: Callable[[], DeviceBackend] | None = None,
        **mock: Any,
    ) -> VFIOMigration:
        """
        Attach a VFIO device whose arcs take `latency` (seconds); arcs in `fail` fail once, in `stall` stall once.

        A latency for each arc is written `{"PRE_COPY_P2P -> STOP_COPY": 0.08}`. What else is given goes to
        `MockDevice`; the device itself is `mocks[id]`, where any fault can be arranged. With `backend`, which makes
        one, a device of your own is attached instead; it has none of these options.
        """
        if backend is None:
            made = self.mocks[id] = MockDevice(latency=_latency(latency), **mock)
            for arc in _arcs(fail):
                made.fail(*arc)
            for arc in _arcs(stall):
                made.stall(*arc)
            driven: DeviceBackend = made
        elif latency or fail or stall or mock:
            raise TypeError(f"device {id!r} has a backend of its own: latency, faults and sizes are those of a mock")
        else:
            driven = backend()
        device = VFIODevice(
            Device(id, self.bus(depth)), driven, migration_parallel_states=parallel, migration_events=events
        )
        self.devices[id] = VFIOMigration(self.machine, device, threads=threads, watchdog=watchdog)
        return self.devices[id]

    def add_handler(
        self,
        name: str,
        callback: Callable[[bool, RunState], object] | None = None,
        *,
        seconds: float = 0.0,
        depth: int | None = None,
        priority: int = 0,
        prepare: bool = False,
    ) -> HandlerEntry:
        """
        Add an ordinary handler that takes so many seconds and then calls `callback`, if there is one.

        It lies at `depth` of the device tree or, without, has a plain `priority`. `prepare`: it has a prepare
        callback as well, which does the same.
        """

        def work(running: bool, state: RunState) -> None:
            if seconds:
                self.clock.sleep(seconds)
            if callback is not None:
                callback(running, state)

        prepare_cb = work if prepare else None
        if depth is None:
            return self.machine.handlers.add(work, prepare_cb=prepare_cb, priority=priority, name=name)
        return add_device_handler(self.machine.handlers, Device(name, self.bus(depth)), work, prepare_cb=prepare_cb)

    def close(self) -> None:
        """Let stalled devices go and take all devices away."""
        for mock in self.mocks.values():
            mock.heal()
            mock.release()
        with suppress(Exception):  # a clock that gave up has nobody left to wait for
            self.clock.sleep(0.0)  # threads that were given up end
        for device in self.devices.values():
            with suppress(DeviceBusyError):  # a test failed in the middle of something
                device.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PairRig:
    """A source that runs and a destination with the same devices, one clock and one recorder; a context manager."""

    def __init__(self, *, clock: Clock | None = None, recorder: Recorder | None = None) -> None:
        self.clock: Clock = VirtualClock() if clock is None else clock
        self.recorder = Recorder() if recorder is None else recorder
        self.source = MachineRig("source", clock=self.clock, recorder=self.recorder)
        self.destination = MachineRig(
            "destination", clock=self.clock, recorder=self.recorder, run_state=RunState.PRELAUNCH
        )

    @property
    def timeline(self) -> Timeline:
        """What was recorded so far, of both."""
        return build_timeline(self.recorder.events)

    def add_device(self, id: str = "vf0", **options: Any) -> None:  # noqa: A002 - QEMU's word
        """
        Attach the same device to both machines, as `MachineRig.add_device`; faults go to the side that has the arc.

        Their states differ at first, so that a test sees whether they are the same afterwards.
        """
        if "backend" in options:
            for rig in (self.source, self.destination):
                rig.add_device(id, **options)
            return
        seed = options.pop("seed", 1)
        fail, stall = _arcs(options.pop("fail", ())), _arcs(options.pop("stall", ()))
        for number, rig in enumerate((self.source, self.destination)):
            rig.add_device(id, seed=seed + number, **options)
            for arc in fail:
                if _is_of_destination(arc) == (rig is self.destination):
                    rig.mocks[id].fail(*arc)
            for arc in stall:
                if _is_of_destination(arc) == (rig is self.destination):
                    rig.mocks[id].stall(*arc)

    def add_handler(self, name: str, **options: Any) -> None:
        """Add the same handler to both machines, as `MachineRig.add_handler`."""
        for rig in (self.source, self.destination):
            rig.add_handler(name, **options)

    def migrate(self, *, check: bool = True, **options: Any) -> MigrationReport:
        """
        Migrate the source into the destination, as `vfio_migration.migrate`; see that the invariants hold then.

        Raises:
            InvariantViolationError: they do not; `check=False` leaves that out.

        """
        invariants = Invariants(self.source.machine, self.destination.machine)
        report = migrate(self.source.machine, self.destination.machine, **options)
        if check:
            given_up = len(report.lost_devices) + len(report.destination_lost_devices)
            invariants.check(report, given_up=given_up)
        return report

    def close(self) -> None:
        """Take all devices of both away."""
        self.source.close()
        self.destination.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_Arc = tuple[DeviceState, DeviceState]
_OF_DESTINATION = (
    (DeviceState.STOP, DeviceState.RESUMING),
    (DeviceState.RESUMING, DeviceState.STOP),
    (DeviceState.STOP, DeviceState.RUNNING_P2P),
    (DeviceState.RUNNING_P2P, DeviceState.RUNNING),
)


def _is_of_destination(arc: _Arc) -> bool:
    """Whether the destination walks this arc when it takes a migration over, and the source of it does not."""
    return arc in _OF_DESTINATION


def _arcs(faults: Fault | Sequence[Fault]) -> list[_Arc]:
    return [parse_arc(text, DeviceState) for text in ([faults] if isinstance(faults, str) else faults)]


def _latency(latency: float | Mapping[str, float] | Mapping[_Arc, float]) -> float | dict[_Arc, float]:
    if not isinstance(latency, Mapping):
        return latency
    return {parse_arc(arc, DeviceState) if isinstance(arc, str) else arc: seconds for arc, seconds in latency.items()}
