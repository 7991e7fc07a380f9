"""
The one policy for Ctrl-C: the first waits for what must not be cut, and then cancels; the second leaves at once.

What must not be cut is a pass, a bracket, the time that a lock is held, a hand-over of a clock: everything inside
`uncut`. Inside `uncut_between_waits` the same holds, but for waits: each wait through a clock is in `heard`, and there
a Ctrl-C is raised, as it comes or if one has come before. What nobody has heard is raised where the outermost of these
contexts ends, or where an `uncut` ends that is in no other `uncut`.

Rejected: to let the first one be raised wherever the main thread happens to be, and to mend that there. Between
`lock.acquire()` and the line that remembers it there is always a moment at which nobody would let go of the lock again,
and the method that ends a context can be cut before its first line. So whatever needs an end is under a handler of
ours from before its beginning until after its end.

What is here belongs to the main thread and to the handler of the signal, which runs in it: no other thread reads or
writes it, so that it needs no lock. In other threads, which no Ctrl-C reaches, all this does nothing; neither does it
where SIGINT has no handler in Python (under nohup, say).
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class _MainThread:
    """What the main thread is in, and what came meanwhile."""

    __slots__ = ("contexts", "deaf", "heard", "hearing", "ident", "noted", "previous", "tell")

    def __init__(self) -> None:
        self.contexts = 0  # of both kinds
        self.deaf = 0  # of them, those in which waits do not hear either
        self.hearing = False
        self.noted = False
        self.heard = 0
        self.tell: Callable[[], object] = lambda: None
        self.previous: Callable[[int, FrameType | None], object] | None = None  # while ours is in its place
        self.look()

    def look(self) -> None:
        """Note which thread it is: after a fork, the one that forked."""
        self.ident = threading.main_thread().ident

    def begin(self, *, deaf: bool) -> None:
        """Enter a context."""
        if self.contexts == 0:
            self.noted = self.hearing = False
            self._take_over()
        # From here on nothing is raised: nobody has to undo what stands above, or what comes below.
        self.contexts += 1
        self.deaf += deaf

    def end(self, error: BaseException | None, *, deaf: bool) -> None:
        """Leave it, and raise what it has held back."""
        if self.contexts == 0:
            return  # a second Ctrl-C has ended all of them
        self.contexts -= 1
        self.deaf -= deaf
        if self.contexts == 0:
            self._give_back()
        elif self.deaf or not deaf:
            return
        if self.noted:
            self.noted = False
            _raise_with(error, self.interrupt)

    def interrupt(self) -> None:
        """Do what Ctrl-C does where this policy does not reach."""
        previous = self.previous or signal.default_int_handler
        try:
            previous(signal.SIGINT, None)
        except BaseException:
            self.heard += 1
            raise

    def come(self, number: int, frame: FrameType | None) -> None:
        """Take a Ctrl-C (the handler of the signal)."""
        if self.hearing:
            self.hearing = False
            self.tell()
            self.interrupt()
            self.hearing = True  # it is one that raises nothing: the wait goes on
        elif not self.noted:
            self.noted = True
            self.tell()
        else:
            self.noted = False
            self.contexts = self.deaf = 0
            self._give_back()
            self.interrupt()

    def _take_over(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        self.previous = None
        if callable(before):
            self.previous = before
            try:
                signal.signal(signal.SIGINT, _come)
            except ValueError:  # a main thread of another interpreter of this process
                self.previous = None

    def _give_back(self) -> None:
        if self.previous is not None and signal.getsignal(signal.SIGINT) is _come:
            signal.signal(signal.SIGINT, self.previous)


_main = _MainThread()
_come = _main.come  # bound once: what is asked for is whether it is this very one
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_main.look)


def _raise_with(error: BaseException | None, interrupt: Callable[[], object]) -> None:
    """Raise an interrupt beside what is on its way already: into a group, or from another error."""
    if error is not None and not isinstance(error, Exception | BaseExceptionGroup):
        return  # it is one itself, or the end of the process
    try:
        interrupt()
    except BaseException as raised:
        if isinstance(error, BaseExceptionGroup):
            raise BaseExceptionGroup(error.message, [*error.exceptions, raised]) from None
        raise raised from error


class Uncut:
    """
    A context in which no first Ctrl-C is raised; may be nested, and used by any thread at any time.

    With `waits_hear` waits are the exception. `begin` and `end` are for what begins in one method and ends in another.
    """

    __slots__ = ("_deaf",)

    def __init__(self, *, waits_hear: bool) -> None:
        self._deaf = not waits_hear

    def begin(self) -> None:
        """Enter the context."""
        if threading.get_ident() == _main.ident:
            _main.begin(deaf=self._deaf)

    def end(self, error: BaseException | None = None) -> None:
        """
        Leave it.

        Raises:
            KeyboardInterrupt: a Ctrl-C came, and nothing holds it back any more. If an error is on its way that is an
                exception group, a group with both; other errors become its cause.

        """
        if threading.get_ident() == _main.ident:
            _main.end(error, deaf=self._deaf)

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)


class Heard:
    """
    The context of a wait: here a Ctrl-C is raised, unless some `uncut` is around it.

    What stands in it must be such that it may be cut anywhere.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        if threading.get_ident() == _main.ident and _main.contexts and not _main.deaf:
            _main.hearing = True  # first: one that comes between the two lines would be heard after the wait only
            self.look()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.get_ident() == _main.ident:
            _main.hearing = False

    def look(self) -> None:
        """
        Look whether a Ctrl-C has come, where one may be heard; for waits that cannot be cut, but look up.

        Raises:
            KeyboardInterrupt: it has.

        """
        if threading.get_ident() == _main.ident and _main.noted and not _main.deaf:
            hearing = _main.hearing
            _main.noted = _main.hearing = False
            _main.interrupt()
            _main.hearing = hearing  # it is one that raises nothing


uncut = Uncut(waits_hear=False)
uncut_between_waits = Uncut(waits_hear=True)
heard = Heard()


def tell_of_interrupts(tell: Callable[[], object]) -> None:
    """
    Have a function called when a first Ctrl-C comes that cannot end everything at once: somebody waits to hear of it.

    The handler of the signal calls it, so it must not use what that may have cut, such as a stream with a buffer.
    """
    _main.tell = tell


def interrupts_heard() -> int:
    """
    Say how many Ctrl-C were raised here so far, or taken (`take_interrupt`), by whomever; 0 in other threads.

    Who runs what is not his own finds out by it that somebody wants to stop, though that has made a result of it.
    """
    return _main.heard if threading.get_ident() == _main.ident else 0


def take_interrupt() -> bool:
    """Say whether a Ctrl-C has come that nobody has heard, and take it: the caller tells of it in its own way."""
    if threading.get_ident() != _main.ident or not _main.noted:
        return False
    _main.noted = False
    _main.heard += 1
    return True
