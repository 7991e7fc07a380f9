"""
How well, and at what cost, `vmstate.exploring` finds what only some orders of threads show.

How often a schedule of `random` and of `pct` meets small known faults, against the bound of the PCT paper; what a
schedule costs over a plain run of the same test in virtual time; what a switch of the virtual clock costs over a bare
hand-over of a lock between two threads. Both of a pair are measured in turns.

    python benchmarks/exploring.py --schedules 1000 --turns 31
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from vfio_migration.testing import PairRig
from vmstate import VirtualClock
from vmstate.exploring import checkpoint, explore
from vmstate.exploring.policies import InOrderPolicy, PriorityChanges, RandomWalk, SchedulePolicy
from vmstate.exploring.run import Way, runner_of

Test = Callable[[VirtualClock], None]


@dataclass(frozen=True)
class Fault:
    """A test that fails in some orders, and how many orderings of how many threads it takes."""

    name: str
    test: Test
    threads: int
    depth: int


def together(clock: VirtualClock, *works: Callable[[], object]) -> None:
    """Run all in threads, and join them."""
    for thread in [clock.start_thread(work, f"t{number}") for number, work in enumerate(works)]:
        clock.join(thread)


def busy(steps: int) -> None:
    """Come to so many choices that do not matter."""
    for _ in range(steps):
        checkpoint()


def read_before_written(clock: VirtualClock) -> None:
    """Two threads; one reads what the other writes at its very end."""
    written: list[int] = []

    def writer() -> None:
        busy(20)
        written.append(1)

    def reader() -> None:
        busy(20)
        assert written

    together(clock, writer, reader)


def lost_update(clock: VirtualClock) -> None:
    """Two threads add in two steps, among much else."""
    values = [0]

    def add() -> None:
        busy(5)
        value = values[0]
        checkpoint()
        values[0] = value + 1
        busy(5)

    together(clock, add, add)
    assert values == [2]


def crosswise_locks(clock: VirtualClock) -> None:
    """Two threads of three take two locks crosswise."""
    left, right = clock.lock("left"), clock.lock("right")

    def both(first: object, second: object) -> None:
        busy(5)
        for lock in (first, second):
            lock.acquire()  # type: ignore[attr-defined]
        for lock in (first, second):
            lock.release()  # type: ignore[attr-defined]
        busy(5)

    together(clock, lambda: both(left, right), lambda: both(right, left), lambda: busy(10))


def there_and_back(clock: VirtualClock) -> None:
    """One thread writes while the other is between two reads, and takes it back only after the second."""
    shared = ["before"]

    def writer() -> None:
        busy(4)
        shared[0] = "half"
        checkpoint()
        shared[0] = "after"
        busy(4)

    def reader() -> None:
        busy(4)
        first = shared[0]
        checkpoint()
        second = shared[0]
        assert (first, second) != ("before", "half")

    together(clock, writer, reader)


FAULTS = (
    Fault("read before it is written", read_before_written, 2, 1),
    Fault("lost update", lost_update, 2, 2),
    Fault("locks taken crosswise", crosswise_locks, 3, 2),
    Fault("seen half way", there_and_back, 2, 3),
)


@dataclass(frozen=True)
class Rate:
    """How often a fault was met."""

    fault: str
    threads: int
    choices: int
    depth: int
    bound: float
    random: float
    pct: float


def rate(fault: Fault, schedules: int) -> Rate:
    """Run so many schedules of each policy, and count those that fail."""
    with runner_of(fault.test, Way()) as runner:
        steps = runner.run(InOrderPolicy()).steps

        def share(make: Callable[[str], SchedulePolicy]) -> float:
            failed = sum(runner.run(make(f"0/{number}")).failure is not None for number in range(schedules))
            return failed / schedules

        random = share(RandomWalk)
        pct = share(lambda seed: PriorityChanges(seed, depth=fault.depth, steps=steps))
    threads = fault.threads + 1  # the one that joins them has a priority too
    bound = 1 / (threads * steps ** (fault.depth - 1))
    return Rate(fault.name, threads, steps, fault.depth, bound, random, pct)


def migration(clock: VirtualClock) -> None:
    """Migrate a pair of machines with four devices."""
    with PairRig(clock=clock) as pair:
        for number in range(4):
            pair.add_device(f"vf{number}", latency=0.05, state_size=4096)
        assert pair.migrate().completed


def plain(turns: int) -> float:
    """Give the seconds of a run in virtual time."""
    begun = time.perf_counter()
    for _ in range(turns):
        clock = VirtualClock()
        with clock.taking_part():
            migration(clock)
    return (time.perf_counter() - begun) / turns


def explored(policy: str, turns: int) -> float:
    """Give the seconds of a schedule."""
    begun = time.perf_counter()
    explore(migration, policy=policy, schedules=turns).check()
    return (time.perf_counter() - begun) / turns


def bare(switches: int) -> float:
    """Give the seconds of a hand-over between two threads that have a lock each."""
    locks = threading.Lock(), threading.Lock()
    for lock in locks:
        lock.acquire()

    def work(mine: threading.Lock, other: threading.Lock) -> None:
        for _ in range(switches):
            mine.acquire()
            other.release()

    threads = [threading.Thread(target=work, args=pair) for pair in (locks, locks[::-1])]
    for thread in threads:
        thread.start()
    begun = time.perf_counter()
    locks[0].release()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - begun) / (2 * switches)


def clocked(switches: int) -> float:
    """Give the seconds of a switch of the clock between two threads that sleep in turns."""
    clock = VirtualClock()

    def work() -> None:
        for _ in range(switches):
            clock.sleep(0.001)

    with clock.taking_part():
        threads = [clock.start_thread(work, name) for name in "ab"]
        begun = time.perf_counter()
        for thread in threads:
            clock.join(thread)
        return (time.perf_counter() - begun) / (2 * switches)


def ratio(
    title: str, unit: str, scale: float, turns: int, one: Callable[[], float], other: Callable[[], float]
) -> float:
    """Measure two things in turns; print both and the ratio, which is the median of the turns' own."""
    pairs = [(one(), other()) for _ in range(turns)]
    found = median(first / second for first, second in pairs)
    first, second = (median(each) * scale for each in zip(*pairs, strict=True))
    Console().print(f"{title}: {first:.2f} {unit} over {second:.2f} {unit}, ratio {found:.2f}", highlight=False)
    return found


