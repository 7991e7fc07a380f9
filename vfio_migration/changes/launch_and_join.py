"""The state-change thread of a device: launched where its bracket opens, joined where it closes, or as told."""

import threading
from collections.abc import Callable

from vfio_migration.changes.device_thread import DeviceThread, Job
from vfio_migration.changes.prepare_and_main import NAMES, StateChange
from vfio_migration.strategies import PassWalk, Place, Places
from vmstate import Bracket, PassKind, RunState


class StateChangeThread:
    """
    Owner of a device's bracket (`vmstate.BracketOwner`): has the device's thread do its changes of state.

    When is the business of the machine's strategy, which the walk of the pass asks (`PassWalk`); it is handed this as
    the device's `Change`. What `DeviceThread` guarantees holds for each launch. All is guarded by the big lock, under
    which brackets are opened and closed. Launching costs whoever walks `launch_s` seconds, and joining `join_s`, beside
    what they cost for real.
    """

    def __init__(
        self,
        device: str,
        change: StateChange,
        thread: DeviceThread,
        walk: PassWalk,
        *,
        launch_s: float = 0.0,
        join_s: float = 0.0,
    ) -> None:
        self.device = device
        self.depth = 0
        self._names = {kind: f"{name} {device}" for kind, name in NAMES.items()}
        self._change = change
        self._thread = thread
        self._clock = walk.clock
        self._walk = walk
        self._launch_s = launch_s
        self._join_s = join_s
        self._kind = PassKind.PREPARE  # of the pass that it was met in last
        self._begun_in = -1
        self._kept: BaseException | None = None
        self._bracket: Bracket | None = None
        self._prepares = False
        self._there_since = 0

    def take_part(self, bracket: Bracket, depth: int, *, prepares: bool) -> None:
        """Take part in passes with this bracket at its depth; they can be foreseen to meet it from the next one on."""
        self._bracket, self.depth, self._prepares = bracket, depth, prepares
        self._there_since = self._walk.passes
        self._walk.add(self)

    def leave(self) -> None:
        """Take part in passes no more."""
        self._walk.remove(self)

    # What the bracket tells:

    def open(self, kind: PassKind, running: bool, state: RunState) -> None:
        """Have the strategy begin what is to be begun here."""
        self._kind = kind
        self._walk.open(self, kind, running, state)

    def close(self, kind: PassKind) -> None:
        """Have it end what is to be over here."""
        self._kind = kind
        self._walk.close(self)

    def sit_out(self, kind: PassKind) -> None:
        """End what was begun although the bracket sits the pass out, which could not be foreseen."""
        self._kind = kind
        self._walk.sit_out(self)

    # What a strategy asks and tells (`Change`):

    @property
    def begun(self) -> bool:
        """Whether the change of this pass was made or launched."""
        return self._begun_in == self._walk.number

    @property
    def launched(self) -> bool:
        """Whether a thread is to be joined."""
        return self._thread.launched

    def make(self) -> None:
        """Do the device's change of this pass in the thread that walks."""
        self._kind = kind = self._walk.kind
        self._thread.check_free(self._names[kind])
        self._begun_in = self._walk.number
        self._change.change(kind, self._walk.running, self._walk.state)

    def launch(self, places: Places | None = None) -> None:
        """Launch it; what goes wrong is kept for when its own bracket opens."""
        try:
            self._launch(places)
        except BaseException as error:
            if self._walk.opening is self:
                raise
            self._kept = error

    def join(self) -> None:
        """Join it."""
        kind = self._kind
        name = self._names[kind]
        self._thread.check_launched(name)
        self._change.announce("vfio_join_begin", kind)
        try:
            self._thread.join(name)
            if self._join_s:
                self._clock.sleep(self._join_s)
        finally:
            self._change.announce("vfio_join_end", kind)

    # What the walk asks (`PassWalk`):

    def to_be_met(self, kind: PassKind) -> bool:
        """Whether its bracket takes part in such a pass: a whole one, that was there when the pass began."""
        takes_part = self._prepares or kind is PassKind.MAIN
        there = self._bracket is not None and self._bracket.whole
        return takes_part and there and self._there_since < self._walk.number

    def raise_kept(self) -> None:
        """Raise what launching it raised before its own bracket had opened."""
        if self._kept is not None:
            error, self._kept = self._kept, None
            raise error

    def _launch(self, places: Places | None) -> None:
        walk, change = self._walk, self._change
        self._kind = kind = walk.kind
        state = walk.state
        name = self._names[kind]
        self._thread.check_free(name)
        if self._launch_s:
            self._clock.sleep(self._launch_s)
        self._begun_in = walk.number
        place = None if places is None else places.line_up(name)
        job = Job(
            NAMES[kind],
            name,
            change.change if place is None else _with_place(place, change.change),
            (kind, walk.running, state),
            lose=lambda why: self._lose(place, kind, state, why),
            doing=lambda: change.what_it_does(kind),
        )
        try:
            self._thread.launch(job)
        finally:
            if place is not None and not self._thread.launched:
                place.give_back()  # nobody else will

    def _lose(self, place: Place | None, kind: PassKind, state: RunState, why: str) -> None:
        if place is not None:
            place.give_back()
        self._change.give_up(kind, state, why)


def _with_place(place: Place, work: Callable[[PassKind, bool, RunState], None]) -> Callable[..., None]:
    """
    Give the work as it is done by whoever has a place.

    Whoever walks waits for none: it does the work itself where no thread can be started, or after a Ctrl-C, and only
    it could give up the device whose place it would wait for.
    """
    walker = threading.get_ident()

    def placed(kind: PassKind, running: bool, state: RunState) -> None:
        try:
            if threading.get_ident() == walker or place.wait():
                work(kind, running, state)
        finally:
            place.give_back()

    return placed
