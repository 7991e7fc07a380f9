"""
What `vmstate.HandlerList` costs: notifying, adding, and changing while many handlers are there.

- Notifying: a notification makes two passes, prepare and main. Against it, with as many functions: a bare loop over
  the callbacks in each pass, two hooks of pluggy, two signals of blinker (whose receivers are given the sender too).
- Adding: in random, ascending and descending order of priority, with the settling that the next use makes, against
  `SortedKeyList.add` and `bisect.insort_right` into a list, of entries that are made on the way.
- Changing: so many times, a handler is added and a random one removed, with as many there all the time, against
  `SortedKeyList`. The order is needed at the end or, as the worst case, after each pair of changes.

Contenders take turns, without the garbage collector; the ratio of each turn is what counts.

    python benchmarks/dispatch.py --handlers 10,1000,100000 --json dispatch.json
"""

import argparse
import gc
import importlib
import json
import platform
import random
from bisect import insort_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from math import log10
from operator import attrgetter
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.table import Table

from vmstate import HandlerList, RunState
from vmstate.handlers import Callback, HandlerEntry

PEERS = ("pluggy", "blinker", "sortedcontainers")
PRIORITIES = 1 << 30  # random ones lie below: hardly any two of them are equal
DEPTHS = {  # priorities among the handlers that are notified
    1: "equal priorities",
    16: "16 random priorities",
}
CALLS = 400_000  # at least, in one measurement of notifying
ADDED = 20_000  # at least, in one measurement of adding
LIST_UP_TO = 100_000  # handlers: a plain list moves all entries behind the one that comes
PAIRS = 20  # of changes that are settled one after another

# Rows
STARTING, STOPPING = "HandlerList, starting", "HandlerList, stopping"
AFTER_CHANGE = "HandlerList, after a change"
ADDING, SETTLED = "HandlerList, adding alone", "HandlerList, and settling"
CHANGING = "HandlerList"
SORTED, PLAIN = "SortedKeyList", "list, insort_right"

Figures = dict[str, float]  # of a contender in one turn: the ns of each operation, by row
Contender = Callable[[int], Figures]  # given the number of the turn
Passes = tuple[list[Any], list[Any]]  # the callbacks of both, in the order in which they are called


@dataclass(slots=True, eq=False)
class Entry:
    """What the peers keep in order."""

    priority: int
    callback: Callback


class Plugin:
    """What pluggy finds the callbacks in: the same functions that the others call."""

    __slots__ = ("changed", "prepare")

    def __init__(self, prepare: Any, changed: Any) -> None:
        self.prepare = prepare
        self.changed = changed


@dataclass
class Part:
    """Figures of one kind: rows, with a column for each number of handlers."""

    title: str
    ratios: list[tuple[str, str]]  # of which row to which other
    at_most: list[tuple[str, int, float]] = field(default_factory=list)  # target: to which row, with how many handlers
    samples: dict[int, dict[str, list[float]]] = field(default_factory=dict)  # by handlers and row: one for each turn

    def ratio(self, handlers: int, ours: str, theirs: str) -> dict[str, float] | None:
        """Give the ratio of two rows, turn by turn."""
        rows = self.samples.get(handlers, {})
        if ours not in rows or theirs not in rows:
            return None
        return spread([our / their for our, their in zip(rows[ours], rows[theirs], strict=True)])

    def data(self) -> list[dict[str, Any]]:
        """Give all that was measured, for JSON."""
        return [
            {
                "handlers": handlers,
                "ns": {row: spread(samples) for row, samples in rows.items()},
                "ratios": [
                    {"of": ours, "to": theirs, **ratio}
                    for ours, theirs in self.ratios
                    if (ratio := self.ratio(handlers, ours, theirs))
                ],
            }
            for handlers, rows in self.samples.items()
        ]

    def targets(self) -> list[dict[str, Any]]:
        """Give what is to be reached beside what was measured."""
        return [
            {
                "what": self.title,
                "handlers": handlers,
                "of": ours,
                "to": theirs,
                "at_most": at_most,
                "measured": self.ratio(handlers, ours, theirs),
            }
            for ours, theirs in self.ratios
            for target, handlers, at_most in self.at_most
            if target == theirs
        ]


