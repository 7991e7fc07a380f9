"""One switchover of devices that are measured: by the mechanism itself, to others or each back into itself."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vfio_migration.device import DeviceBackend, VFIODevice
from vfio_migration.errors import described
from vfio_migration.live import Incoming, MigrationParameters, MigrationReport, Outgoing, migrate
from vfio_migration.measuring.timed_backend import DESTINATION, SOURCE, Request, Requests, TimedBackend
from vfio_migration.recorded import Timeline, build_timeline
from vfio_migration.registered import VFIOMigration
from vmstate import Bus, Clock, Device, Machine, Recorder, RunState

SERIAL = "serial"
PER_CHANGE = "per-change"
PARKED = "parked"
MODES = (SERIAL, PER_CHANGE, PARKED)


@dataclass(frozen=True)
class Subject:
    """A device to be measured, and the one that its state goes to; None: itself."""

    name: str
    source: DeviceBackend
    destination: DeviceBackend | None = None


@dataclass(frozen=True)
class MeasuredRun:
    """
    One switchover; times in seconds, None where not reached.

    With the state going back into the same device, these are two halves that do not touch: `transfer_s` is then the
    longer of reading and loading, as these overlap in a migration.
    """

    mode: str
    source_stop_s: float | None
    transfer_s: float | None
    destination_start_s: float | None
    requests: tuple[Request, ...]
    timeline: Timeline
    error: str = ""

    @property
    def switchover_s(self) -> float | None:
        """The sum of the three parts; None if one was not reached."""
        if self.source_stop_s is None or self.transfer_s is None or self.destination_start_s is None:
            return None
        return self.source_stop_s + self.transfer_s + self.destination_start_s


def run_once(subjects: Sequence[Subject], mode: str, clock: Clock | None = None) -> MeasuredRun:
    """
    Take the devices through one switchover; all are reset in the end. Without a clock, in real time.

    Raises:
        KeyboardInterrupt: Ctrl-C; the migration was cancelled if it could be.
        VFIOMigrationError: the devices cannot be migrated together.

    """
    requests, recorder = Requests(), Recorder()
    names = [each.name for each in subjects]
    sources = [TimedBackend(each.source, each.name, SOURCE, requests) for each in subjects]
    destinations = [
        TimedBackend(each.destination or each.source, each.name, DESTINATION, requests) for each in subjects
    ]
    machine = Machine(SOURCE, clock=clock, trace=recorder)
    after = Machine(DESTINATION, clock=machine.clock, trace=recorder)
    if any(each.destination is None for each in subjects):
        with _memory_file() as uri:
            sent = _sent_to(uri, machine, names, sources, mode, requests)
            if sent.error is None:
                return _loaded_from(uri, after, names, destinations, mode, sent, requests, recorder)
        return _failed(mode, requests, recorder, sent.error)
    with ExitStack() as registered:
        _register(registered, machine, names, sources, mode)
        _register(registered, after, names, destinations, mode)
        machine.start()
        requests.take()
        report = migrate(machine, after)
        if report.interrupted:
            raise KeyboardInterrupt
        if report.completed:
            _reset(*sources, *destinations)
    if not report.completed:
        return _failed(mode, requests, recorder, report.error)
    return MeasuredRun(mode, *_parts(report), requests.take(), build_timeline(recorder.events))


@dataclass(frozen=True)
class _Sent:
    source_stop_s: float | None
    error: BaseException | None


def _parts(report: MigrationReport) -> tuple[float | None, float | None, float | None]:
    return report.source_stop_s, report.transfer_s, report.destination_start_s


def _register(
    registered: ExitStack, machine: Machine, names: Sequence[str], backends: Sequence[TimedBackend], mode: str
) -> None:
    bus = Bus("main-system-bus")
    for name, backend in zip(names, backends, strict=True):
        device = VFIODevice(Device(name, bus, "vfio-pci"), backend, migration_parallel_states=mode != SERIAL)
        threads = PARKED if mode == PARKED else PER_CHANGE
        registered.enter_context(VFIOMigration(machine, device, threads=threads))


def _sent_to(
    uri: str, machine: Machine, names: Sequence[str], backends: Sequence[TimedBackend], mode: str, requests: Requests
) -> _Sent:
    with ExitStack() as registered:
        _register(registered, machine, names, backends, mode)
        machine.start()
        requests.take()
        outgoing = Outgoing(machine, uri, takeover="qemu", parameters=MigrationParameters())
        outgoing.start()
        try:
            report = outgoing.wait()
        except KeyboardInterrupt:
            outgoing.cancel()
            outgoing.wait()
            raise
    error = report.error
    if error is None and not report.completed:
        error = RuntimeError(f"the state was not sent: {report.status}")
    return _Sent(report.source_stop_s, error)


def _reset(*backends: TimedBackend) -> None:
    """Have each device reset, where it is seen what that takes; giving it back does so unseen."""
    for each in backends:
        each.reset()


def _loaded_from(
    uri: str,
    machine: Machine,
    names: Sequence[str],
    backends: Sequence[TimedBackend],
    mode: str,
    sent: _Sent,
    requests: Requests,
    recorder: Recorder,
) -> MeasuredRun:
    with ExitStack() as registered:
        _register(registered, machine, names, backends, mode)
        incoming = Incoming(machine, uri, takeover="qemu")
        incoming.start()
        try:
            report = incoming.wait()
        except KeyboardInterrupt:
            incoming.cancel()
            incoming.wait()
            raise
        if report.completed:
            _reset(*backends)
    if not report.completed or machine.run_state is not RunState.RUNNING:
        return _failed(mode, requests, recorder, report.error)
    done = requests.take()
    reading = sum(each.seconds for each in done if each.what == "read" and stopped(each))
    loading = sum(each.seconds for each in done if each.what == "write")
    timeline = build_timeline(recorder.events)
    return MeasuredRun(mode, sent.source_stop_s, max(reading, loading), report.start_s, done, timeline)


def stopped(request: Request) -> bool:
    """Whether a read was one of the switchover, and not of pre-copy."""
    return request.arc is not None and request.arc[0].name == "STOP_COPY"


def _failed(mode: str, requests: Requests, recorder: Recorder, error: BaseException | None) -> MeasuredRun:
    said = "it did not complete" if error is None else described(error)
    return MeasuredRun(mode, None, None, None, requests.take(), build_timeline(recorder.events), said)


@contextmanager
def _memory_file() -> Iterator[str]:
    """Give the address of a file in memory: a state is the guest's, and a disk would be measured with it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("device-states")
        try:
            yield f"file:/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield f"file:{Path(folder) / 'states'}"
