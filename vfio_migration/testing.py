"""
For tests: faults of a machine's surroundings, and the invariants that hold after every migration.

Faults of devices are arranged at the device itself (`MockDevice.fail`, `.stall`, `.fail_reset`, `.fail_read`,
`.fail_write`). What is here concerns everything else.
"""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from vfio_migration.live.report import MigrationReport
from vfio_migration.migration import VFIOMigration
from vfio_migration.mock import MockDevice
from vfio_migration.state_change import NAMES
from vfio_migration.states import DeviceState
from vmstate import Clock, Event, Lock, Machine, MonitorEvent, RunState

THREAD_NAMES = (*(f"{name} *" for name in NAMES.values()), "mig/*")


def raising_handler(
    error: Exception, *, running: bool | None = None, times: int = 1
) -> Callable[[bool, RunState], None]:
    """Make a handler that raises the first `times` times: when starting, when stopping, or (None) in either case."""
    left = times

    def handler(now_running: bool, state: RunState) -> None:
        nonlocal left
        if left and running in (None, now_running):
            left -= 1
            raise error

    return handler


class ScarceThreads:
    """
    A clock around another that refuses to start some threads, as a system does that has no more of them.

    Give it to both machines. Refuses the next `times` threads whose name matches a shell pattern; None: all.
    """

    def __init__(self, clock: Clock, *, pattern: str = "vfio_vmstate_change*", times: int | None = None) -> None:
        self._clock = clock
        self._pattern = pattern
        self._lock = threading.Lock()
        self._times = times  # guarded by _lock

    def now(self) -> int:
        """As the clock."""
        return self._clock.now()

    def sleep(self, seconds: float) -> None:
        """As the clock."""
        self._clock.sleep(seconds)

    def start_thread(self, target: Callable[[], object], name: str) -> threading.Thread:
        """As the clock, or raise RuntimeError."""
        with self._lock:
            refused = self._times != 0 and fnmatchcase(name, self._pattern)
            if refused and self._times is not None:
                self._times -= 1
        if refused:
            raise RuntimeError("can't start new thread (on purpose)")
        return self._clock.start_thread(target, name)

    def join(self, thread: threading.Thread, timeout: float | None = None) -> bool:
        """As the clock."""
        return self._clock.join(thread, timeout)

    def give_way(self) -> None:
        """As the clock."""
        self._clock.give_way()

    def lock(self, name: str, *, idle: bool = False) -> Lock:
        """As the clock."""
        return self._clock.lock(name, idle=idle)

    def event(self, name: str, *, outside: bool = False) -> Event:
        """As the clock."""
        return self._clock.event(name, outside=outside)

    def taking_part(self) -> AbstractContextManager[None]:
        """As the clock."""
        return self._clock.taking_part()


class _CutSocket(socket.socket):
    """A socket that fails once so many bytes have gone through it in one direction."""

    allowed_to_send: int | None = None
    allowed_to_receive: int | None = None

    def send(self, data: "bytes | memoryview", flags: int = 0, /) -> int:  # type: ignore[override]
        if self.allowed_to_send is None:
            return super().send(data, flags)
        if self.allowed_to_send <= 0:
            raise BrokenPipeError("cut on purpose")
        sent = super().send(data[: self.allowed_to_send], flags)
        self.allowed_to_send -= sent
        return sent

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self.allowed_to_receive is None:
            return super().recv(size, flags)
        if self.allowed_to_receive <= 0:
            raise ConnectionResetError("gone on purpose")
        data = super().recv(min(size, self.allowed_to_receive), flags)
        self.allowed_to_receive -= len(data)
        return data


def stream_cut_at(size: int) -> tuple[socket.socket, socket.socket]:
    """Make `migrate(..., sockets=...)` of a connection that breaks once the source has sent `size` bytes."""
    source, destination = _cut_pair()
    source.allowed_to_send = size
    return source, destination


def destination_gone_at(size: int) -> tuple[socket.socket, socket.socket]:
    """Make `migrate(..., sockets=...)` of a destination that dies, answering nothing, when it has `size` bytes."""
    source, destination = _cut_pair()
    destination.allowed_to_receive = size
    destination.allowed_to_send = _READY_REPLY
    return source, destination


_READY_REPLY = 5  # bytes: what the destination says before the stream begins


def _cut_pair() -> tuple[_CutSocket, _CutSocket]:
    first, second = (_CutSocket(fileno=end.detach()) for end in socket.socketpair())
    return first, second


class InvariantViolationError(AssertionError):
    """Something does not hold that holds after every migration, whatever happened."""


_STATUSES = re.compile(
    r"setup( active( pre-switchover)?( device)?)?( completed| failed| cancelling cancelled)|"
    r"setup( active( pre-switchover)?( device)?)? cancelling cancelled"
)


