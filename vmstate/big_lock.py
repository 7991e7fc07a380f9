"""The big lock of a machine (QEMU's BQL): handlers run under it, state-change threads never take it."""

import threading
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from vmstate.clocks import Clock
from vmstate.errors import BigLockError
from vmstate.interrupts import uncut


class _Bar:
    """
    The context that `BigLock.barred` gives to all threads.

    They share `_depths`: how many contexts each is in, by its identity. A thread touches only its own number. (A
    `threading.local` would make objects for every thread, of which there is one for each change.)
    """

    __slots__ = ("_depths",)

    def __init__(self) -> None:
        self._depths: dict[int, int] = {}

    def holds_back(self) -> bool:
        """Whether the calling thread is in a context."""
        return threading.get_ident() in self._depths

    def __enter__(self) -> None:
        thread = threading.get_ident()
        self._depths[thread] = self._depths.get(thread, 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread = threading.get_ident()
        depth = self._depths.pop(thread) - 1
        if depth:
            self._depths[thread] = depth


class BigLock:
    """
    A lock that knows its owner and may be taken again by it.

    Guarantees:
    - At most one thread holds it at a time; whoever holds it takes part in the clock meanwhile.
    - A thread inside `barred()` never gets it and never waits for it: the attempt is an error at once,
      because the holder of the lock is waiting for that very thread.

    Rejected: `threading.RLock`. It waits outside of the clock, so that virtual time would stand still for ever, and it
    does not say who holds it. And to let barred threads have the lock for as long as its holder waits for them: two of
    them would be in handlers' code at once, which is what the lock is there to prevent. What happens without the bar is
    shown in tests/vfio_migration/test_ctrl_c.py (a limit is all that ends it).
    """

    def __init__(self, clock: Clock, name: str = "vm") -> None:
        self._clock = clock
        self._name = name
        self._lock = clock.lock(f"big lock of machine {name!r}")
        # Written only by the thread that holds `_lock`; read by others only to compare with themselves.
        self._owner: int | None = None
        self._depth = 0
        self._participation: AbstractContextManager[None] | None = None
        self._bar = _Bar()

    @property
    def clock(self) -> Clock:
        """The clock through which threads wait for this lock."""
        return self._clock

    @property
    def held(self) -> bool:
        """Whether the calling thread holds the lock."""
        return self._owner == threading.get_ident()

    def acquire(self) -> None:
        """
        Take the lock, waiting for whoever holds it.

        Raises:
            BigLockError: the calling thread is a state-change thread of this machine.

        """
        self.refuse_barred("take the big lock of")
        if self.held:
            self._depth += 1
            return
        uncut.begin()  # until it is released: there is no moment at which Ctrl-C could leave it held
        participation = self._clock.taking_part()
        try:
            participation.__enter__()
            try:
                self._lock.acquire()
            except BaseException:
                participation.__exit__(None, None, None)
                raise
        except BaseException as error:
            uncut.end(error)
            raise
        # From here on others see themselves as not the owner whatever they read: the identity is written by its owner
        # alone, and compared by everybody with their own. (Python's integers are read and written whole, with or
        # without an interpreter's lock.)
        self._owner = threading.get_ident()
        self._depth = 1
        self._participation = participation

    def release(self) -> None:
        """
        Give the lock up, once for each time that it was taken.

        Raises:
            BigLockError: the calling thread does not hold it.
            KeyboardInterrupt: a Ctrl-C came while it was held; the lock is free.

        """
        self._release(None)

    def _release(self, error: BaseException | None) -> None:
        if not self.held:
            raise BigLockError(
                f"thread {threading.current_thread().name!r} does not hold the big lock of machine "
                f"{self._name!r}, so it cannot release it"
            )
        self._depth -= 1
        if self._depth == 0:
            participation, self._participation = self._participation, None
            self._owner = None
            self._lock.release()
            if participation is not None:
                participation.__exit__(None, None, None)
            uncut.end(error)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release(error)

    def barred(self) -> AbstractContextManager[None]:
        """Mark the calling thread, in the context, as one that the holder of the lock waits for."""
        return self._bar

    def refuse_barred(self, what: str) -> None:
        """
        Raise if the calling thread is a state-change thread; `what` says what it tried, before "machine".

        Raises:
            BigLockError: it is; the message says what to do instead.

        """
        if self._bar.holds_back():
            raise BigLockError(
                f"thread {threading.current_thread().name!r} changes a device's state and must not {what} "
                f"machine {self._name!r}: the holder of the big lock waits for this very thread, so both "
                "would wait forever; do it in an ordinary handler, or after the machine has been notified"
            )
