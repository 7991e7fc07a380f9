"""
VM change state handlers: entries by priority, and the walk that calls them.

The rules are those of QEMU's `qemu_add_vm_change_state_handler_prio_full` and `vm_state_notify`:

- Entries are in ascending priority, equal ones in order of registration.
- A notification makes two passes, first of the prepare callbacks, then of the main ones: ascending
  when the machine starts, in exactly the reverse order when it stops.
- Which entry comes next is settled before the current one is called.
- No failure cuts a pass short.
"""

import operator
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import TracebackType
from typing import Self

from vmstate.big_lock import BigLock
from vmstate.clocks import RealClock
from vmstate.errors import NestedNotificationError
from vmstate.interrupts import uncut
from vmstate.run_state import RunState

Callback = Callable[[bool, RunState], object]
ReturningCallback = Callable[[bool, RunState], int]

# An entry's key is its priority with its place in the order of registration below it, so that keys
# are unique and plain comparison gives the whole order.
_REGISTRATION_BITS = 64


class PassKind(StrEnum):
    """The two passes of a notification, in their order."""

    PREPARE = "prepare"
    MAIN = "main"


class HandlerEntry:
    """
    One registered handler; also a context manager that removes it at the end.

    `HandlerList.add` makes them. `name` is for people: it stands in traces and timelines. `key` is the entry's place
    in the order: its priority, then when it was registered. `changed_in_pass` is the pass (counted by
    `HandlerList.passes`) during which the entry came or went last; -1: between passes.
    """

    __slots__ = ("_handlers", "changed_in_pass", "key", "main", "name", "prepare", "priority", "removed")

    def __init__(
        self,
        handlers: "HandlerList",
        key: int,
        priority: int,
        main: Callback | None,
        prepare: Callback | None,
        name: str,
        changed_in_pass: int,
    ) -> None:
        self._handlers = handlers
        self.key = key
        self.priority = priority
        self.main = main
        self.prepare = prepare
        self.name = name
        self.changed_in_pass = changed_in_pass
        self.removed = False

    def remove(self) -> None:
        """
        Take the entry out: it is never called again. A second time does nothing.

        A call that another thread's walk is just about to make counts as begun; hold the big lock to exclude that.
        """
        self._handlers._remove(self)  # noqa: SLF001 - one mechanism, two ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<handler {self.name!r}, priority {self.priority}{', removed' if self.removed else ''}>"


