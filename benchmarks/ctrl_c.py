"""
Presses Ctrl-C at each line of what a machine does, and looks at what that leaves behind.

A signal is sent where a line of ours, or of `threading` and `contextlib` below it, is about to run: the first two times
that the main thread runs it, and the first time that each other thread does. What is tried: a whole migration; a stop
and a start; both ends of a migration, each an object of its own. In real and in virtual time, with both launchers of
threads. Afterwards no lock is held, no bracket open, no thread left, the machine runs on one side and can be migrated
by the same clock. It takes half an hour.

    python benchmarks/ctrl_c.py
    python benchmarks/ctrl_c.py --every 50        # one line of fifty
    python benchmarks/ctrl_c.py --times 1000      # as often as the main thread runs it
"""

import argparse
import faulthandler
import multiprocessing
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

import vfio_migration
import vmstate
from vfio_migration import Incoming, Outgoing, migrate
from vfio_migration.testing import PairRig, our_threads
from vmstate import Clock, RealClock, VirtualClock

CLOCKS: dict[str, Callable[[], Clock]] = {"virtual": VirtualClock, "real": RealClock}
LAUNCHERS = ("per-change", "parked")
LIMIT_S = 40.0
TURNS = 5  # after each hang the rest is tried
_OURS = (*vmstate.__path__, *vfio_migration.__path__)
_BELOW = ("threading.py", "contextlib.py")


class Line(NamedTuple):
    """A line that a thread runs: for the `time`-th time."""

    thread: str
    file: str
    number: int
    time: int = 1


class Lines:
    """
    Sees each line that is run, by this thread and by those that are started meanwhile; presses Ctrl-C at one of them.

    `_lock` guards all but `_pressed_at`.
    """

    def __init__(self, pressed_at: Line | None = None, times: int = 2) -> None:
        self.seen: list[Line] = []
        self._times = times
        self.pressed = False
        self._pressed_at = pressed_at
        self._counts: Counter[Line] = Counter()
        self._lock = threading.Lock()
        self._on = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """See lines of the threads that are started here."""
        threading.settrace(self._trace)
        try:
            yield
        finally:
            threading.settrace(None)

    def act(self, act: Callable[[], object]) -> None:
        """Count, and press, while this is done."""
        self._on = True
        sys.settrace(self._trace)
        try:
            act()
        finally:
            sys.settrace(None)
            self._on = False

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(_OURS) and not name.endswith(_BELOW):
            return None
        if event == "line" and self._on:
            self._see(Line(threading.current_thread().name, name, frame.f_lineno))
        return self._trace

    def _see(self, line: Line) -> None:
        main = threading.current_thread() is threading.main_thread()
        with self._lock:
            self._counts[line] += 1
            line = line._replace(time=self._counts[line])
            if line.time > (self._times if main else 1):
                return
            self.seen.append(line)
            press = line == self._pressed_at
            self.pressed |= press
        if press and main:
            signal.raise_signal(signal.SIGINT)  # raises here, where one would be raised
        elif press:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def stop_and_start(pair: PairRig) -> None:
    """Have both walks."""
    pair.source.machine.stop()
    pair.source.machine.start()


def migrate_once(pair: PairRig) -> None:
    """Migrate at once."""
    migrate(pair.source.machine, pair.destination.machine)


def migrate_between_ends(pair: PairRig) -> None:
    """Migrate by two ends; somebody who is interrupted there cancels, and waits."""
    virtual = isinstance(pair.clock, VirtualClock)
    incoming = Incoming(pair.destination.machine, "tcp:here:1" if virtual else "tcp:127.0.0.1:0")
    outgoing: list[Outgoing] = []
    try:
        incoming.start()
        outgoing.append(Outgoing(pair.source.machine, incoming.uri))
        outgoing[0].start()
        outgoing[0].wait()
        incoming.wait()
    except KeyboardInterrupt:
        completed = False
        if outgoing and outgoing[0].started:
            outgoing[0].cancel()
            completed = outgoing[0].wait().completed
        if incoming.started and not completed:
            incoming.cancel()  # to which perhaps nobody has come, and it would wait on, as a QEMU does
        if incoming.started:
            incoming.wait()
        raise


ACTS: dict[str, Callable[[PairRig], None]] = {
    "migrate()": migrate_once,
    "stop(), start()": stop_and_start,
    "Outgoing, Incoming": migrate_between_ends,
}


@dataclass(frozen=True)
class Kind:
    """What is done, in which time, with which launcher."""

    act: str
    clock: str
    launcher: str


@dataclass
class Found:
    """What presses came to: how many, how many were raised; and what was wrong."""

    lines: int = 0
    raised: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Found") -> None:
        """Add what another process found."""
        self.lines += other.lines
        self.raised += other.raised
        self.wrong += other.wrong


