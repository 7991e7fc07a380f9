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
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from types import TracebackType

from vmstate.clocks._threads import start
from vmstate.clocks.clock import Event, Lock, finite_or_none, seconds_to_ns
from vmstate.clocks.policy import Explorer, InOrder, Policy
from vmstate.errors import ClockError
from vmstate.interrupts import heard, uncut, uncut_between_waits


class DeadlockError(ClockError):
    """All threads that take part in a virtual clock wait, and none of them for a time."""


class StalledError(ClockError):
    """A thread that takes part in a virtual clock blocks outside of it, so that time stands still."""


class _Task:
    """
    A thread as the clock knows it. All fields are guarded by the clock's mutex, but for the baton.

    A thread that has the baton may read `error` and `timed_out` of its own without the mutex: both are written while
    it waits, and never while it runs.
    """

    __slots__ = (
        "baton",
        "deadline",
        "depth",
        "error",
        "finished",
        "hears",
        "idle",
        "joiners",
        "longest_s",
        "name",
        "number",
        "order",
        "outside",
        "queue",
        "thread",
        "timed_out",
        "waits_for",
        "waits_for_thread",
    )

    def __init__(self, name: str, thread: threading.Thread | None, number: int) -> None:
        self.name = name
        self.number = number
        self.hears = False  # whether Ctrl-C may end its waits: the main thread
        self.longest_s = _NEVER_S  # how long it may wait for its baton without looking up
        self.thread = thread
        self.baton = _new_lock()  # held while the thread has to wait; released to let it run
        self.baton.acquire()
        self.depth = 1
        self.finished = False
        self.joiners: _Queue = OrderedDict()
        self.waits_for: str | float = "its first turn"  # or of how many seconds a sleep has to end
        self.waits_for_thread: _Task | None = None
        self.outside = False
        self.idle = False
        self.queue: _Queue | None = None  # where it waits to be woken by another
        self.deadline = 0  # when it wakes by itself,
        self.order = -1  # and which of those who do so; -1: it does not
        self.timed_out = False
        self.error: BaseException | None = None


# Who waits for the same thing. A plain dict would do for all but this: taking the first of it again and again walks
# over the places of all that were taken before, and a thousand devices wait in one queue.
_Queue = OrderedDict[_Task, None]