class HandlerList:
    """
    The handler entries of one machine, and the walk over them.

    Guarantees:
    - Entries may come and go at any time, from any thread and from callbacks, without a comparison: the order is
      settled when a pass next needs it, by merging what came into what is sorted.
    - One notification at a time: another thread's waits for its turn, one from a callback is refused.

    What threads share is guarded by `_mutex` (the entries and the changes that a walk has still to
    take in) and by the big lock (all that belongs to the notification under way).
    """

    def __init__(self, big_lock: BigLock | None = None) -> None:
        self.big_lock = big_lock or BigLock(RealClock())
        self._mutex = threading.Lock()
        self._sorted: list[HandlerEntry] = []  # replaced, never edited: whoever iterates over it is not disturbed
        self._added: list[HandlerEntry] = []  # since it was settled
        self._gone: list[HandlerEntry] = []  # which are still in one of the two
        self._registrations = 0
        self._steps: dict[tuple[PassKind, bool], list[Callback | None]] = {}  # passes built from `_sorted`
        self._walking = False
        self._changes: list[tuple[HandlerEntry, bool]] = []  # during a walk: who came (True) or went
        self._wrapper: Callable[[HandlerEntry, PassKind, Callback], Callback] | None = None
        # Guarded by the big lock:
        self._notifying = False
        self._result = 0
        self.passes = 0  # begun so far

    def add(
        self,
        cb: Callback | None = None,
        *,
        prepare_cb: Callback | None = None,
        cb_ret: ReturningCallback | None = None,
        priority: int = 0,
        name: str = "",
    ) -> HandlerEntry:
        """
        Register a handler (QEMU's `qemu_add_vm_change_state_handler_prio_full`).

        Every callback is called as `callback(running, state)`. `cb_ret` is a `cb` whose int result, 0 for
        success, becomes part of what `notify` returns.

        Raises:
            ValueError: both `cb` and `cb_ret` are given, or no callback at all.
            TypeError: a callback cannot be called, or the priority is not an integer.

        """
        if cb is None and cb_ret is None and prepare_cb is None:
            raise ValueError("a handler needs at least one callback: give cb, cb_ret or prepare_cb")
        if cb is not None and not callable(cb):
            raise _not_callable(cb)
        if prepare_cb is not None and not callable(prepare_cb):
            raise _not_callable(prepare_cb)
        main = cb
        if cb_ret is not None:
            if cb is not None:
                raise ValueError("a handler has a cb or a cb_ret, not both: give the one that is to be called")
            if not callable(cb_ret):
                raise _not_callable(cb_ret)
            main = self._collecting(cb_ret)
        priority = _index(priority)
        with self._mutex:
            key = (priority << _REGISTRATION_BITS) + self._registrations
            self._registrations += 1
            current_pass = self.passes if self._walking else _BETWEEN
            entry = HandlerEntry(self, key, priority, main, prepare_cb, name, current_pass)
            self._added.append(entry)
            self._note_change(entry, came=True)
        return entry

    def notify(self, running: bool, state: RunState) -> int:
        """
        Tell every handler that the machine starts or stops (QEMU's `vm_state_notify`).

        Returns the bitwise OR of all `cb_ret` results when stopping, 0 when starting.

        Raises:
            NestedNotificationError: called from a handler of this very list; nothing was called.
            BigLockError: called from a state-change thread; nothing was called.
            BaseExceptionGroup: what the callbacks raised, or Ctrl-C, after all of them were called; a plain
                ExceptionGroup if only ordinary exceptions are among them. A KeyboardInterrupt or
                SystemExit that is alone is raised as itself.

        """
        with self.changing("notify"):
            return self.call_all(running, state)

    @contextmanager
    def changing(self, what: str) -> Iterator[None]:
        """
        Hold the big lock to notify, or to change what is notified of: the one guard of start, stop and notify.

        `what` says what is tried, before "machine". A first Ctrl-C meanwhile is raised at the end, together with
        what handlers raised; a second one at once.

        Raises:
            BigLockError: called from a state-change thread; nothing was changed.
            NestedNotificationError: called from a handler of this very list; nothing was changed.

        """
        self.big_lock.refuse_barred(what)
        with uncut, self.big_lock:
            if self._notifying:
                raise NestedNotificationError(
                    f"a handler cannot {what} the machine that is calling it: a notification is under way; "
                    "do it after start() or stop() has returned, or from a thread that waits for its turn"
                )
            yield

    def call_all(self, running: bool, state: RunState) -> int:
        """Make both passes, for who is inside `changing`; gives and raises what `notify` does, but for the guard."""
        self._notifying = True
        self._result = 0
        failures: list[BaseException] = []
        try:
            for kind in PassKind:
                self._walk(kind, running, state, failures)
        finally:
            self._notifying = False
        if failures:
            raise _together(failures, running, state)
        return 0 if running else self._result

    @property
    def notifying(self) -> bool:
        """Whether a notification is under way; to be asked by the holder of the big lock."""
        return self._notifying

    def __len__(self) -> int:
        with self._mutex:
            return self._count()

    def _count(self) -> int:
        return len(self._sorted) + len(self._added) - len(self._gone)

    def __iter__(self) -> Iterator[HandlerEntry]:
        """Iterate over the entries as they are now, ascending."""
        with self._mutex:
            return iter(self._settled())

    def _walk(self, kind: PassKind, running: bool, state: RunState, failures: list[BaseException]) -> None:
        """
        Make one pass. `steps` is edited by `_catch_up` while it is walked, always beyond the next step.

        The inner loop is the only hot code here: for each entry a call, and a look at whether anything came or went.
        Rejected: to look into the sorted list for what follows after each call, as QEMU's list does for free; that is
        a search per entry. And to walk a copy and skip what was removed; what is added would have to wait for the next
        pass, and in QEMU it does not. The iterator has taken the next step's place before the current callback runs,
        which is how "next is settled before the current one is called" comes about
        (tests/vmstate/test_handlers_model.py holds it against a plain model).
        """
        steps = _Steps(*self._begin(kind, running), running)
        place = iter(steps.callbacks)
        try:
            while True:
                try:
                    for callback in place:
                        if callback is not None:
                            callback(running, state)
                        if self._changes:
                            self._catch_up(steps, place, kind)
                # The `try` is outside of the loop, since it is entered once for a pass and once for each failure. A
                # `KeyboardInterrupt` is kept as well: raised here, it would leave the brackets of this pass open.
                except BaseException as failure:  # noqa: BLE001 - kept and raised when the walk is over
                    failure.add_note(f"{steps.entry_before(place)}, {kind} callback")
                    failures.append(failure)
                    self._catch_up(steps, place, kind)
                else:
                    break
        finally:
            self._end()

    def _begin(self, kind: PassKind, running: bool) -> tuple[list[HandlerEntry], list[Callback | None]]:
        with self._mutex:
            self.passes += 1
            self._walking = True
            order = self._settled()
            callbacks = self._steps.get((kind, running))
            if callbacks is None:
                entries = order if running else reversed(order)
                wrap = self._wrapper is not None
                callbacks = (
                    [self._callback(each, kind) for each in entries] if wrap else [*map(_callback_of[kind], entries)]
                )
                self._steps[kind, running] = callbacks
            return order, callbacks

    def _end(self) -> None:
        with self._mutex:
            self._walking = False
            self._changes = []

    def _catch_up(self, steps: "_Steps", place: Iterator[Callback | None], kind: PassKind) -> None:
        """Take in what came and went while the last callback ran."""
        with self._mutex:
            changes, self._changes = self._changes, []
        for entry, came in changes:
            following = len(steps.callbacks) - operator.length_hint(place)
            if came:
                steps.insert(entry, self._callback(entry, kind), following)
            else:
                steps.delete(entry, following)

    def _callback(self, entry: HandlerEntry, kind: PassKind) -> Callback | None:
        callback = _callback_of[kind](entry)
        if callback is None or self._wrapper is None:
            return callback
        return self._wrapper(entry, kind, callback)

    def wrap_callbacks(self, wrapper: Callable[[HandlerEntry, PassKind, Callback], Callback] | None) -> None:
        """Have every callback replaced by `wrapper(entry, kind, callback)` when a pass is built (tracing)."""
        with self._mutex:
            self._wrapper = wrapper
            self._steps = {}

    def _collecting(self, cb_ret: ReturningCallback) -> Callback:
        def collect(running: bool, state: RunState) -> None:
            value = cb_ret(running, state)
            if not running:
                if not isinstance(value, int):
                    raise TypeError(f"cb_ret must return an int, 0 for success; {cb_ret!r} returned {value!r}")
                self._result |= value

        return collect

    def _remove(self, entry: HandlerEntry) -> None:
        with self._mutex:
            if entry.removed:
                return
            entry.removed = True
            entry.changed_in_pass = self.passes if self._walking else _BETWEEN
            self._gone.append(entry)
            self._note_change(entry, came=False)
            if len(self._gone) > self._count() + _SPARE:
                self._settled()

    def _note_change(self, entry: HandlerEntry, *, came: bool) -> None:
        if self._steps:
            self._steps = {}
        if self._walking:
            self._changes.append((entry, came))

    def _settled(self) -> list[HandlerEntry]:
        """
        Bring the order up to date, and give it as it is now.

        Sorting finds two runs that are sorted already, or nearly, and merges them; a few changes among many entries are
        searched for instead. Rejected: blocks of entries, of which a change touches one. They were quicker for few
        changes among a million entries, which no machine has, and another data structure to trust.
        """
        if self._added or self._gone:
            came = [entry for entry in self._added if not entry.removed]
            if (len(came) + len(self._gone)) * _FEW < len(self._sorted):
                entries = self._sorted.copy()
                for entry in self._gone:
                    place = bisect_left(entries, entry.key, key=_key)
                    if place < len(entries) and entries[place] is entry:
                        del entries[place]
                for entry in came:
                    insort(entries, entry, key=_key)
            else:
                kept = (entry for entry in self._sorted if not entry.removed) if self._gone else self._sorted
                entries = [*kept, *came]
                entries.sort(key=_key)
            self._sorted, self._added, self._gone = entries, [], []
        return self._sorted


