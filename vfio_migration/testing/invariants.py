"""What holds after every migration, whatever happened; and how to look at what it needs."""

import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from vfio_migration.changes import NAMES
from vfio_migration.device import DeviceState, MockDevice
from vfio_migration.errors import TakeoverUnknownError
from vfio_migration.live import MigrationReport, reachable
from vfio_migration.registered import VFIOMigration
from vmstate import Machine, MonitorEvent, RunState

_DESCRIPTOR_FOLDERS = (Path("/proc/self/fd"), Path("/dev/fd"))
_MOST_DESCRIPTORS = 4096
THREAD_NAMES = (*(f"{name} *" for name in NAMES.values()), "mig/*")


class InvariantViolationError(AssertionError):
    """Something does not hold that holds after every migration, whatever happened."""


_STATUSES = re.compile(
    r"(setup( active( pre-switchover)?( device)?)? )?cancelling cancelled|"
    r"setup active( pre-switchover)?( device)? failing failed|"
    r"setup active( pre-switchover)? device completed"
)
_OF_MIGRATIONS = (RunState.FINISH_MIGRATE, RunState.POSTMIGRATE, RunState.INMIGRATE)


@dataclass
class Invariants:
    """
    Watches a pair of machines from before a migration; `check` afterwards says what does not hold.

    The invariants: no thread of ours alive but those given up; no file descriptor more than before; the source back
    in the state that it had when it was stopped with every device RUNNING, or completed with every device STOP, or the
    lost devices named; the destination running with the source's state, or never started, or stopped again; the
    statuses in an order that QEMU allows. A source that cannot know whether the destination runs is stopped. With
    `takeover="qemu"` both may run, or a device be reset on the destination, as with QEMU.
    """

    source: Machine
    destination: Machine
    _statuses: list[str] = field(default_factory=list)
    _sent: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._state = self.source.run_state
        self._reset = False
        self._threads = set(threading.enumerate())
        self._descriptors = count_descriptors()
        self._subscription = self.source.monitor.subscribe(self._note)

    def _note(self, event: MonitorEvent) -> None:
        if event.name == "RESET":
            self._reset = True
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
        wrong = []
        unknown = isinstance(report.error, TakeoverUnknownError)
        expected = RunState.POSTMIGRATE if report.completed or unknown else self._expected(report)
        if self.source.run_state is RunState.PRELAUNCH and self._reset:
            expected = RunState.PRELAUNCH  # which a reset makes of every state but a few
        if self.source.run_state is not expected:
            wrong.append(f"the source is '{self.source.run_state}', not '{expected}'")
        if unknown:
            return wrong  # with its devices as they were
        device_state = DeviceState.STOP if report.completed else DeviceState.RUNNING
        for device in devices_of(self.source):
            if device.id in report.lost_devices:
                continue
            if report.noted_state is None and not self.source.run_state.live:
                continue  # the migration ended before anything was changed; its devices are where they were
            if device.device_state is not device_state:
                wrong.append(f"device {device.id!r} of the source is {device.device_state.name}")
            elif (own := device.vfio_device.backend.state) is not device_state:
                wrong.append(f"the backend of device {device.id!r} of the source says that it is {own.name}")
        return wrong

    def _expected(self, report: MigrationReport) -> RunState:
        """Give the state that a source comes back to."""
        now = self.source.run_state
        if now is RunState.SHUTDOWN:
            return now
        if report.noted_state is None:  # it was never stopped, and may have been steered by somebody
            return self._state if now in _OF_MIGRATIONS else now
        return reachable(RunState.FINISH_MIGRATE, report.noted_state)

    def _of_destination(self, report: MigrationReport) -> list[str]:
        destination = self.destination
        if report.takeover == "qemu" or isinstance(report.error, TakeoverUnknownError):
            return []
        if not report.completed:
            return [f"the destination is '{destination.run_state}' too"] if destination.run_state.live else []
        wrong = []
        if (
            report.noted_state is not None
            and report.noted_state.live
            and destination.autostart
            and not destination.run_state.live
        ):
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
    """Count the file descriptors of this process; where no folder lists them, those below a limit of 4096 at most."""
    for folder in _DESCRIPTOR_FOLDERS:
        with suppress(OSError):
            return sum(1 for _ in folder.iterdir())
    return sum(1 for descriptor in range(_limit()) if _is_open(descriptor))


def _limit() -> int:
    """How far to look: descriptors are given from the lowest, and the system's own limit may be in the millions."""
    with suppress(AttributeError, ValueError, OSError):  # where the system has no such limit, or does not say
        return min(max(0, os.sysconf("SC_OPEN_MAX")) or _MOST_DESCRIPTORS, _MOST_DESCRIPTORS)
    return _MOST_DESCRIPTORS


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
