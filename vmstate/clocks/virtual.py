"""
A virtual clock: real threads, whose waits take no real time.

Threads that take part run one at a time and hand over where they wait. When all of them wait, time jumps to
the next deadline. So a run with the same threads gives the same order and the same times, always.

Guarantees:
- No thread that takes part runs while another does.
- Time never goes back, and stands still while any thread that takes part can run.
- No wake-up is lost: who was woken by another runs before time moves.
- Ties are in order: threads woken by others in the order of waking; then sleepers by (deadline, order of
  going to sleep).
- An exception in one thread does not stop the clock for the others.
- The clock can be used again after a run, also after one that failed, and keeps no thread between runs.
- If nobody can ever run again, that is a `DeadlockError` at once; if somebody blocks outside the clock while
  others wait, a `StalledError` after a limit of real time. Both say who waits for what.
"""

import heapq
import itertools
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from vmstate.clocks._threads import start
from vmstate.clocks.clock import Event, Lock, finite_or_none, seconds_to_ns
from vmstate.clocks.policy import InOrder, Policy
from vmstate.errors import ClockError


class DeadlockError(ClockError):
    """All threads that take part in a virtual clock wait, and none of them for a time."""


class StalledError(ClockError):
    """A thread that takes part in a virtual clock blocks outside of it, so that time stands still."""


class _Task:
    """A thread as the clock knows it. All fields are guarded by the clock's mutex, but for the baton."""

    __slots__ = (
        "baton",
        "deadline",
        "depth",
        "error",
        "finished",
        "idle",
        "joiners",
        "name",
        "outside",
        "queue",
        "thread",
        "timed_out",
        "waits_for",
        "waits_for_thread",
    )

    def __init__(self, name: str, thread: threading.Thread | None) -> None:
        self.name = name
        self.thread = thread
        self.baton = threading.Lock()  # held while the thread has to wait; released to let it run
        self.baton.acquire()
        self.depth = 1
        self.finished = False
        self.joiners: _Queue = OrderedDict()
        self.waits_for = "its first turn"
        self.waits_for_thread: _Task | None = None
        self.outside = False
        self.idle = False
        self.queue: _Queue | None = None  # where it waits to be woken by another
        self.deadline: tuple[int, int] | None = None  # when, and in which order, it wakes by itself
        self.timed_out = False
        self.error: BaseException | None = None


_Queue = OrderedDict[_Task, None]


_HEARD_WITHIN_S = 0.5  # how long Ctrl-C may go unheard at most