class _Steps:
    """What one pass calls, in its order: edited as entries come and go, always beyond the next step."""

    __slots__ = ("_entries", "_keys", "_order", "_running", "callbacks")

    def __init__(self, order: list[HandlerEntry], callbacks: list[Callback | None], running: bool) -> None:
        self.callbacks = callbacks
        self._order = order
        self._running = running
        self._keys: list[int] | None = None
        self._entries: list[HandlerEntry] = []

    def entry_before(self, place: Iterator[Callback | None]) -> HandlerEntry | None:
        """Give the entry whose callback was called last."""
        called = len(self.callbacks) - operator.length_hint(place) - 1
        self._walk_keys()
        return self._entries[called] if called >= 0 else None

    def insert(self, entry: HandlerEntry, callback: Callback | None, following: int) -> None:
        """Let an entry be called in this pass if its place lies beyond the step that comes next."""
        keys = self._walk_keys()
        key = self._walk_key(entry)
        if following < len(keys) and key > keys[following]:
            place = bisect_right(keys, key, following + 1)
            keys.insert(place, key)
            self._entries.insert(place, entry)
            self.callbacks.insert(place, callback)

    def delete(self, entry: HandlerEntry, following: int) -> None:
        """Drop an entry that is still to come; if it is next, its place stays and nothing is called there."""
        keys = self._walk_keys()
        key = self._walk_key(entry)
        place = bisect_left(keys, key, following)
        if place < len(keys) and keys[place] == key:
            if place == following:
                self.callbacks[place] = None
            else:
                del keys[place], self._entries[place], self.callbacks[place]

    def _walk_keys(self) -> list[int]:
        if self._keys is None:  # most passes never need them
            self._entries = list(self._order if self._running else reversed(self._order))
            self._keys = [self._walk_key(entry) for entry in self._entries]
        return self._keys

    def _walk_key(self, entry: HandlerEntry) -> int:
        return _key(entry) if self._running else -_key(entry)


