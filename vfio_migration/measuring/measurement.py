"""Many switchovers of the same devices, in turns of the modes, and what they come to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vfio_migration.device import DeviceState, MigrationFlags
from vfio_migration.measuring.figures import Figures, figures
from vfio_migration.measuring.measured_run import MODES, SERIAL, MeasuredRun, Subject, run_once, stopped
from vfio_migration.measuring.timed_backend import DESTINATION, SOURCE, Request
from vfio_migration.wording import arc_name
from vmstate import Clock

PARTS = ("switchover_s", "source_stop_s", "transfer_s", "destination_start_s")
FIRST_READ, READS, WRITES, EACH_WRITE, CONFIG, RESET = (
    "first read",
    "all reads",
    "all writes",
    "each write",
    "config",
    "reset",
)
STATE_BYTES, PRECOPY_BYTES = "state", "pre-copy"


@dataclass(frozen=True)
class Measurement:
    """
    All runs of all modes; `itself`: each device's state went back into the same device.

    `flags` is what each device can do. `runs` is by mode, in the order in which they were made.
    """

    flags: dict[str, MigrationFlags]
    itself: bool
    runs: dict[str, tuple[MeasuredRun, ...]] = field(default_factory=dict)

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices' names."""
        return tuple(self.flags)

    @property
    def failures(self) -> tuple[str, ...]:
        """What went wrong in which run, a line each."""
        return tuple(
            f"{mode}, run {number}: {run.error}"
            for mode, runs in self.runs.items()
            for number, run in enumerate(runs, start=1)
            if run.error
        )

    def completed(self, mode: str) -> list[MeasuredRun]:
        """Give the runs of a mode that completed."""
        return [run for run in self.runs.get(mode, ()) if not run.error]

    def part(self, mode: str, part: str) -> Figures | None:
        """Give the figures of one of `PARTS` in a mode, in seconds."""
        values = (getattr(run, part) for run in self.completed(mode))
        return figures(value for value in values if value is not None)

    def samples(self, mode: str, device: str) -> dict[str, list[float]]:
        """
        Give what each thing took a device in a mode, in seconds, over all runs.

        What: arcs by their names, in the order of a switchover, then `FIRST_READ` ... `RESET`. Of an arc that both
        sides take it is the source's.
        """
        found: dict[str, list[float]] = {}
        for run in self.completed(mode):
            for what, seconds in _times([each for each in run.requests if each.device == device]).items():
                found.setdefault(what, []).extend(seconds)
        return found

    def arcs(self, mode: str, device: str) -> dict[tuple[DeviceState, DeviceState], list[float]]:
        """Give what each arc took a device in a mode, in seconds, a number for each run."""
        found: dict[tuple[DeviceState, DeviceState], list[float]] = {}
        for run in self.completed(mode):
            for arc, seconds in _arcs([each for each in run.requests if each.device == device]).items():
                found.setdefault(arc, []).append(seconds)
        return found

    def sizes(self, mode: str, device: str) -> dict[str, list[float]]:
        """Give how many bytes were read from a device, in the switchover and before, a number for each run."""
        found: dict[str, list[float]] = {STATE_BYTES: [], PRECOPY_BYTES: []}
        for run in self.completed(mode):
            reads = [each for each in run.requests if each.device == device and each.what == "read"]
            found[STATE_BYTES].append(sum(each.size for each in reads if stopped(each)))
            found[PRECOPY_BYTES].append(sum(each.size for each in reads if not stopped(each)))
        return found

    def typical(self, mode: str) -> MeasuredRun | None:
        """Give the run whose switchover is nearest to the median."""
        middle = self.part(mode, "switchover_s")
        if middle is None:
            return None
        return min(self.completed(mode), key=lambda run: abs((run.switchover_s or 0.0) - middle.median))


def measure(
    subjects: Sequence[Subject],
    *,
    runs: int = 10,
    modes: Sequence[str] = MODES,
    make_clock: Callable[[], Clock | None] = lambda: None,
    on_run: Callable[[], object] = lambda: None,
) -> Measurement:
    """
    Take the devices through `runs` switchovers in each mode; `on_run` is called after each.

    A mode that failed is not run again: a device that failed once is not asked to fail ten times.

    Raises:
        ValueError: some have a destination and others have not; or two have one name.
        KeyboardInterrupt: Ctrl-C; the devices were reset.
        VFIOMigrationError: the devices cannot be migrated together.

    """
    _check(subjects)
    found: dict[str, list[MeasuredRun]] = {mode: [] for mode in modes}
    for _ in range(runs):
        for mode in modes:  # in turns, so that whatever else the system does meets all of them
            if not any(run.error for run in found[mode]):
                found[mode].append(run_once(subjects, mode, make_clock()))
            on_run()
    flags = {each.name: each.source.flags for each in subjects}
    itself = any(each.destination is None for each in subjects)
    return Measurement(flags, itself, {mode: tuple(each) for mode, each in found.items()})


def slowed(measurement: Measurement, mode: str) -> dict[str, float]:
    """
    Give how many times as long each device's arcs of a switchover took in a mode as serially; 1.0 is no longer.

    That is whether the devices wait for each other below the mechanism: in firmware, in a driver, for a processor.
    """
    found: dict[str, float] = {}
    for device in measurement.devices:
        alone, beside = measurement.arcs(SERIAL, device), measurement.arcs(mode, device)
        both = [arc for arc in alone if arc in beside]
        before = sum(middle.median for arc in both if (middle := figures(alone[arc])) is not None)
        after = sum(middle.median for arc in both if (middle := figures(beside[arc])) is not None)
        if before > 0:
            found[device] = after / before
    return found


def _check(subjects: Sequence[Subject]) -> None:
    if not subjects:
        raise ValueError("there is no device to measure")
    if len({each.destination is None for each in subjects}) > 1:
        raise ValueError("all devices need one to be sent to, or none: a switchover is of all of them")
    names = [each.name for each in subjects]
    if len(set(names)) < len(names):
        raise ValueError(f"two devices have one name: {', '.join(names)}")
    backends = [each for subject in subjects for each in (subject.source, subject.destination) if each is not None]
    if len({id(each) for each in backends}) < len(backends):
        raise ValueError("a device is named twice")


def _times(requests: Sequence[Request]) -> dict[str, list[float]]:
    """Give what was asked of a device in one run, by what it was."""
    found = {arc_name(*arc): [seconds] for arc, seconds in _arcs(requests).items()}
    reads = [each.seconds for each in requests if each.what == "read" and stopped(each)]
    writes = [each.seconds for each in requests if each.what == "write"]
    if reads:
        found |= {FIRST_READ: reads[:1], READS: [sum(reads)]}
    if writes:
        found |= {WRITES: [sum(writes)], EACH_WRITE: writes}
    for what in (CONFIG, RESET):
        seconds = [each.seconds for each in requests if each.what == what]
        if seconds:
            found[what] = seconds
    return found


def _arcs(requests: Sequence[Request]) -> dict[tuple[DeviceState, DeviceState], float]:
    """Give what each arc took in one run; of one that is taken twice, the first, and the source's."""
    found: dict[tuple[DeviceState, DeviceState], float] = {}
    for side in (SOURCE, DESTINATION):
        for each in requests:
            if each.what == "arc" and each.arc is not None and each.side == side:
                found.setdefault(each.arc, each.seconds)
    return found
