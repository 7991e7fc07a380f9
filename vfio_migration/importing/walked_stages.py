"""
What a side that changes its devices in parallel did, stage by stage; a stage is a pass at one depth.

At a stage the walk launches a thread for each device, calls what is in turn (ordinary handlers, devices with parallel
changes off), and joins the threads in the order of their launches. Times are in nanoseconds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vfio_migration.importing.attempts import Window
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.logged_changes import Interval


@dataclass(frozen=True)
class TimedHandler:
    """An ordinary handler's call that a log has both ends of; `depth` is None for one that is no device's."""

    depth: int | None
    prepares: bool
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Stage:
    """A stage: its changes, in the order in which a walk launches them; what was in turn beside them."""

    depth: int
    prepares: bool
    changes: tuple[Interval, ...]
    in_turn: frozenset[str] = frozenset()
    handlers_ns: int = 0

    @property
    def threads(self) -> list[Interval]:
        """Those that have a thread."""
        return [each for each in self.changes if each.device not in self.in_turn]

    @property
    def start_ns(self) -> int:
        """When its first change began."""
        return min(each.start_ns for each in self.changes)

    @property
    def end_ns(self) -> int:
        """When its last change had ended."""
        return max(each.end_ns for each in self.changes)

    def walked(self, launch_ns: float, join_ns: float) -> tuple[float, float]:
        """Give when its last change would have ended and its last thread been joined, both since its beginning."""
        now = 0.0
        ends = []
        for each in self.threads:
            now += launch_ns
            ends.append(now + each.ns)
        now += self.handlers_ns + sum(each.ns for each in self.changes if each.device in self.in_turn)
        last = max([*ends, *([now] if self.in_turn else [])], default=now)
        for end in ends:
            now = max(now, end) + join_ns
        return last, now


@dataclass(frozen=True)
class WalkedSide:
    """A side: from telling its machine to stop or start (`window`), its stages in order, the handlers it shows."""

    window: Window
    running: bool
    stages: tuple[Stage, ...]
    handlers: tuple[TimedHandler, ...] = ()

    @property
    def name(self) -> str:
        """How it is called in notes."""
        return "destination" if self.running else "source"


def walked_side(
    findings: Findings,
    window: Window,
    found: Sequence[Interval],
    handlers: Sequence[TimedHandler] = (),
    *,
    running: bool,
) -> WalkedSide:
    """Put a side's changes in stages."""
    names = findings.devices if running else reversed(findings.devices)
    place = {name: number for number, name in enumerate(names)}
    stages: dict[tuple[bool, int], list[Interval]] = {}
    for each in sorted(found, key=lambda each: place[each.device]):
        stages.setdefault((each.prepares, findings.devices[each.device].depth), []).append(each)
    in_turn = frozenset(name for name, device in findings.devices.items() if not device.parallel)
    made = [
        Stage(
            depth,
            prepares,
            tuple(changes),
            in_turn & {each.device for each in changes},
            sum(each.end_ns - each.start_ns for each in handlers if (each.prepares, each.depth) == (prepares, depth)),
        )
        for (prepares, depth), changes in stages.items()
    ]
    return WalkedSide(window, running, tuple(sorted(made, key=lambda stage: stage.start_ns)), tuple(handlers))


def in_turn_among(sides: Iterable[WalkedSide]) -> list[str]:
    """
    Tell which devices changed in turn beside others that changed in threads.

    One begins when another has just ended, and so does the next: no thread of a stage waits for another one. What takes
    hardly longer than launching cannot be told so.
    """
    votes: dict[str, list[bool]] = {}
    for stage in (stage for side in sides for stage in side.stages):
        chained = _chained(stage.changes)
        for each in stage.changes:
            if each.ns >= _SHORTEST_NS:
                votes.setdefault(each.device, []).append(each.device in chained)
    return [name for name, each in votes.items() if 2 * sum(each) > len(each)]


_SHORTEST_NS = 2_000_000


def _chained(changes: Sequence[Interval]) -> set[str]:
    """Give those that begin when another has ended, and of those before the one that ended last."""
    ended = sorted((each for each in changes if each.ns >= _SHORTEST_NS), key=lambda each: each.end_ns)
    chained: set[str] = set()
    for each in ended:
        before = bisect_right(ended, each.start_ns, key=lambda other: other.end_ns)
        if before:
            # Of those that ended at the same moment, the first in the order of launches.
            last = bisect_left(ended, ended[before - 1].end_ns, key=lambda other: other.end_ns)
            chained |= {each.device, ended[last].device}
    return chained