_BETWEEN = -1  # passes
_FEW = 500  # a change among so many entries is searched for: moving what lies behind it costs about as much
_SPARE = 64  # so many removed entries are never worth a clean-up
_index = operator.index
_key: Callable[[HandlerEntry], int] = operator.attrgetter("key")
_callback_of: dict[PassKind, Callable[[HandlerEntry], Callback | None]] = {
    PassKind.PREPARE: operator.attrgetter("prepare"),
    PassKind.MAIN: operator.attrgetter("main"),
}


def _not_callable(callback: object) -> TypeError:
    return TypeError(f"a handler's callback must be callable as callback(running, state): {callback!r}")


def _together(failures: list[BaseException], running: bool, state: RunState) -> BaseException:
    if len(failures) == 1 and not isinstance(failures[0], Exception):
        return failures[0]
    what = "; ".join(
        ": ".join([*getattr(failure, "__notes__", [])[-1:], repr(failure)]) for failure in failures[:_NAMED]
    )
    return BaseExceptionGroup(  # an ExceptionGroup if all of them are ordinary
        f"{len(failures)} handler failure(s) while the machine was told that it "
        f"{'starts' if running else 'stops'} ('{state}'): {what}{', ...' if len(failures) > _NAMED else ''}",
        failures,
    )


_NAMED = 3  # failures in the message of all; the group holds every one