_new_lock = threading.Lock  # bound here: exploring replaces the name for others, by locks that wait through this clock
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
        self._in_order = isinstance(self._policy, InOrder)  # which takes the first, and needs no list of thousands
        self._explorer = policy if policy is not None and isinstance(policy, Explorer) else None
        self._any_time = self._explorer is not None and self._explorer.any_time
        self._local = threading.local()  # .task: the calling thread's, while it takes part
        self._mutex = _new_lock()  # guards all below, and all tasks; held for moments only
        self._now_ns = 0
        self._order = itertools.count()
        self._numbers = itertools.count()
        self._running: _Task | None = None
        self._woken: _Queue = OrderedDict()
        self._due: _Queue = OrderedDict()
        self._sleepers: list[tuple[int, int, _Task]] = []  # a heap; those who were woken stay in it for a while
        self._tasks: _Queue = OrderedDict()
        self._threads: dict[threading.Thread, _Task] = {}
        self._turn_began_s = 0.0  # real time
        self._broken: ClockError | None = None
        self._last: _Task | None = None  # waits in `drain` for all others
        self._over = False  # it has been drained

    # What `vmstate.Clock` asks for:

    def now(self) -> int:
        """Nanoseconds of virtual time since the clock was made."""
        return self._now_ns

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of virtual time; others run meanwhile."""
        duration = seconds_to_ns(seconds)
        try:
            task: _Task = self._local.task
        except AttributeError:
            with self.taking_part():
                self.sleep(seconds)
            return
        with self._mutex:
            self._go_to_wait(task, None, seconds, duration)
        self._take_turn(task)

    def start_thread(self, target: Callable[[], object], name: str) -> threading.Thread:
        """Start a daemon thread that takes part from its beginning to its end."""
        with self._mutex:
            task = _Task(name, None, next(self._numbers))
        task.longest_s = self._stall_limit_s
        explorer = self._explorer

        def run() -> None:
            self._local.task = task
            try:
                with suppress(ClockError):  # of a world that stands: the work is begun, and hears of it there
                    self._take_turn(task)
                if explorer is None:
                    target()
                else:
                    explorer.run_thread(task, target)
            finally:
                self._finish(task)

        thread = threading.Thread(target=run, name=name, daemon=True)
        task.thread = thread
        with uncut:
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
        return _Participation(self)

    # What exploring asks for:

    def checkpoint(self, place: str) -> None:
        """Let somebody else go on, if the policy is an `Explorer` and says so; `place` says where this thread is."""
        task = self._current()
        if self._explorer is None or task is None:
            return
        with self._mutex:
            if self._broken is not None:
                raise self._broken
            self._explorer.leaves(task, place, goes_on=True)
            task.waits_for = "its next turn"
            self._woken[task] = None
            self._running = None
            self._hand_over()
        self._take_turn(task)

    def drain(self) -> list[threading.Thread]:
        """
        Wait until no other thread can go on, then end those that wait idly, or for somebody outside; gives these.

        For the last thing that is done with a clock: whoever waits through it afterwards hears that it is over. Not
        made of `join`: each end of a thread would wake the caller, and make another choice of who goes next.
        """
        task = self._current()
        if task is None:
            raise ClockError("only a thread that takes part in the clock can drain it")
        with self._mutex:
            self._last = task
            self._go_to_wait(task, None, "the end of all other threads", None)
        self._take_turn(task)
        with self._mutex:
            self._last = None
            self._over = True
            self._broken = ClockError("this run is over: nobody goes on waiting in it")
            left = [other for other in self._tasks if other is not task]
            for other in left:
                other.error = self._broken
                self._stop_waiting(other)
                self._woken[other] = None
            return [other.thread for other in left if other.thread is not None]

    def _current(self) -> _Task | None:
        return getattr(self._local, "task", None)

    def _join_in(self) -> _Task:
        thread = threading.current_thread()
        with self._mutex:
            task = _Task(thread.name, thread, next(self._numbers))
        # A signal that comes when the interpreter has just begun to wait does not end that wait, but is heard after it.
        task.hears = thread is threading.main_thread()
        task.longest_s = min(self._stall_limit_s, _HEARD_WITHIN_S) if task.hears else self._stall_limit_s
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
        del self._local.task
        with self._mutex:
            task.finished = True
            self._forget(task)
            if self._explorer is not None:
                self._explorer.leaves(task, "end", goes_on=False)
            for joiner in list(task.joiners):
                self._wake(joiner)
            self._hand_over_if_free(task)
            if self._broken is not None and not self._over and all(other.idle for other in self._tasks):
                self._broken = None  # whoever comes next finds a clock that works

    # How threads wait:

    def _go_to_wait(
        self, task: _Task, queue: _Queue | None, what: str | float, duration_ns: int | None, thread: _Task | None = None
    ) -> None:
        """
        Let others run until woken through `queue`, or for so long; the caller then has to take its turn.

        To be called with the mutex held, by a thread that takes part: `task` is its own. Handing over is done here
        and not by whoever wakes up next: between the two there would be a moment in which nobody runs and nobody
        knows who is next, and a thread that comes in just then would go first.
        """
        if self._broken is not None and (self._over or not task.idle):
            task.idle = False
            raise self._broken
        task.waits_for = what
        task.waits_for_thread = thread
        task.timed_out = False
        task.queue = queue
        if queue is not None:
            queue[task] = None
        if duration_ns is not None:
            task.deadline = deadline = self._now_ns + duration_ns
            task.order = order = next(self._order)
            if queue is None and self._any_time:
                self._due[task] = None  # how long it sleeps is not known: it may be as short as nothing
            else:
                heapq.heappush(self._sleepers, (deadline, order, task))
        if self._explorer is not None:
            self._explorer.leaves(task, what if isinstance(what, str) else "sleep", goes_on=False)
        self._running = None
        self._hand_over()

    def _take_turn(self, task: _Task) -> None:
        """
        Wait for the baton; raises what the clock, or a Ctrl-C, had to say meanwhile.

        Each thread has a baton of its own. Rejected: one condition for all, which wakes every thread to have all but
        one go back to sleep. And the mutex is not taken again in the usual case: whoever handed the baton over wrote
        all that is read here before.
        """
        try:
            if task.hears:
                with heard:
                    in_time = task.baton.acquire(timeout=task.longest_s)
            else:
                in_time = task.baton.acquire(timeout=task.longest_s)
        except BaseException as error:  # noqa: BLE001 - raised as soon as it is this thread's turn
            self._wait_on(task, error)
            return
        if not in_time:
            self._wait_on(task, None)
            return
        task.idle = False
        if task.error is not None:
            failure, task.error = task.error, None
            raise failure

    def _wait_on(self, task: _Task, interrupt: BaseException | None) -> None:
        """Go on waiting for the baton: nothing came for as long as may be, or a Ctrl-C did."""
        told = False
        while True:
            try:
                if interrupt is not None and not told:
                    with self._mutex:
                        if self._running is task:
                            # Whether the signal came before the baton was taken or after it, nobody can say. So it
                            # is taken if it is there: one that is left free would let the next wait through at once.
                            task.baton.acquire(blocking=False)
                            break
                        if task not in self._woken:
                            self._wake(task)
                    told = True
                with self._mutex:
                    patience_s = self._patience_s(task)
                    if patience_s <= 0:
                        self._break(task)
                        break
                if interrupt is None and task.hears:
                    with heard:
                        in_time = task.baton.acquire(timeout=min(patience_s, task.longest_s))
                else:
                    in_time = task.baton.acquire(timeout=min(patience_s, task.longest_s))
                if in_time:
                    break
            except BaseException as error:  # noqa: BLE001 - Ctrl-C: raised as soon as it is this thread's turn
                interrupt, told = error, False
        with self._mutex:
            failure = interrupt or task.error
            task.error = None
            task.idle = False
        if failure is not None:
            raise failure

    def _patience_s(self, task: _Task) -> float:
        """Give for how long a thread goes on waiting; nothing is left if whoever runs has blocked outside."""
        left_s = self._turn_began_s + self._stall_limit_s - time.monotonic()
        if self._running is None:
            self._hand_over()  # whoever outside could have ended the wait may be gone
        elif left_s <= 0 and self._running is not task and not task.idle:
            return 0.0
        return left_s if left_s > 0 else self._stall_limit_s

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
        task.order = -1
        if self._due:
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
        task = None
        if not self._woken and not self._due:
            task = self._move_time()
            if task is None and not self._due and not self._find_victim():
                return
        if task is None:
            task = self._next()
        # First of all, since it takes the system its time to wake a thread: what is left to do here is done meanwhile.
        # Whoever is woken finds the mutex held until then.
        task.baton.release()
        self._running = task
        self._turn_began_s = time.monotonic()

    def _find_victim(self) -> bool:
        """Wake somebody who hears that nobody can ever run again; False if that is not so, or nobody minds."""
        victim = self._victim()
        if victim is not None:
            deadlock = DeadlockError(f"nobody can ever run again, all wait:\n{self._picture()}")
            victim.error = deadlock
            if self._explorer is not None:
                self._explorer.deadlocked(deadlock)
        elif self._last is not None:
            victim = self._last
        else:
            return False
        self._stop_waiting(victim)
        self._woken[victim] = None
        return True

    def _next(self) -> _Task:
        if self._in_order:
            if self._woken:
                return self._woken.popitem(last=False)[0]
            task = self._due.popitem(last=False)[0]
        else:
            woken, due = list(self._woken), self._those_due()
            place = self._policy.choose(woken, due)
            if self._explorer is not None and self._explorer.gave_up is not None and self._broken is None:
                self._broken = self._explorer.gave_up  # raised by whoever waits next, in whatever thread
            if place < len(woken):
                task = woken[place]
                del self._woken[task]
                return task
            task = due[place - len(woken)]
            del self._due[task]
            self._see_to_the_others(task)
        task.timed_out = True
        self._stop_waiting(task)
        return task

    def _those_due(self) -> list[_Task]:
        """Who may wake by time, in the order of what they asked for."""
        due = list(self._due)
        if self._any_time:
            due.sort(key=_deadline)
        return due

    def _see_to_the_others(self, task: _Task) -> None:
        """
        Where durations are unknown, let time get to who was taken, and let no time-out stay due.

        A sleeper that is overtaken wakes later than it asked for, so time moves only forward. A wait for something
        else that could have timed out now must not do so while the one that was taken goes on: it may be about to
        bring what is waited for.
        """
        if not self._any_time:
            return
        self._now_ns = max(self._now_ns, task.deadline)
        for other in [other for other in self._due if other.queue is not None]:
            del self._due[other]
            heapq.heappush(self._sleepers, (other.deadline, other.order, other))

    def _move_time(self) -> _Task | None:
        """
        Jump to the next deadline, and make all due whose it is.

        If that is one thread only, and nobody is to be asked, it is given at once, and can go on: so it is with nearly
        every sleep, and a queue of one that is filled and emptied costs as much as the sleep itself.
        """
        sleepers, due, first = self._sleepers, self._due, None
        while sleepers:
            deadline, order, task = sleepers[0]
            if task.order != order:
                # Was woken before its time. To look for its place in the heap at that moment, and close the gap,
                # would cost as much as all others together: a watchdog's wait is hardly ever the one that ends.
                heapq.heappop(sleepers)
            elif first is None:
                heapq.heappop(sleepers)
                first = task
                self._now_ns = max(self._now_ns, deadline)
            elif deadline > self._now_ns:
                break
            else:
                heapq.heappop(sleepers)
                due[first] = None
                due[task] = None
        if first is None:
            return None
        if due or not self._in_order:
            due[first] = None
            return None
        first.timed_out = True
        if first.queue is None:
            first.order = -1
        else:
            self._stop_waiting(first)
        return first

    # What can go wrong:

    def _victim(self) -> _Task | None:
        """Choose whom to tell of a deadlock: the last who waits for something else than another thread."""
        waiting = [task for task in self._tasks if task.queue is not None]
        stuck = [task for task in waiting if not task.idle]
        if self._last is not None:
            stuck = [task for task in stuck if not task.outside]  # it was given up, and is nobody's any more
        if not stuck:
            return None
        # An exploration is a closed world: what is outside of it (whoever runs the tests) will not end the wait.
        if self._explorer is None and any(task.outside for task in stuck) and self._somebody_outside():
            return None
        # Who waits for the end of a thread waits on if that thread is told, and sees what becomes of it; the last to
        # wait is the one that has closed the circle. Rejected: to tell all. Nobody could put it right any more.
        return next((task for task in reversed(stuck) if task.waits_for_thread is None), stuck[-1])

    def _somebody_outside(self) -> bool:
        return any(thread not in self._threads for thread in threading.enumerate())

    def _break(self, task: _Task) -> None:
        """Give up on a world that somebody has stopped; every thread that waits in it hears the same."""
        running = self._running
        if self._broken is None and running is not None:
            what = _described(running.waits_for)
            self._broken = StalledError(
                f"thread {running.name!r} takes part in the virtual clock, but has blocked outside of it for "
                f"more than {self._stall_limit_s:g} s of real time, while others wait. It waited through the "
                f"clock last for {what}, and is now here:\n{_stack(running)}"
                f"Let it wait through the clock, or leave the clock before it blocks. Who waits for what:\n"
                f"{self._picture()}"
            )
        self._stop_waiting(task)
        self._woken.pop(task, None)
        task.error = self._broken

    def _picture(self) -> str:
        lines = []
        for task in self._tasks:
            doing = "runs" if task is self._running else f"waits for {_described(task.waits_for)}"
            lines.append(f"  {task.name}: {doing}{', which somebody outside may end' if task.outside else ''}")
        return "\n".join(lines)

    # What locks, events and joins are made of:

    def _wait_for_end(self, task: _Task, limit_ns: int | None) -> bool:
        me: _Task = self._local.task
        with self._mutex:
            if task.finished:
                return True
            self._go_to_wait(me, task.joiners, f"the end of thread {task.name!r}", limit_ns, thread=task)
        self._take_turn(me)
        return not me.timed_out


class _Participation:
    """
    The context of `VirtualClock.taking_part`.

    A class of its own and no generator: each lock that is taken by a thread that takes part already goes through it,
    and a generator costs three times as much there.
    """

    __slots__ = ("_clock", "_joined")

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._joined: _Task | None = None

    def __enter__(self) -> None:
        task = self._clock._current()
        if task is not None:
            task.depth += 1
            return
        uncut_between_waits.begin()  # until it has left: no Ctrl-C leaves one in the clock that is not there any more
        try:
            self._joined = self._clock._join_in()
        except BaseException as failure:
            uncut_between_waits.end(failure)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._joined is not None:
            self._clock._finish(self._joined)
            uncut_between_waits.end(error)
        elif (task := self._clock._current()) is not None:
            task.depth -= 1


def _deadline(task: _Task) -> tuple[int, int]:
    return task.deadline, task.order


def _described(what: str | float) -> str:
    """Name what is waited for; a sleep is put into words only when somebody asks, since most are over by then."""
    return what if isinstance(what, str) else f"the end of a sleep of {what:g} s"


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
        got = False
        try:
            with self._clock.taking_part():
                got = self._acquire(blocking, timeout)
            return got  # noqa: TRY300, RET504 - in the block: a Ctrl-C may come here still
        except BaseException:
            if got:  # a Ctrl-C has come meanwhile
                self.release()
            raise

    def _acquire(self, blocking: bool, timeout: float) -> bool:
        clock = self._clock
        if blocking and clock._explorer is not None and not self._held and not self._idle:
            clock.checkpoint(f"take {self._name}")  # a lock that is free now may be somebody else's before
        with clock._mutex:
            if not self._held:
                self._held = True
                return True
            if not blocking:
                return False
            limit = None if timeout < 0 else _limit_ns(timeout)
            task: _Task = clock._local.task
            task.idle = self._idle
            clock._go_to_wait(task, self._queue, self._name, limit)
        try:
            clock._take_turn(task)
        except BaseException:
            # A Ctrl-C may come when the lock has been handed over already: nobody else would ever let go of it.
            if self._handed_to(task):
                self.release()
            raise
        return self._handed_to(task)

    def release(self) -> None:
        """Give the lock up, or hand it to who has waited longest."""
        clock = self._clock
        with uncut, clock._mutex:
            if not self._held:
                raise RuntimeError(f"{self._name}: released, but not held")
            if self._queue:
                # Handed over, and not set free: who lets go of a lock runs on, and would have it again before anybody
                # who has waited for it gets to ask.
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
        with uncut, clock._mutex:
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
            task: _Task = clock._local.task
            with clock._mutex:
                if self._set:
                    return True
                task.outside = self._outside
                clock._go_to_wait(task, self._queue, self._name, limit)
            try:
                clock._take_turn(task)
            finally:
                task.outside = False
            return not task.timed_out
