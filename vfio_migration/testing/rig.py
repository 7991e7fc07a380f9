"""Machines to test with: mock devices at any depth, ordinary handlers, a recorder, all taken away at the end."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

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
    `parallel` and `threads` are those of all devices that are not told otherwise.
    """

    def __init__(
        self,
        name: str = "vm",
        *,
        clock: Clock | None = None,
        recorder: Recorder | None = None,
        run_state: RunState = RunState.RUNNING,
        parallel: bool = True,
        threads: str = DEFAULT_THREADS,
    ) -> None:
        self.clock: Clock = VirtualClock() if clock is None else clock
        self.recorder = Recorder() if recorder is None else recorder
        self.machine = Machine(name, clock=self.clock, run_state=run_state, trace=self.recorder)
        self.mocks: dict[str, MockDevice] = {}
        self.devices: dict[str, VFIOMigration] = {}
        self.announced: list[MonitorEvent] = []
        self.machine.monitor.subscribe(self.announced.append)
        self._parallel = parallel
        self._threads = threads
        self._buses: list[Bus] = []

    @property
    def timeline(self) -> Timeline:
        """What was recorded so far."""
        return build_timeline(self.recorder.events)

    @property
    def device_states(self) -> dict[str, DeviceState]:
        """The states of all devices, by id."""
        return {id_: device.device_state for id_, device in self.devices.items()}

    @property
    def state_hashes(self) -> dict[str, str]:
        """The hashes of the mocks' states, by id: equal on both sides after a migration."""
        return {id_: mock.state_hash for id_, mock in self.mocks.items()}

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
        parallel: bool | None = None,
        events: bool = False,
        threads: str | None = None,
        watchdog: Watchdog | None = None,
        multifd: bool | Literal["auto"] = "auto",
        backend: DeviceBackend | Callable[[], DeviceBackend] | None = None,
        **mock: Any,
    ) -> VFIOMigration:
        """
        Attach a VFIO device whose arcs take `latency` (seconds); arcs in `fail` fail once, in `stall` stall once.

        A latency for each arc is written `{"PRE_COPY_P2P -> STOP_COPY": 0.08}`. What else is given goes to
        `MockDevice`; the device itself is `mocks[id]`, where any fault can be arranged. With `backend`, or what makes
        one, a device of your own is attached instead; it has none of these options.
        """
        if backend is None:
            driven: DeviceBackend = _faulty(MockDevice(latency=_latency(latency), **mock), fail, stall)
        elif latency or fail or stall or mock:
            raise TypeError(f"device {id!r} has a backend of its own: latency, faults and sizes are those of a mock")
        else:
            driven = backend() if callable(backend) else backend
        device = VFIODevice(
            Device(id, self.bus(depth)),
            driven,
            migration_parallel_states=self._parallel if parallel is None else parallel,
            migration_events=events,
            migration_multifd_transfer=multifd,
        )
        migration = VFIOMigration(self.machine, device, threads=threads or self._threads, watchdog=watchdog)
        self.devices[id] = migration
        if isinstance(driven, MockDevice):
            self.mocks[id] = driven
        return migration

    def remove_device(self, id: str) -> None:  # noqa: A002
        """
        Take a device away, also one that is lost or stalls: what it does later counts for nothing.

        Raises:
            DeviceBusyError: it changes its state, or its machine migrates.

        """
        self.devices[id].close()
        del self.devices[id]
        if mock := self.mocks.pop(id, None):
            mock.release()

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

    @property
    def unmet_faults(self) -> tuple[str, ...]:
        """Faults that were arranged and never came to be, each with its device and machine: tests that test nothing."""
        return tuple(
            f"{fault} of device {id_!r}, {self.machine.name}"
            for id_, mock in self.mocks.items()
            for fault in mock.unmet_faults
        )

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

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        recorder: Recorder | None = None,
        run_state: RunState = RunState.RUNNING,
        parallel: bool = True,
        threads: str = DEFAULT_THREADS,
    ) -> None:
        self.clock: Clock = VirtualClock() if clock is None else clock
        self.recorder = Recorder() if recorder is None else recorder
        self.source, self.destination = (
            MachineRig(
                name, clock=self.clock, recorder=self.recorder, run_state=state, parallel=parallel, threads=threads
            )
            for name, state in (("source", run_state), ("destination", RunState.PRELAUNCH))
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
        seed = options.pop("seed", 1 + 2 * len(self.source.devices))
        faults = {kind: _texts(options.pop(kind, ())) for kind in ("fail", "stall")}
        for number, rig in enumerate((self.source, self.destination)):
            own: dict[str, Any] = {
                kind: [arc for arc in arcs if _is_of_destination(arc) == (rig is self.destination)]
                for kind, arcs in faults.items()
            }
            rig.add_device(id, seed=seed + number, **own, **options)

    def remove_device(self, id: str) -> None:  # noqa: A002
        """Take a device away from both machines, as `MachineRig.remove_device`."""
        for rig in (self.source, self.destination):
            rig.remove_device(id)

    def add_handler(self, name: str, **options: Any) -> None:
        """Add the same handler to both machines, as `MachineRig.add_handler`."""
        for rig in (self.source, self.destination):
            rig.add_handler(name, **options)

    def migrate(self, *, check: bool = True, back: bool = False, **options: Any) -> MigrationReport:
        """
        Migrate the source into the destination, as `vfio_migration.migrate`; see that the invariants hold then.

        `back`: migrate the destination into the source, once it has the machine.

        Raises:
            InvariantViolationError: they do not; `check=False` leaves that out.
            KeyboardInterrupt: Ctrl-C, which has cancelled the migration: it is not for the test to tell from its own.

        """
        machines = self.source.machine, self.destination.machine
        source, destination = machines[::-1] if back else machines
        invariants = Invariants(source, destination)
        report = migrate(source, destination, **options)
        if check:
            given_up = len(report.lost_devices) + len(report.destination_lost_devices)
            invariants.check(report, given_up=given_up)
        if report.interrupted:
            raise KeyboardInterrupt
        return report

    @property
    def unmet_faults(self) -> tuple[str, ...]:
        """Faults of either side that were arranged and never came to be."""
        return (*self.source.unmet_faults, *self.destination.unmet_faults)

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


def _is_of_destination(fault: Fault) -> bool:
    """Whether the destination walks this arc when it takes a migration over, and the source of it does not."""
    return _arc(fault) in _OF_DESTINATION


def _faulty(mock: MockDevice, fail: Fault | Sequence[Fault], stall: Fault | Sequence[Fault]) -> MockDevice:
    for arc in _texts(fail):
        mock.fail(*_arc(arc))
    for arc in _texts(stall):
        mock.stall(*_arc(arc))
    return mock


def _texts(faults: Fault | Sequence[Fault]) -> Sequence[Fault]:
    return [faults] if isinstance(faults, str) else faults


def _arc(text: Fault) -> _Arc:
    return parse_arc(text, DeviceState)


def _latency(latency: float | Mapping[str, float] | Mapping[_Arc, float]) -> float | dict[_Arc, float]:
    if not isinstance(latency, Mapping):
        return latency
    return {parse_arc(arc, DeviceState) if isinstance(arc, str) else arc: seconds for arc, seconds in latency.items()}