class VirtualClock:
    """
    The clock to pass as `Machine(clock=...)`, the same one to all machines that have to do with one another.

    `stall_limit_s` is how long, in real seconds, a thread may block outside the clock while others wait (None, or
    `math.inf`: for ever). `policy` decides who goes next.
    """

    def __init__(self, *, stall_limit_s: float | None = 30.0, policy: Policy | None = None) -> None:
        limit_s = finite_or_none(stall_limit_s)
        self._stall_limit_s = _NEVER_S if limit_s is None else limit_s
        self._policy: Policy = policy or InOrder()
        self._local = threading.local()  # .task: the calling thread's, while it takes part
        self._mutex = threading.Lock()  # guards all below, and all tasks; held for moments only
        self._now_ns = 0
        self._order = itertools.count()
        self._running: _Task | None = None
        self._woken: _Queue = OrderedDict()
        self._due: _Queue = OrderedDict()
        self._sleepers: list[tuple[int, int, _Task]] = []  # a heap; those who were woken stay in it for a while
        self._tasks: _Queue = OrderedDict()
        self._threads: dict[threading.Thread, _Task] = {}
        self._turn_began_s = 0.0  # real time
        self._broken: StalledError | None = None

    # What `vmstate.Clock` asks for:

    def now(self) -> int:
        """Nanoseconds of virtual time since the clock was made."""
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of virtual time; others run meanwhile."""
        duration = seconds_to_ns(seconds)
        with self.taking_part():
            with self._mutex:
                task = self._go_to_wait(None, f"the end of a sleep of {seconds:g} s", duration)
            self._take_turn(task)

    def start_thread(self, target: Callable[[], object], name: str) -> threading.Thread:
        """Start a daemon thread that takes part from its beginning to its end."""
        task = _Task(name, None)

        def run() -> None:
            self._local.task = task
            try:
                with suppress(ClockError):  # of a world that stands: the work is begun, and hears of it there
                    self._take_turn(task)
                target()
            finally:
                self._finish(task)

        thread = threading.Thread(target=run, name=name, daemon=True)
        task.thread = thread
        with self._mutex:
            self._tasks[task] = None
            self._threads[thread] = task
            self._wake(task)
        try:
            start(thread)
        except BaseException:
            with self._mutex:
                self._forget(task)
                self._hand_over_if_free(task)
            raise
        return thread

    def join(self, thread: threading.Thread, timeout: float | None = None) -> bool:
        """Wait for the end of a thread, in virtual time."""
        limit = _limit_ns(timeout)
        with self.taking_part():
            with self._mutex:
                task = self._threads.get(thread)
            if task is not None and not self._wait_for_end(task, limit):
                return False
        thread.join()  # it has left the clock, and is about to end
        return True

    def give_way(self) -> None:
        """Do nothing: one thread runs at a time here, and who was woken waits for its turn."""

    def lock(self, name: str, *, idle: bool = False) -> Lock:
        """Make a lock that is handed over in the order of asking; to wait for an `idle` one is no deadlock."""
        return _VirtualLock(self, name, idle)

    def event(self, name: str, *, outside: bool = False) -> Event:
        """Make an event; a wait for one of `outside` is no deadlock while threads that take no part live."""
        return _VirtualEvent(self, name, outside)

    def taking_part(self) -> AbstractContextManager[None]:
        """Make the calling thread take part until the context ends; may be nested."""
        return self._participation()

    @contextmanager
    def _participation(self) -> Iterator[None]:
        task = self._current()
        if task is not None:
            task.depth += 1
            try:
                yield
            finally:
                task.depth -= 1
            return
        task = self._join_in()
        try:
            yield
        finally:
            self._finish(task)

    def _current(self) -> _Task | None:
        return getattr(self._local, "task", None)

    def _join_in(self) -> _Task:
        thread = threading.current_thread()
        task = _Task(thread.name, thread)
        with self._mutex:
            self._tasks[task] = None
            self._threads[thread] = task
            self._wake(task)
        self._local.task = task
        try:
            self._take_turn(task)
        except BaseException:
            self._finish(task)
            raise
        return task

    def _finish(self, task: _Task) -> None:
        """Leave the clock, waking whoever waits for that."""
        self._local.task = None
        with self._mutex:
            task.finished = True
            self._forget(task)
            for joiner in list(task.joiners):
                self._wake(joiner)
            self._hand_over_if_free(task)
            if all(other.idle for other in self._tasks):
                self._broken = None  # whoever comes next finds a clock that works

    # How threads wait:

    def _go_to_wait(
        self,
        queue: _Queue | None,
        what: str,
        duration_ns: int | None,
        *,
        outside: bool = False,
        idle: bool = False,
        thread: _Task | None = None,
    ) -> _Task:
        """
        Let others run until woken through `queue`, or for so long; the caller then has to take its turn.

        To be called with the mutex held, by a thread that takes part.
        """
        if self._broken is not None and not idle:
            raise self._broken
        task: _Task = self._local.task
        task.waits_for = what
        task.waits_for_thread = thread
        task.outside = outside
        task.idle = idle
        task.timed_out = False
        task.queue = queue
        if queue is not None:
            queue[task] = None
        if duration_ns is not None:
            task.deadline = (self._now_ns + duration_ns, next(self._order))
            heapq.heappush(self._sleepers, (*task.deadline, task))
        self._running = None
        self._hand_over()
        return task

    def _take_turn(self, task: _Task) -> None:
        """Wait for the baton; raises what the clock, or a Ctrl-C, had to say meanwhile."""
        interrupt: BaseException | None = None
        patience_s = self._stall_limit_s
        # A signal that comes when the interpreter has just begun to wait does not end that wait, but is heard after it.
        longest_s = _HEARD_WITHIN_S if threading.current_thread() is threading.main_thread() else patience_s
        while True:
            try:
                if task.baton.acquire(timeout=min(patience_s, longest_s)):
                    break
                with self._mutex:
                    patience_s = self._turn_began_s + self._stall_limit_s - time.monotonic()
                    if self._running is None:
                        self._hand_over()  # whoever outside could have ended the wait may be gone
                    elif patience_s <= 0 and self._running is not task and not task.idle:
                        self._break(task)
                        break
                    if patience_s <= 0:
                        patience_s = self._stall_limit_s
            except BaseException as error:  # noqa: BLE001 - Ctrl-C: raised as soon as it is this thread's turn
                interrupt = error
                with self._mutex:
                    if self._running is task:
                        task.baton.acquire(blocking=False)  # it may, or may not, have been taken already
                        break
                    if task not in self._woken:
                        self._wake(task)
        with self._mutex:
            failure = interrupt or task.error
            task.error = None
            task.idle = False
        if failure is not None:
            raise failure

    def _wake(self, task: _Task) -> None:
        """Let a waiting thread run when it is its turn. With the mutex held, as all below."""
        self._stop_waiting(task)
        self._woken[task] = None
        if self._running is None:
            self._hand_over()

    def _stop_waiting(self, task: _Task) -> None:
        if task.queue is not None:
            task.queue.pop(task, None)
            task.queue = None
        task.deadline = None
        self._due.pop(task, None)

    def _forget(self, task: _Task) -> None:
        self._stop_waiting(task)
        self._woken.pop(task, None)
        self._tasks.pop(task, None)
        if task.thread is not None:
            self._threads.pop(task.thread, None)

    def _hand_over_if_free(self, task: _Task) -> None:
        if self._running is task:
            self._running = None
            self._hand_over()

    def _hand_over(self) -> None:
        """Let somebody run. Nobody does now."""
        if not self._woken and not self._due:
            self._move_time()
        if not self._woken and not self._due:
            victim = self._victim()
            if victim is None:
                return
            victim.error = DeadlockError(f"nobody can ever run again, all wait:\n{self._picture()}")
            self._stop_waiting(victim)
            self._woken[victim] = None
        task = self._next()
        self._turn_began_s = time.monotonic()
        self._running = task
        task.baton.release()

    def _next(self) -> _Task:
        place = 0
        if not isinstance(self._policy, InOrder):  # which takes the first, and needs no list of thousands for that
            place = self._policy.choose(list(self._woken), list(self._due))
        if place < len(self._woken):
            return self._take(self._woken, place)
        task = self._take(self._due, place - len(self._woken))
        task.timed_out = True
        self._stop_waiting(task)
        return task

    @staticmethod
    def _take(queue: _Queue, place: int) -> _Task:
        if place == 0:
            return queue.popitem(last=False)[0]
        task = next(itertools.islice(queue, place, None))
        del queue[task]
        return task

    def _move_time(self) -> None:
        """Jump to the next deadline, and make all due whose it is."""
        while self._sleepers:
            deadline, order, task = self._sleepers[0]
            if task.deadline != (deadline, order):  # was woken before its time
                heapq.heappop(self._sleepers)
            elif self._due and deadline > self._now_ns:
                return
            else:
                heapq.heappop(self._sleepers)
                self._now_ns = max(self._now_ns, deadline)
                self._due[task] = None

    # What can go wrong:

    def _victim(self) -> _Task | None:
        """Choose whom to tell of a deadlock: the last who waits for something else than another thread."""
        waiting = [task for task in self._tasks if task.queue is not None]
        stuck = [task for task in waiting if not task.idle]
        if not stuck:
            return None
        if any(task.outside for task in stuck) and self._somebody_outside():
            return None
        return next((task for task in reversed(stuck) if task.waits_for_thread is None), stuck[-1])

    def _somebody_outside(self) -> bool:
        return any(thread not in self._threads for thread in threading.enumerate())

    def _break(self, task: _Task) -> None:
        """Give up on a world that somebody has stopped; every thread that waits in it hears the same."""
        running = self._running
        if self._broken is None and running is not None:
            self._broken = StalledError(
                f"thread {running.name!r} takes part in the virtual clock, but has blocked outside of it for "
                f"more than {self._stall_limit_s:g} s of real time, while others wait. It waited through the "
                f"clock last for {running.waits_for}, and is now here:\n{_stack(running)}"
                f"Let it wait through the clock, or leave the clock before it blocks. Who waits for what:\n"
                f"{self._picture()}"
            )
        self._stop_waiting(task)
        self._woken.pop(task, None)
        task.error = self._broken

    def _picture(self) -> str:
        lines = []
        for task in self._tasks:
            doing = "runs" if task is self._running else f"waits for {task.waits_for}"
            lines.append(f"  {task.name}: {doing}{', which somebody outside may end' if task.outside else ''}")
        return "\n".join(lines)

    # What locks, events and joins are made of:

    def _wait_for_end(self, task: _Task, limit_ns: int | None) -> bool:
        with self._mutex:
            if task.finished:
                return True
            me = self._go_to_wait(task.joiners, f"the end of thread {task.name!r}", limit_ns, thread=task)
        self._take_turn(me)
        return not me.timed_out


def _limit_ns(timeout: float | None) -> int | None:
    seconds = finite_or_none(timeout)
    return None if seconds is None else seconds_to_ns(seconds)


def _stack(task: _Task) -> str:
    """Show where a thread is, innermost frames last."""
    frame = sys._current_frames().get(task.thread.ident or 0) if task.thread is not None else None
    return "".join(traceback.format_stack(frame, limit=_FRAMES)) if frame is not None else "  (it has ended)\n"


_NEVER_S = 1e9  # as good as never: some 30 years
_FRAMES = 4  # of a stack, the innermost


class _VirtualLock:
    """A lock of the virtual clock; all fields are guarded by the clock's mutex."""

    def __init__(self, clock: VirtualClock, name: str, idle: bool) -> None:
        self._clock = clock
        self._name = name
        self._idle = idle
        self._held = False
        self._heir: _Task | None = None  # to whom it was handed, until it goes on
        self._queue: _Queue = OrderedDict()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, in the order of asking."""
        clock = self._clock
        with clock.taking_part():
            with clock._mutex:
                if not self._held:
                    self._held = True
                    return True
                if not blocking:
                    return False
                limit = None if timeout < 0 else _limit_ns(timeout)
                task = clock._go_to_wait(self._queue, self._name, limit, idle=self._idle)
            try:
                clock._take_turn(task)
            except BaseException:
                if self._handed_to(task):
                    self.release()
                raise
            return self._handed_to(task)

    def release(self) -> None:
        """Give the lock up, or hand it to who has waited longest."""
        clock = self._clock
        with clock._mutex:
            if not self._held:
                raise RuntimeError(f"{self._name}: released, but not held")
            if self._queue:
                self._heir = next(iter(self._queue))
                clock._wake(self._heir)
            else:
                self._held = False

    def _handed_to(self, task: _Task) -> bool:
        with self._clock._mutex:
            if self._heir is not task:
                return False
            self._heir = None
            return True


class _VirtualEvent:
    """An event of the virtual clock; `_set` and `_queue` are guarded by the clock's mutex."""

    def __init__(self, clock: VirtualClock, name: str, outside: bool) -> None:
        self._clock = clock
        self._name = name
        self._outside = outside
        self._set = False
        self._queue: _Queue = OrderedDict()

    def is_set(self) -> bool:
        """Whether the flag is up."""
        with self._clock._mutex:
            return self._set

    def set(self) -> None:
        """Raise the flag; who waits for it runs in the order of waiting."""
        clock = self._clock
        with clock._mutex:
            self._set = True
            for task in list(self._queue):
                clock._wake(task)

    def clear(self) -> None:
        """Lower the flag."""
        with self._clock._mutex:
            self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the flag, in virtual time."""
        clock = self._clock
        limit = _limit_ns(timeout)
        with clock.taking_part():
            with clock._mutex:
                if self._set:
                    return True
                task = clock._go_to_wait(self._queue, self._name, limit, outside=self._outside)
            clock._take_turn(task)
            return not task.timed_out