def spread(samples: list[float]) -> dict[str, float]:
    """Give what stands for all samples."""
    return {"median": median(samples), "min": min(samples), "max": max(samples)}


def in_turns(runs: int, contenders: Iterable[Contender]) -> dict[str, list[float]]:
    """Have all contenders measure, again and again; gives the samples by row."""
    contenders = list(contenders)
    samples: dict[str, list[float]] = {}
    for turn in range(runs):
        for contender in contenders:
            gc.collect()
            gc.disable()
            try:
                figures = contender(turn)
            finally:
                gc.enable()
            for row, figure in figures.items():
                samples.setdefault(row, []).append(figure)
    return samples


def nothing(running: bool, state: RunState) -> None:
    """Be called."""


# Notifying: ns for each handler and pass


def notifying(handlers: int, depths: int, peers: dict[str, Any], pluggy_up_to: int) -> Iterable[Contender]:
    """Prepare all contenders with so many handlers, whose priorities are as many as these depths."""
    rng = random.Random(handlers)
    ours = HandlerList()
    for _ in range(handlers):
        # Functions of their own, as handlers are; all of one kind.
        main, prepare = (lambda running, state: None), (lambda running, state: None)
        ours.add(main, prepare_cb=prepare, priority=rng.randrange(depths))
    passes = [entry.prepare for entry in ours], [entry.main for entry in ours]
    times = max(1, CALLS // (2 * handlers))
    yield our_notifying(ours, times)
    yield bare_loop(passes, times)
    if "pluggy" in peers and handlers <= pluggy_up_to:
        yield pluggy_hooks(peers["pluggy"], passes, times)
    if "blinker" in peers:
        yield blinker_signals(peers["blinker"], handlers, times)


def per_call(notify: Callable[[], object], handlers: int, times: int) -> float:
    """Time so many notifications; gives the ns for each handler and pass."""
    repetitions = range(times)
    start = perf_counter_ns()
    for _ in repetitions:
        notify()
    return (perf_counter_ns() - start) / (times * 2 * handlers)


def our_notifying(ours: HandlerList, times: int) -> Contender:
    """Measure `HandlerList`: settled, and when a handler came or went just before."""
    handlers = len(ours)

    def start() -> None:
        ours.notify(True, RunState.RUNNING)

    def stop() -> None:
        ours.notify(False, RunState.PAUSED)

    def after_a_change() -> float:
        entry = ours.add(nothing)
        added = per_call(start, handlers, 1)
        entry.remove()
        return (added + per_call(start, handlers, 1)) / 2

    def measure(turn: int) -> Figures:
        changes = max(1, times // 10)
        first = sum(after_a_change() for _ in range(changes)) / changes
        start()
        stop()  # both directions are ready from here on
        return {
            STARTING: per_call(start, handlers, times),
            STOPPING: per_call(stop, handlers, times),
            AFTER_CHANGE: first,
        }

    return measure


def bare_loop(passes: Passes, times: int) -> Contender:
    """Measure nothing but the calls."""

    def start() -> None:
        state = RunState.RUNNING
        for callbacks in passes:
            for callback in callbacks:
                callback(True, state)

    return lambda turn: {"bare loop": per_call(start, len(passes[0]), times)}


def pluggy_hooks(pluggy: Any, passes: Passes, times: int) -> Contender:
    """Measure two hooks of pluggy, implemented by the same functions."""
    specify, implement = pluggy.HookspecMarker("vm"), pluggy.HookimplMarker("vm")
    hooks = {"prepare": lambda running, state: None, "changed": lambda running, state: None}
    manager = pluggy.PluginManager("vm")
    manager.add_hookspecs(SimpleNamespace(**{name: specify(hook) for name, hook in hooks.items()}))
    for prepare, main in zip(*passes, strict=True):
        manager.register(Plugin(implement(prepare), implement(main)))

    def start() -> None:
        manager.hook.prepare(running=True, state=RunState.RUNNING)
        manager.hook.changed(running=True, state=RunState.RUNNING)

    return lambda turn: {"pluggy": per_call(start, len(passes[0]), times)}


def blinker_signals(blinker: Any, handlers: int, times: int) -> Contender:
    """Measure two signals of blinker."""
    signals = blinker.Signal(), blinker.Signal()
    for _ in range(handlers):
        for signal in signals:
            signal.connect(lambda sender, running, state: None, weak=False)

    def start() -> None:
        for signal in signals:
            signal.send("machine", running=True, state=RunState.RUNNING)

    return lambda turn: {"blinker": per_call(start, handlers, times)}


# Adding: ns for each handler

ORDERS: dict[str, Callable[[int], list[int]]] = {
    "random": lambda handlers: random.Random(handlers).choices(range(PRIORITIES), k=handlers),
    "ascending": lambda handlers: list(range(handlers)),
    "descending": lambda handlers: list(range(handlers, 0, -1)),
}


by_priority: Callable[[Entry], int] = attrgetter("priority")


def adding(priorities: list[int], peers: dict[str, Any]) -> Iterable[Contender]:
    """Prepare all contenders for these priorities."""
    times = max(1, ADDED // len(priorities))
    yield lambda turn: our_adding(priorities, times)
    if "sortedcontainers" in peers:
        yield lambda turn: sorted_adding(peers["sortedcontainers"].SortedKeyList, priorities, times)
    if len(priorities) <= LIST_UP_TO:
        yield lambda turn: plain_adding(priorities, times)


def our_adding(priorities: list[int], times: int) -> Figures:
    """Fill handler lists, and have each settled."""
    added = settled = 0
    for each in [HandlerList() for _ in range(times)]:
        start = perf_counter_ns()
        for priority in priorities:
            each.add(nothing, priority=priority)
        middle = perf_counter_ns()
        iter(each)
        added += middle - start
        settled += perf_counter_ns() - start
    entries = times * len(priorities)
    return {ADDING: added / entries, SETTLED: settled / entries}


def sorted_adding(sorted_key_list: Any, priorities: list[int], times: int) -> Figures:
    """Fill lists of the peer."""
    lists = [sorted_key_list(key=by_priority) for _ in range(times)]
    start = perf_counter_ns()
    for each in lists:
        for priority in priorities:
            each.add(Entry(priority, nothing))
    return {SORTED: (perf_counter_ns() - start) / (times * len(priorities))}


def plain_adding(priorities: list[int], times: int) -> Figures:
    """Fill plain lists."""
    lists: list[list[Entry]] = [[] for _ in range(times)]
    start = perf_counter_ns()
    for each in lists:
        for priority in priorities:
            insort_right(each, Entry(priority, nothing), key=by_priority)
    return {PLAIN: (perf_counter_ns() - start) / (times * len(priorities))}


# Changing: ns for each handler that comes or goes

VARIANTS = {
    "alone": "order not needed",
    "settled": "order needed at the end",
    "notified": "notified at the end",
    "each": "order needed after each pair",
}


def changing(handlers: int, changes: int, peers: dict[str, Any]) -> Iterable[Contender]:
    """Prepare all contenders with so many handlers; the rows are still to be told apart by `VARIANTS`."""
    rng = random.Random(handlers)
    priorities = rng.choices(range(PRIORITIES), k=handlers)

    def random_changes(turn: int) -> list[tuple[int, int]]:
        rng = random.Random(turn)
        return [(rng.randrange(PRIORITIES), rng.randrange(handlers)) for _ in range(2 * changes + PAIRS)]

    ours = HandlerList()
    our_entries = [ours.add(nothing, prepare_cb=nothing, priority=priority) for priority in priorities]
    yield lambda turn: our_changes(ours, our_entries, random_changes(turn), changes)
    if "sortedcontainers" in peers:
        entries = [Entry(priority, nothing) for priority in priorities]
        peer = peers["sortedcontainers"].SortedKeyList(entries, key=by_priority)
        yield lambda turn: peer_changes(peer, entries, random_changes(turn), changes)


def our_changes(
    ours: HandlerList, present: list[HandlerEntry], all_changes: list[tuple[int, int]], changes: int
) -> Figures:
    """Add and remove handlers, beginning with a settled order each time."""

    def change(changes: list[tuple[int, int]]) -> None:
        for priority, place in changes:
            entry = ours.add(nothing, prepare_cb=nothing, priority=priority)
            present[place].remove()
            present[place] = entry

    def change_one_by_one() -> None:
        for pair in last:
            change([pair])
            iter(ours)

    iter(ours)
    first, second, last = all_changes[:changes], all_changes[changes:-PAIRS], all_changes[-PAIRS:]
    times = [perf_counter_ns()]
    change(first)
    times.append(perf_counter_ns())
    iter(ours)
    times.append(perf_counter_ns())
    change(second)
    ours.notify(True, RunState.RUNNING)
    times.append(perf_counter_ns())
    change_one_by_one()
    times.append(perf_counter_ns())
    return by_variant(CHANGING, times, changes)


def peer_changes(peer: Any, present: list[Entry], all_changes: list[tuple[int, int]], changes: int) -> Figures:
    """Do the same with a `SortedKeyList`."""

    def change(changes: list[tuple[int, int]]) -> None:
        for priority, place in changes:
            entry = Entry(priority, nothing)
            peer.add(entry)
            peer.remove(present[place])
            present[place] = entry

    def notify() -> None:
        state = RunState.RUNNING
        for _ in range(2):
            for entry in peer:
                entry.callback(True, state)

    def change_one_by_one() -> None:
        for pair in last:
            change([pair])
            iter(peer)

    first, second, last = all_changes[:changes], all_changes[changes:-PAIRS], all_changes[-PAIRS:]
    times = [perf_counter_ns()]
    change(first)
    times.append(perf_counter_ns())
    iter(peer)
    times.append(perf_counter_ns())
    change(second)
    notify()
    times.append(perf_counter_ns())
    change_one_by_one()
    times.append(perf_counter_ns())
    return by_variant(SORTED, times, changes)


def by_variant(contender: str, times: list[int], changes: int) -> Figures:
    """Give the ns for each handler that came or went, from when each step of the measurement was over."""
    start, changed, settled, notified, end = times
    return {
        f"{contender}, alone": (changed - start) / (2 * changes),
        f"{contender}, settled": (settled - start) / (2 * changes),
        f"{contender}, notified": (notified - settled) / (2 * changes),
        f"{contender}, each": (end - notified) / (2 * PAIRS),
    }


# All of it


def measure(options: argparse.Namespace, peers: dict[str, Any]) -> dict[str, list[Part]]:
    """Measure everything; gives the parts by topic."""
    notified = {
        depths: Part(title, [(STARTING, "bare loop"), (STARTING, "pluggy"), (STARTING, "blinker")])
        for depths, title in DEPTHS.items()
    }
    notified[1].at_most += [("bare loop", 100_000, 1.6), ("pluggy", 10_000, 0.25), ("blinker", 100_000, 0.15)]
    added = {order: Part(f"{order} priorities", [(SETTLED, SORTED), (SETTLED, PLAIN)]) for order in ORDERS}
    added["random"].at_most.append((SORTED, 100_000, 1.0))
    changed = {variant: Part(needed, [(CHANGING, SORTED)]) for variant, needed in VARIANTS.items()}
    for handlers in options.handlers:
        for depths, part in notified.items():
            contenders = notifying(handlers, depths, peers, options.pluggy_up_to)
            part.samples[handlers] = in_turns(options.runs, contenders)
        for order, part in added.items():
            part.samples[handlers] = in_turns(options.runs, adding(ORDERS[order](handlers), peers))
        samples = in_turns(options.runs, changing(handlers, options.changes, peers))
        rows = [CHANGING, SORTED] if "sortedcontainers" in peers else [CHANGING]
        for variant, part in changed.items():
            part.samples[handlers] = {row: samples[f"{row}, {variant}"] for row in rows}
    return {"notifying": [*notified.values()], "adding": [*added.values()], "changing": [*changed.values()]}


def available() -> dict[str, Any]:
    """Import the peers that are installed."""
    peers = {}
    for name in PEERS:
        try:
            peers[name] = importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed, so it is left out: pip install -e '.[bench]'")
    return peers


def show(console: Console, topic: str, parts: list[Part]) -> None:
    """Print a table: what was measured, by number of handlers."""
    numbers = list(parts[0].samples)
    table = Table(title=f"{topic}: ns {PER[topic]}, with so many handlers")
    table.add_column("")
    for handlers in numbers:
        table.add_column(f"{handlers:,}", justify="right")
    table.add_column("x10", justify="right")
    for part in parts:
        if len(parts) > 1:
            table.add_row(part.title, style="bold")
        for row in dict.fromkeys(row for samples in part.samples.values() for row in samples):
            medians = {handlers: median(samples[row]) for handlers, samples in part.samples.items() if row in samples}
            cells = [_digits(medians[handlers]) if handlers in medians else "-" for handlers in numbers]
            table.add_row(row, *cells, growth(medians))
        for ours, theirs in part.ratios:
            ratios = [part.ratio(handlers, ours, theirs) for handlers in numbers]
            if any(ratios):
                table.add_row(f"ratio to {theirs}", *[_digits(ratio["median"]) if ratio else "-" for ratio in ratios])
                table.add_row("", *[_range(ratio) if ratio else "-" for ratio in ratios], style="dim")
        table.add_section()
    console.print(table)


PER = {
    "notifying": "for each handler and pass",
    "adding": "for each handler added",
    "changing": "for each handler that comes or goes",
}


def show_targets(console: Console, targets: list[dict[str, Any]]) -> None:
    """Print what is to be reached beside what was measured."""
    table = Table(title="ratios to be reached")
    for column in ("", "handlers", "to", "at most", "measured", "least..most"):
        table.add_column(column, justify="left" if column in ("", "to") else "right")
    for target in targets:
        measured = target["measured"]
        table.add_row(
            f"{target['topic']}, {target['what']}",
            f"{target['handlers']:,}",
            target["to"],
            f"{target['at_most']:.2f}",
            _digits(measured["median"]) if measured else "-",
            _range(measured) if measured else "-",
        )
    console.print(table)


def growth(medians: dict[int, float]) -> str:
    """Say by what the last step multiplies a figure, for ten times as many handlers."""
    if len(medians) < 2:
        return "-"
    (fewer, before), (more, after) = list(medians.items())[-2:]
    return f"{(after / before) ** (1 / log10(more / fewer)):.2f}"


def _digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _range(ratio: dict[str, float]) -> str:
    return f"{_digits(ratio['min'])}..{_digits(ratio['max'])}"


def numbers(text: str) -> list[int]:
    """Read numbers of handlers."""
    return sorted({int(number) for number in text.split(",")})


def main() -> None:
    """Read the command line, measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--handlers",
        type=numbers,
        default="10,100,1000,10000,100000",
        help="numbers of handlers (default %(default)s)",
    )
    parser.add_argument("--runs", type=int, default=5, help="turns of all contenders (default %(default)s)")
    parser.add_argument("--changes", type=int, default=10_000, help="pairs of changes (default %(default)s)")
    parser.add_argument(
        "--pluggy-up-to",
        type=int,
        default=10_000,
        metavar="HANDLERS",
        help="registering with pluggy takes time in proportion to their square (default %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    peers = available()
    topics = measure(options, peers)
    targets = [{"topic": topic, **it} for topic, parts in topics.items() for part in parts for it in part.targets()]
    console = Console()
    if not console.is_terminal:
        console.width = 120  # files have room for the whole table
    for topic, parts in topics.items():
        show(console, topic, parts)
    show_targets(console, targets)
    print(f"medians of {options.runs} turn(s); ratios: medians and range of HandlerList over the other, turn by turn")
    print("after a change: the first notification after one, which brings the order up to date and builds its passes")
    print(
        "16 random priorities: what is called lies scattered in memory, where many handlers wait for it; not blinker's"
    )
    print("x10: what ten times as many handlers multiply the time by, at the last step; 1 is flat, 10 linear")
    print(f"-: not measured; pluggy goes up to {options.pluggy_up_to:,} handlers, the plain list to {LIST_UP_TO:,}")
    print(f"changing: {options.changes:,} pairs of one that comes and one that goes; {PAIRS} if each is settled")
    if options.json:
        figures = {
            "python": platform.python_version(),
            "peers": {name: version(name) for name in peers},
            "runs": options.runs,
            "changes": options.changes,
            "targets": targets,
            "topics": {topic: {part.title: part.data() for part in parts} for topic, parts in topics.items()},
        }
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