def make_pair(kind: Kind) -> PairRig:
    """Make a pair with two devices at different depths, and a handler between them."""
    pair = PairRig(clock=CLOCKS[kind.clock](), threads=kind.launcher)
    for depth, name in enumerate(("vf0", "vf1"), 1):
        pair.add_device(name, depth=depth, latency=0.0002, state_size=100, precopy_size=50)
    pair.add_handler("handler", depth=1, seconds=0.0002, prepare=True)
    return pair


def lines_of(kind: Kind, times: int) -> list[Line]:
    """Give the lines that it runs; those of the main thread as often as it does, but so many times at most."""
    lines = Lines(times=times)
    with lines.watched(), make_pair(kind) as pair:
        lines.act(lambda: ACTS[kind.act](pair))
    return lines.seen


def press(kind: Kind, at: Line) -> Found:
    """Press Ctrl-C at one line, and look at what it leaves."""
    lines, raised, wrong = Lines(at, times=at.time), False, []
    where = f"{kind.act}, {kind.clock}, {kind.launcher}: {at}"
    with lines.watched(), make_pair(kind) as pair:
        before = set(our_threads())
        try:
            lines.act(lambda: ACTS[kind.act](pair))
        except KeyboardInterrupt:
            raised = True
        except BaseException as error:  # noqa: BLE001 - what it should have been
            wrong.append(f"raised {error!r}")
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            wrong.append("Ctrl-C has another handler than before")
        wrong += _left_behind(pair, before)
    return Found(int(lines.pressed), int(raised), [f"{where}: {each}" for each in wrong])


def _left_behind(pair: PairRig, before: set[threading.Thread]) -> list[str]:
    """Give what is not as it was, or cannot go on."""
    wrong = [f"thread {thread.name} is left" for thread in our_threads() if thread not in before]
    machines = pair.source.machine, pair.destination.machine
    for machine in machines:
        free: list[bool] = []

        def take(machine: vmstate.Machine = machine, free: list[bool] = free) -> None:
            with machine.big_lock:
                free.append(True)

        pair.clock.join(pair.clock.start_thread(take, "take the lock"), 5)
        if not free:
            wrong.append(f"the big lock of {machine.name} is held")
        if machine.attempt is not None:
            wrong.append(f"{machine.name} is in a migration")
    if wrong:
        return wrong
    running = [machine for machine in machines if machine.run_state.live]
    if len(running) != 1:
        # A stop that was whole before Ctrl-C was raised is one: its start was never begun.
        if running or machines[0].run_state is not vmstate.RunState.PAUSED:
            return [f"{len(running)} run: {[str(machine.run_state) for machine in machines]}"]
        machines[0].start()
        running = [machines[0]]
    running[0].stop()
    running[0].start()
    report = pair.migrate(back=running[0] is machines[1])
    return [] if report.completed else [f"the next migration did not complete: {report.error!r}"]


def press_all(kind: Kind, lines: list[Line]) -> Found:
    """Press at each of the lines, one after another; a hang ends the process, and says where."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = Found()
    for line in lines:
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        found.add(press(kind, line))
        faulthandler.cancel_dump_traceback_later()
    return found


def press_in_processes(
    pieces: list[tuple[Kind, list[Line]]], processes: int, found: dict[Kind, Found]
) -> list[tuple[Kind, list[Line]]]:
    """Press at all of these; gives what is left where one hung, which ends all processes, and is noted as wrong."""
    left = pieces.copy()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(press_all, *piece): piece for piece in pieces}
        for done in as_completed(waiting):
            piece = waiting[done]
            try:
                found[piece[0]].add(done.result())
            except BrokenExecutor:
                found[piece[0]].wrong.append(f"{piece[0]}: a hang, here or in what ran beside it; see above where")
                pool.shutdown(cancel_futures=True)
                return left
            left.remove(piece)
    return left


def main() -> int:
    """Run it; the exit status is 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="press at one line of so many")
    parser.add_argument("--act", choices=ACTS, action="append", help="only this; may be repeated")
    parser.add_argument("--times", type=int, default=2, help="press at the first so many runs of a line")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    kinds = [Kind(act, clock, by) for act in options.act or ACTS for clock in CLOCKS for by in LAUNCHERS]
    found = {kind: Found() for kind in kinds}
    pieces: list[tuple[Kind, list[Line]]] = []
    for kind in kinds:
        chosen = lines_of(kind, options.times)[:: options.every]
        pieces += [(kind, chosen[at : at + 50]) for at in range(0, len(chosen), 50)]
    for _ in range(TURNS):
        pieces = press_in_processes(pieces, options.processes, found)
        if not pieces:
            break
    table = Table("what", "time", "launcher", "lines pressed at", "raised", "wrong")
    for kind, each in found.items():
        table.add_row(kind.act, kind.clock, kind.launcher, f"{each.lines:,}", f"{each.raised:,}", str(len(each.wrong)))
    console = Console()
    console.print(table)
    wrong = [text for each in found.values() for text in each.wrong]
    for text in wrong[:40]:
        console.print(text, markup=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
