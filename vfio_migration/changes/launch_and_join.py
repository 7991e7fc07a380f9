"""The state-change thread of a device: launched where its bracket opens, joined where it closes."""

from vfio_migration.changes.launchers import Launch, Launcher
from vfio_migration.changes.prepare_and_main import NAMES, StateChange
from vfio_migration.changes.watchdog import Watchdog
from vmstate import BigLock, PassKind, RunState, get_logger


class StateChangeThread:
    """
    Owner of a device's bracket (`vmstate.BracketOwner`).

    Guarantees:
    - At most one launch of a device runs; launching another, or joining when none runs, is a bug in the
      mechanism: an AssertionError.
    - Work is never lost: where no thread can be started it is done on the spot.
    - What the work raises is raised where it is joined.
    - A Ctrl-C during the wait is raised when the thread has ended; a second one leaves it behind.
    - A launch that the watchdog gives up counts as joined; the device is lost.

    All is guarded by the big lock, under which brackets are opened and closed.

    Rejected: a pool of threads for all devices, as `concurrent.futures` has. A stalled device would take one of its
    threads for good, and which thread does what could not be seen by its name, as it can in QEMU. And to join in
    `__exit__` of whoever launched: the two places are two handlers that the walk calls, with others between them.
    """

    def __init__(
        self,
        device: str,
        change: StateChange,
        launcher: Launcher,
        big_lock: BigLock,
        watchdog: Watchdog | None = None,
        *,
        launch_s: float = 0.0,
        join_s: float = 0.0,
    ) -> None:
        self._device = device
        self._names = {kind: f"{name} {device}" for kind, name in NAMES.items()}
        self._change = change
        self._launcher = launcher
        self._big_lock = big_lock
        self._watchdog = watchdog or Watchdog()
        self._launch_s = launch_s
        self._join_s = join_s
        self._launch: Launch | None = None
        self._state = RunState.RUNNING  # that the launch was told

    @property
    def launched(self) -> bool:
        """Whether a launch waits to be joined."""
        return self._launch is not None

    def open(self, kind: PassKind, running: bool, state: RunState) -> None:
        """Launch the device's change of this pass."""
        name = self._names[kind]
        if self._launch is not None:
            raise AssertionError(f"{name!r} launched while {self._launch.name!r} runs")
        if self._launch_s:
            self._big_lock.clock.sleep(self._launch_s)
        launch = Launch(name, self._big_lock, self._change.change, (kind, running, state))
        self._launch = launch
        self._state = state
        try:
            self._launcher.start(launch)
        except (RuntimeError, MemoryError) as error:
            self._do_on_the_spot(launch, kind, error)
        except BaseException as error:
            # What no system says of a thread that it refuses is for whoever runs this, but the work is done first.
            # Without the next line but one the device would have a launch that nobody joins, for ever.
            self._do_on_the_spot(launch, kind, error)
            self._see_to(launch, kind)
            if isinstance(error, Exception):
                self._launch = None  # what Ctrl-C has cut short is closed all the same
            if launch.error is not None:
                error.add_note(f"the work that was to be launched failed too: {launch.error!r}")
            raise

    def _do_on_the_spot(self, launch: Launch, kind: PassKind, error: BaseException) -> None:
        _log.warning(
            "no thread for a state change, doing it on the spot",
            device=self._device,
            change=NAMES[kind],
            error=str(error),
        )
        launch.run()

    def close(self, kind: PassKind) -> None:
        """Join it."""
        launch = self._launch
        name = self._names[kind]
        if launch is None:
            raise AssertionError(f"{name!r} joined, but no thread of device {self._device!r} was launched")
        if launch.name != name:
            raise AssertionError(f"{name!r} joined while {launch.name!r} runs")
        self._change.announce("vfio_join_begin", kind)
        try:
            self._wait(launch, kind)
            if self._join_s:
                self._big_lock.clock.sleep(self._join_s)
        finally:
            self._change.announce("vfio_join_end", kind)

    def _wait(self, launch: Launch, kind: PassKind) -> None:
        interrupt = None
        try:
            in_time = self._join(kind)
            if not launch.ended and in_time:
                in_time = self._see_to(launch, kind)
        except KeyboardInterrupt as error:
            interrupt = error
            in_time = self._see_to(launch, kind)
        except BaseException as error:
            self._give_up(kind, f"could not be waited for: {error}")
            raise
        self._launch = None
        if interrupt is not None:
            if launch.error is not None:
                interrupt.add_note(f"the work that was waited for failed too: {launch.error!r}")
            raise interrupt
        if in_time and launch.error is not None:
            raise launch.error

    def _see_to(self, launch: Launch, kind: PassKind) -> bool:
        """
        Make sure that the work is done after a Ctrl-C, when nobody knows; False if it was given up.

        Looked at again and again instead of joined: up to Python 3.12, a join that Ctrl-C cuts short takes the thread
        for ended (bpo-45274), and a second join returns at once while the device is still on its way
        (tests/vfio_migration/test_ctrl_c.py: raised when all threads are joined).
        """
        launch.run()  # does nothing if the thread has begun
        limit_s, waited_s = self._watchdog.give_up_after_s, 0.0
        try:
            while not launch.ended:
                if limit_s is not None and waited_s >= limit_s:
                    self._give_up(kind, f"was given up after {limit_s:g} s")
                    return False
                self._big_lock.clock.sleep(_LOOK_AGAIN_S)
                waited_s += _LOOK_AGAIN_S
        except BaseException:
            self._give_up(kind, "was left by a second Ctrl-C")
            raise
        return True

    def _give_up(self, kind: PassKind, why: str) -> None:
        self._launcher.abandon()
        self._launch = None
        self._change.give_up(kind, self._state, why)

    def _join(self, kind: PassKind) -> bool:
        """Wait for the thread as the watchdog says; False if it was given up."""
        waited = 0.0
        for moment, last in self._watchdog.moments():
            if self._launcher.join(moment - waited):
                return True
            waited = moment
            if last:
                self._give_up(kind, f"was given up after {moment:g} s")
                return False
            _log.warning(
                "a state change takes long",
                device=self._device,
                change=self._change.what_it_does(kind),
                seconds=moment,
            )
        return self._launcher.join()


_LOOK_AGAIN_S = 0.001

_log = get_logger("vfio_migration.changes.launch_and_join")