@dataclass
class Invariants:
    """
    Watches a pair of machines from before a migration; `check` afterwards says what does not hold.

    The invariants: no thread of ours alive but those given up; no file descriptor more than before; the source back
    in the state that it had with every device RUNNING, or completed with every device STOP, or the lost devices
    named; the destination running with the source's state, or never started, or stopped again; the statuses in an
    order that QEMU allows.
    """

    source: Machine
    destination: Machine
    _statuses: list[str] = field(default_factory=list)
    _sent: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._state = self.source.run_state
        self._threads = set(threading.enumerate())
        self._descriptors = count_descriptors()
        self._subscription = self.source.monitor.subscribe(self._note)

    def _note(self, event: MonitorEvent) -> None:
        if event.name == "MIGRATION":
            self._statuses.append(str(event.data["status"]))
            if event.data["status"] == "completed":  # before the clean-up, which may have to reset a device
                self._sent = {device.id: state_hash(device) for device in devices_of(self.source)}

    def check(self, report: MigrationReport, *, given_up: int = 0) -> None:
        """
        Check everything; `given_up` threads may still be alive.

        Raises:
            InvariantViolationError: something does not hold; the message lists all of it.

        """
        self._subscription.cancel()
        wrong = [*self._of_process(given_up), *self._of_source(report), *self._of_destination(report)]
        statuses = " ".join(self._statuses)
        if _STATUSES.fullmatch(statuses) is None:
            wrong.append(f"statuses in an order that QEMU does not know: {statuses}")
        if statuses.split()[-1:] != [str(report.status)]:
            wrong.append(f"reported {report.status}, announced {statuses}")
        if wrong:
            raise InvariantViolationError("\n".join([f"after a migration that is {report.status}:", *wrong]))

    def _of_process(self, given_up: int) -> list[str]:
        alive = [thread.name for thread in our_threads() if thread not in self._threads]
        wrong = [f"threads left behind: {alive}"] if len(alive) > given_up else []
        descriptors = count_descriptors()
        if descriptors > self._descriptors:
            wrong.append(f"{descriptors - self._descriptors} file descriptor(s) left open")
        wrong += [
            f"machine {machine.name!r} is still tied to the migration"
            for machine in (self.source, self.destination)
            if machine.attempt is not None
        ]
        return wrong

    def _of_source(self, report: MigrationReport) -> list[str]:
        expected = RunState.POSTMIGRATE if report.completed else self._state
        wrong = []
        if self.source.run_state is not expected:
            wrong.append(f"the source is '{self.source.run_state}', not '{expected}'")
        device_state = DeviceState.STOP if report.completed else DeviceState.RUNNING
        for device in devices_of(self.source):
            if device.id in report.lost_devices:
                continue
            if not report.completed and not self._state.live and device.device_state is DeviceState.STOP:
                continue  # the migration ended before anything was changed
            if device.device_state is not device_state or device.vfio_device.backend.state is not device_state:
                wrong.append(f"device {device.id!r} of the source is {device.device_state.name}")
        return wrong

    def _of_destination(self, report: MigrationReport) -> list[str]:
        destination = self.destination
        if not report.completed:
            return [f"the destination is '{destination.run_state}' too"] if destination.run_state.live else []
        wrong = []
        if self._state.live and destination.autostart and not destination.run_state.live:
            wrong.append(f"the destination is '{destination.run_state}', and so nobody runs")
        if destination.run_state.live:
            for device in devices_of(destination):
                if device.device_state is not DeviceState.RUNNING:
                    wrong.append(f"device {device.id!r} of the destination is {device.device_state.name}")
                if state_hash(device) != self._sent[device.id]:
                    wrong.append(f"device {device.id!r} has another state than on the source")
        return wrong


def devices_of(machine: Machine) -> list[VFIOMigration]:
    """Give the VFIO devices that migrate with a machine."""
    return [each for each in machine.migratables if isinstance(each, VFIOMigration)]


def state_hash(device: VFIOMigration) -> str | None:
    """Give the hash of a mock device's state; None for a backend of another kind."""
    backend = device.vfio_device.backend
    return backend.state_hash if isinstance(backend, MockDevice) else None


def our_threads() -> list[threading.Thread]:
    """Give the threads that are alive and were started by this package."""
    return [
        thread for thread in threading.enumerate() if any(fnmatchcase(thread.name, pattern) for pattern in THREAD_NAMES)
    ]


def count_descriptors() -> int:
    """Count the file descriptors of this process; 0 where the system does not say."""
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


__all__ = [
    "InvariantViolationError",
    "Invariants",
    "ScarceThreads",
    "count_descriptors",
    "destination_gone_at",
    "devices_of",
    "our_threads",
    "raising_handler",
    "state_hash",
    "stream_cut_at",
]
