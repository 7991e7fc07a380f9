"""One piece of a device's work in a thread: launched in one place, joined in another, watched meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from vfio_migration.changes.launchers import Launch, Launcher
from vfio_migration.changes.watchdog import Watchdog
from vmstate import BigLock, get_logger


class Progress(NamedTuple):
    """How many steps a job has made so far, and whether it waits for its device now, and for nothing else."""

    steps: int = 0
    at_device: bool = True


@dataclass(frozen=True)
class Job:
    """
    `what` is to be done in a thread of this name.

    `lose` is told why it was given up, and gives up the device with it; `doing` says in words what it is at. `barred`:
    whoever joins it holds the big lock, so that it must not wait for that. `progress`: a job of many steps is given up
    only if one of them takes too long, and only if that is its device's; a change of state is one step.
    """

    what: str
    name: str
    work: Callable[..., None]
    arguments: tuple[object, ...]
    lose: Callable[[str], object]
    doing: Callable[[], str]
    barred: bool = True
    progress: Callable[[], Progress] = Progress


class DeviceThread:
    """
    Does one job of a device at a time; for its changes of state, and for saving and loading it.

    Guarantees:
    - At most one job of a device runs; launching another, or joining when none runs, is a bug in the
      mechanism: an AssertionError.
    - Work is never lost: where no thread can be started it is done on the spot.
    - What the work raises is raised where it is joined.
    - A first Ctrl-C waits until the thread is joined (`vmstate.interrupts`); a second one leaves it behind.
    - A job that the watchdog gives up counts as joined; the device is lost. What waits for a link, or for the other
      side, is never given up here.

    Launched and joined by one thread at a time: the holder of the big lock, or whoever loads the machine.

    Rejected: a pool of threads for all devices, as `concurrent.futures` has. A stalled device would take one of its
    threads for good, and which thread does what could not be seen by its name, as it can in QEMU. And to join in
    `__exit__` of whoever launched: for a change of state the two places are two handlers that the walk calls, with
    others between them.
    """

    def __init__(self, device: str, launcher: Launcher, big_lock: BigLock, watchdog: Watchdog | None = None) -> None:
        self._device = device
        self._launcher = launcher
        self._big_lock = big_lock
        self._watchdog = watchdog or Watchdog()
        self._launch: Launch | None = None
        self._job: Job | None = None

    @property
    def launched(self) -> bool:
        """Whether a launch waits to be joined."""
        return self._launch is not None

    def check_free(self, name: str) -> None:
        """Raise an AssertionError if a job runs, as one of this name is to be launched."""
        if self._launch is not None:
            raise AssertionError(f"{name!r} launched while {self._launch.name!r} runs")

    def launch(self, job: Job) -> None:
        """Have a thread do a job."""
        self.check_free(job.name)
        launch = Launch(job.name, self._big_lock if job.barred else None, job.work, job.arguments)
        self._launch, self._job = launch, job
        try:
            self._launcher.start(launch)
        except (RuntimeError, MemoryError) as error:
            self._do_on_the_spot(launch, job, error)
        except BaseException as error:
            # What no system says of a thread that it refuses is for whoever runs this, but the work is done first.
            # Without the next line but one the device would have a launch that nobody joins, for ever.
            self._do_on_the_spot(launch, job, error)
            self._see_to(launch, job)
            if isinstance(error, Exception):
                self._launch = None  # what Ctrl-C has cut short is closed all the same
            if launch.error is not None:
                error.add_note(f"the work that was to be launched failed too: {launch.error!r}")
            raise

    def check_launched(self, name: str) -> None:
        """Raise an AssertionError unless it is the job of this name that can be joined."""
        if self._launch is None:
            raise AssertionError(f"{name!r} joined, but no thread of device {self._device!r} was launched")
        if self._launch.name != name:
            raise AssertionError(f"{name!r} joined while {self._launch.name!r} runs")

    def join(self, name: str) -> None:
        """Wait for the job of this name, and raise what it raised."""
        self.check_launched(name)
        launch, job = self._launch, self._job
        assert launch is not None and job is not None  # noqa: S101, PT018 - checked
        try:
            in_time = self._join(job)
        except KeyboardInterrupt:
            self._give_up(job, "was left by a second Ctrl-C")
            raise
        except BaseException as error:
            self._give_up(job, f"could not be waited for: {error}")
            raise
        self._launch = None
        if in_time and launch.error is not None:
            raise launch.error

    def _do_on_the_spot(self, launch: Launch, job: Job, error: BaseException) -> None:
        _log.warning(
            "no thread for a device's work, doing it on the spot",
            device=self._device,
            change=job.what,
            error=str(error),
        )
        launch.run()

    def _see_to(self, launch: Launch, job: Job) -> bool:
        """
        Make sure that the work is done where a thread's start was cut, when nobody knows; False if it was given up.

        Looked at again and again instead of joined: whether there is a thread to be joined is what nobody knows.
        """
        launch.run()  # does nothing if the thread has begun
        limit_s, waited_s, before = self._watchdog.give_up_after_s, 0.0, job.progress()
        try:
            while not launch.ended:
                now = job.progress()
                if now != before or not now.at_device:
                    before, waited_s = now, 0.0
                if limit_s is not None and waited_s >= limit_s:
                    self._give_up(job, f"was given up after {limit_s:g} s")
                    return False
                self._big_lock.clock.sleep(_LOOK_AGAIN_S)
                waited_s += _LOOK_AGAIN_S
        except BaseException:
            self._give_up(job, "was left by a second Ctrl-C")
            raise
        return True

    def _give_up(self, job: Job, why: str) -> None:
        self._launcher.abandon()
        self._launch = None
        job.lose(why)

    def _join(self, job: Job) -> bool:
        """Wait for the thread as the watchdog says; False if it was given up."""
        while True:
            before, waited = job.progress(), 0.0
            for moment, last in self._watchdog.moments():
                if self._launcher.join(moment - waited):
                    return True
                waited, now = moment, job.progress()
                if now.steps != before.steps:
                    break  # to be waited for anew
                if not now.at_device:
                    return self._launcher.join()
                if last:
                    self._give_up(job, f"was given up after {moment:g} s")
                    return False
                _log.warning("a device's work takes long", device=self._device, change=job.doing(), seconds=moment)
            else:
                return self._launcher.join()


_LOOK_AGAIN_S = 0.001

_log = get_logger("vfio_migration.changes.device_thread")
