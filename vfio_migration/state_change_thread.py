"""The state-change thread of a device: launched where its bracket opens, joined where it closes."""

from vfio_migration.launchers import Launch, Launcher
from vfio_migration.state_change import NAMES, StateChange
from vmstate import BigLock, PassKind, RunState
from vmstate.log import get_logger


class StateChangeThread:
    """
    Owner of a device's bracket (`vmstate.BracketOwner`).

    Guarantees:
    - At most one launch of a device runs; launching another, or joining when none runs, is a bug in the
      mechanism: an AssertionError.
    - Work is never lost: where no thread can be started it is done on the spot.
    - What the work raises is raised where it is joined.
    - A Ctrl-C during the wait is raised when the thread has ended.

    All is guarded by the big lock, under which brackets are opened and closed.
    """

    def __init__(self, device: str, change: StateChange, launcher: Launcher, big_lock: BigLock) -> None:
        self._device = device
        self._change = change
        self._launcher = launcher
        self._big_lock = big_lock
        self._launch: Launch | None = None

    @property
    def launched(self) -> bool:
        """Whether a launch waits to be joined."""
        return self._launch is not None

    def open(self, kind: PassKind, running: bool, state: RunState) -> None:
        """Launch the device's change of this pass."""
        name = f"{NAMES[kind]} {self._device}"
        if self._launch is not None:
            raise AssertionError(f"{name!r} launched while {self._launch.name!r} runs")
        launch = Launch(name, lambda: self._change.change(kind, running, state), self._big_lock)
        try:
            self._launcher.start(launch)
        except (RuntimeError, MemoryError) as error:
            _log.warning(
                "no thread for a state change, doing it on the spot",
                device=self._device,
                change=NAMES[kind],
                error=str(error),
            )
            launch.run()
        self._launch = launch

    def close(self, kind: PassKind) -> None:
        """Join it."""
        launch = self._launch
        name = f"{NAMES[kind]} {self._device}"
        if launch is None:
            raise AssertionError(f"{name!r} joined, but no thread of device {self._device!r} was launched")
        if launch.name != name:
            raise AssertionError(f"{name!r} joined while {launch.name!r} runs")
        self._join()
        self._launch = None
        if launch.error is not None:
            raise launch.error

    def _join(self) -> None:
        """Wait for the thread; a Ctrl-C waits for it too, and only a second one leaves it behind."""
        try:
            self._launcher.join()
        except KeyboardInterrupt:
            self._launcher.join()
            self._launch = None
            raise


_log = get_logger("vfio_migration.state_change_thread")