def print_rates(rates: Iterable[Rate]) -> None:
    """Print the table."""
    table = Table(title="share of schedules that meet the fault")
    for column in ("fault", "threads", "choices", "depth", "bound of pct", "pct", "random"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for each in rates:
        figures = (f"{value:.2%}" for value in (each.bound, each.pct, each.random))
        table.add_row(each.fault, str(each.threads), str(each.choices), str(each.depth), *figures)
    Console().print(table)


def main() -> None:
    """Read the command line, measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1000, help="of each policy and fault (default %(default)s)")
    parser.add_argument("--turns", type=int, default=31, help="of the two costs (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    rates = [rate(fault, options.schedules) for fault in FAULTS]
    print_rates(rates)
    figures: dict[str, object] = {"rates": [asdict(each) for each in rates]}
    for policy in ("in-order", "pct", "random"):
        count = 1 if policy == "in-order" else 10
        figures[f"schedule_over_plain_{policy}"] = ratio(
            f"a schedule ({policy}) over a plain run",
            "ms",
            1e3,
            options.turns,
            lambda policy=policy, count=count: explored(policy, count),  # type: ignore[misc]
            lambda count=count: plain(count),  # type: ignore[misc]
        )
    figures["switch_over_bare"] = ratio(
        "a switch of the clock over a bare one", "us", 1e6, options.turns, lambda: clocked(3000), lambda: bare(3000)
    )
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
