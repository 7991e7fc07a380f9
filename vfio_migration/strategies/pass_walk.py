"""The pass under way in a machine: what its strategy is asked, and what holds whatever the strategy does."""

from typing import Protocol

from vfio_migration.strategies.base import Change, Strategy
from vfio_migration.strategies.places import Places
from vmstate import HandlerList, PassKind, RunState


class WalkedChange(Change, Protocol):
    """A change as the walk knows it."""

    def to_be_met(self, kind: PassKind) -> bool:
        """Whether both entries of its bracket are still to be met in such a pass, as far as can be foreseen."""
        ...

    def raise_kept(self) -> None:
        """Raise what launching it raised before its own bracket had opened."""
        ...


class PassWalk:
    """
    What all devices of a machine that have brackets share.

    Guarantees, whatever the strategy does:
    - The change of a device whose bracket was opened and closed was begun, and at most one of a device runs at a time.
    - All threads are joined where their device's bracket closes, at the latest; that of a device whose bracket sits the
      pass out, since one of its entries came or went in this very pass, where the walk meets the other.
    - What goes wrong with the launch of one device is raised where that one's bracket opens, and keeps no other from
      being launched.

    Guarded by the big lock, under which passes are walked.
    """

    def __init__(self, strategy: Strategy, handlers: HandlerList) -> None:
        self.strategy = strategy
        self._handlers = handlers
        self.clock = handlers.big_lock.clock
        self._changes: list[WalkedChange] = []
        self._places: tuple[tuple[int, int], Places] | None = None  # and what they are for: pass, and how many
        # Of the pass whose bracket was met last; `number` counts them as the handlers do.
        self.number = -1
        self.kind = PassKind.PREPARE
        self.running = False
        self.state = RunState.PAUSED
        self.opening: WalkedChange | None = None

    @property
    def passes(self) -> int:
        """How many passes the machine has begun so far."""
        return self._handlers.passes

    def add(self, change: WalkedChange) -> None:
        """Let one more device take part."""
        self._changes.append(change)

    def remove(self, change: WalkedChange) -> None:
        """Let a device take part no more."""
        if change in self._changes:
            self._changes.remove(change)

    def open(self, change: WalkedChange, kind: PassKind, running: bool, state: RunState) -> None:
        """Hear that a device's bracket opens."""
        self.number, self.kind, self.running, self.state = self._handlers.passes, kind, running, state
        self.opening = change
        try:
            self.strategy.open(change, self)
            change.raise_kept()
        except Exception:
            _leave_nothing(change)  # the bracket will not be closed after this
            raise
        finally:
            self.opening = None

    def close(self, change: WalkedChange) -> None:
        """Hear that it closes."""
        try:
            self.strategy.close(change, self)
        finally:
            _leave_nothing(change)

    def sit_out(self, change: WalkedChange) -> None:
        """Hear that a device's bracket sits this pass out, of which the walk now meets the one entry that is there."""
        if change.begun:
            _leave_nothing(change)
        change.raise_kept()

    def due(self) -> list[Change]:
        """Give the changes of this pass that were not begun yet, in the order in which their brackets will be met."""
        found: list[Change] = [each for each in self._changes if not each.begun and each.to_be_met(self.kind)]
        found.sort(key=lambda each: each.depth)  # equals stay in the order of registration
        return found if self.running else found[::-1]

    def places(self, most: int) -> Places:
        """Give the pass's places for so many changes at a time; each pass has its own, so none is lost for good."""
        key = (self.number, most)
        if self._places is None or self._places[0] != key:
            self._places = key, Places(self.clock, most)
        return self._places[1]


def _leave_nothing(change: Change) -> None:
    """Make a change that was not begun in this pass, and join a thread that was launched in it."""
    if change.begun:
        if change.launched:
            change.join()
    elif not change.launched:
        change.make()
