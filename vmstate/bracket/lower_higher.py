"""
A bracket: two entries around a device's depth that open something before its handlers and close it after.

The reversal of order lives here and nowhere else: starting, the walk meets the lower entry (adjust -1)
first, stopping, the higher one (adjust +1). Whoever owns a bracket only knows *first* and *second*.
"""

from collections.abc import Callable
from typing import Protocol

from vmstate.device_tree import Device, add_device_handler
from vmstate.errors import RegistrationError
from vmstate.handlers import Callback, HandlerEntry, HandlerList, PassKind
from vmstate.run_state import RunState

_LOWER, _HIGHER = 0, 1  # places in Bracket._entries


class BracketOwner(Protocol):
    """What is opened where the walk meets a bracket first, and closed where it meets it again."""

    def open(self, kind: PassKind, running: bool, state: RunState) -> None:
        """Open, before the handlers at adjust 0 of the depth are called."""
        ...

    def close(self, kind: PassKind) -> None:
        """Close, after them; called if `open` was called in the same pass, unless that raised an ordinary exception."""
        ...


class Bracket:
    """
    A pair of entries at adjust -1 and +1 of a device's depth.

    Guarantees:
    - In every pass, `close` follows an `open` that did not fail, or that Ctrl-C cut short; all handlers at adjust 0
      of the depth lie in between.
    - A bracket of which only one entry was there when the pass met it (a callback of that pass added
      or removed the other) sits that pass out, of which `on_sit_out` is told where the walk meets that
      one. A bracket met in any other order is a bug in the walk: an AssertionError.
    """

    def __init__(
        self,
        handlers: HandlerList,
        device: Device,
        owner: BracketOwner,
        *,
        prepare: bool = True,
        on_sit_out: Callable[[PassKind], object] | None = None,
    ) -> None:
        self._handlers = handlers
        self._owner = owner
        self._on_sit_out = on_sit_out
        self._name = device.id
        # Guarded by the big lock, under which passes are walked.
        self._open_in_pass: int | None = None
        self._sat_out_pass: int | None = None
        self._entries: tuple[HandlerEntry, ...] = ()  # both, or not yet
        lower = self._add(device, -1, self._lower_main, self._lower_prepare if prepare else None)
        higher = self._add(device, +1, self._higher_main, self._higher_prepare if prepare else None)
        self._entries = (lower, higher)

    @property
    def whole(self) -> bool:
        """Whether both entries are there."""
        return bool(self._entries) and not any(entry.removed for entry in self._entries)

    def remove(self) -> None:
        """
        Take both entries out, waiting for a notification of another thread.

        Raises:
            RegistrationError: called from a handler between the two, so that nothing would be closed any more.

        """
        with self._handlers.big_lock:
            if self._open_in_pass is not None and self._handlers.notifying:
                raise RegistrationError(f"bracket of {self._name!r} is open: take it away after the notification")
            for entry in self._entries:
                entry.remove()

    def _add(self, device: Device, adjust: int, main: Callback, prepare: Callback | None) -> HandlerEntry:
        return add_device_handler(self._handlers, device, main, prepare_cb=prepare, adjust=adjust)

    # Methods, not closures: there are four for each device, and whatever holds others is the garbage collector's work.

    def _lower_prepare(self, running: bool, state: RunState) -> None:
        self._meet_lower(PassKind.PREPARE, running, state)

    def _lower_main(self, running: bool, state: RunState) -> None:
        self._meet_lower(PassKind.MAIN, running, state)

    def _higher_prepare(self, running: bool, state: RunState) -> None:
        self._meet_higher(PassKind.PREPARE, running, state)

    def _higher_main(self, running: bool, state: RunState) -> None:
        self._meet_higher(PassKind.MAIN, running, state)

    def _meet_lower(self, kind: PassKind, running: bool, state: RunState) -> None:
        if running:
            self._meet_first(kind, _HIGHER, running, state)
        else:
            self._meet_second(kind, _HIGHER)

    def _meet_higher(self, kind: PassKind, running: bool, state: RunState) -> None:
        if running:
            self._meet_second(kind, _LOWER)
        else:
            self._meet_first(kind, _LOWER, running, state)

    def _meet_first(self, kind: PassKind, second: int, running: bool, state: RunState) -> None:
        if self._open_in_pass is not None:
            raise AssertionError(f"bracket of {self._name!r} met first in {kind} while it is still open")
        self._sat_out_pass = self._handlers.passes
        if self._is_there(second, kind):
            self._open_in_pass, self._sat_out_pass = self._sat_out_pass, None
            try:
                self._owner.open(kind, running, state)
            except Exception:
                self._open_in_pass, self._sat_out_pass = None, self._open_in_pass
                raise
        elif self._on_sit_out is not None:
            self._on_sit_out(kind)

    def _meet_second(self, kind: PassKind, first: int) -> None:
        this_pass = self._handlers.passes
        if self._open_in_pass == this_pass:
            self._open_in_pass = None
            self._owner.close(kind)
        elif self._sat_out_pass != this_pass:
            if not self._came_or_went(first):
                raise AssertionError(f"bracket of {self._name!r} met second in {kind}, but was never opened")
            if self._on_sit_out is not None:
                self._on_sit_out(kind)

    def _is_there(self, place: int, kind: PassKind) -> bool:
        """Whether the other entry will be met too; if not, that must be the work of this very pass."""
        there = bool(self._entries) and not self._entries[place].removed
        if not there and not self._came_or_went(place):
            raise AssertionError(f"bracket of {self._name!r} met first in {kind}, but its other entry is gone")
        return there

    def _came_or_went(self, place: int) -> bool:
        """Whether this entry was added or removed in the pass that is walked now."""
        return not self._entries or self._entries[place].changed_in_pass == self._handlers.passes
