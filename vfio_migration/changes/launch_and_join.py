"""The state-change thread of a device: launched where its bracket opens, joined where it closes."""

from vfio_migration.changes.device_thread import DeviceThread, Job
from vfio_migration.changes.prepare_and_main import NAMES, StateChange
from vmstate import Clock, PassKind, RunState


class StateChangeThread:
    """
    Owner of a device's bracket (`vmstate.BracketOwner`): has the device's thread do its changes of state.

    What `DeviceThread` guarantees holds for each of them. All is guarded by the big lock, under which brackets are
    opened and closed. Launching costs whoever walks `launch_s` seconds, and joining `join_s`, beside what they cost for
    real.
    """

    def __init__(
        self,
        device: str,
        change: StateChange,
        thread: DeviceThread,
        clock: Clock,
        *,
        launch_s: float = 0.0,
        join_s: float = 0.0,
    ) -> None:
        self._names = {kind: f"{name} {device}" for kind, name in NAMES.items()}
        self._change = change
        self._thread = thread
        self._clock = clock
        self._launch_s = launch_s
        self._join_s = join_s

    def open(self, kind: PassKind, running: bool, state: RunState) -> None:
        """Launch the device's change of this pass."""
        name, change = self._names[kind], self._change
        self._thread.check_free(name)
        if self._launch_s:
            self._clock.sleep(self._launch_s)
        self._thread.launch(
            Job(
                NAMES[kind],
                name,
                change.change,
                (kind, running, state),
                lose=lambda why: change.give_up(kind, state, why),
                doing=lambda: change.what_it_does(kind),
            )
        )

    def close(self, kind: PassKind) -> None:
        """Join it."""
        name = self._names[kind]
        self._thread.check_launched(name)
        self._change.announce("vfio_join_begin", kind)
        try:
            self._thread.join(name)
            if self._join_s:
                self._clock.sleep(self._join_s)
        finally:
            self._change.announce("vfio_join_end", kind)
