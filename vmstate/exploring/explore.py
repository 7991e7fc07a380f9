"""Trying many schedules of a test, and replaying one."""

from collections.abc import Callable
from concurrent.futures import Executor
from itertools import islice

from vmstate.exploring.chooser import Noted
from vmstate.exploring.errors import ReplayError, TooManyChoicesError, UnsteadyTestError
from vmstate.exploring.failure import Exploration, ScheduleFailure
from vmstate.exploring.lines import names_of
from vmstate.exploring.policies import FromPrefix, InOrderPolicy, Replayed, SchedulePolicy, neighbours
from vmstate.exploring.report import Witness, report
from vmstate.exploring.run import Runner, Test, Way, runner_of
from vmstate.exploring.schedule import TIMINGS, Schedule, Switch, checksum, parse_schedule
from vmstate.exploring.search import Found, make_search, search_schedules
from vmstate.exploring.shrinking import shrink

_MOST_NEIGHBOURS = 300


def explore(
    test: Test | str,
    *,
    policy: str = "pct",
    schedules: int = 1000,
    seed: int = 0,
    depth: int = 3,
    timing: str = "exact",
    preempt: object = (),
    executor: Executor | None = None,
    on_tried: Callable[[int, float | None], object] | None = None,
) -> Exploration:
    """
    Run a test in many schedules, each in a fresh virtual clock, until one fails or `schedules` were tried.

    `test` takes the clock; all that it does runs in threads of that clock, one at a time. Who goes on is chosen by
    `policy`, which is "pct" (with `depth`), "random", "exhaustive", "exhaustive:N" (with at most N preemptions) or
    "in-order", at each wait, at each `checkpoint()`, and before each line of what is in `preempt`: modules, classes and
    functions. With `timing="any"` durations are taken for unknown. With an executor, schedules are run by that; the
    result is the same. One of processes needs a test of the form "module:function". `on_tried` is told how many
    schedules were tried, and which share of all they are, or None.

    Nothing that the test raises is raised here; `Exploration.check` does that.

    Raises:
        ValueError: there is no such policy or timing, or a number is out of range.
        TypeError: something in `preempt` has no lines of Python.

    """
    _check_range(schedules, depth, timing)
    way = Way(timing, names_of(preempt))
    search = make_search(policy, schedules=schedules, seed=seed, depth=depth)
    searched = search_schedules(search, test, way, executor, on_tried or (lambda tried, seen: None))
    if searched.found is None:
        return Exploration(searched.tried, search.complete, None, search.seen)
    with runner_of(test, way) as runner:
        failure = _shrunk(runner, way, policy, searched.found)
    return Exploration(searched.tried, complete=False, failure=failure, seen=search.seen)


def _check_range(schedules: int, depth: int, timing: str) -> None:
    if schedules < 1:
        raise ValueError(f"schedules must be 1 or more; got {schedules}")
    if depth < 1:
        raise ValueError(f"depth must be 1 or more; got {depth}")
    if timing not in TIMINGS:
        raise ValueError(f"timing must be one of {', '.join(map(repr, TIMINGS))}; got {timing!r}")


def replay(test: Test | str, schedule: str) -> None:
    """
    Run a test again in a schedule that a failure has shown; raises what it raises.

    Raises:
        ReplayError: the string is no schedule, or does not fit this test (any more).

    """
    read = parse_schedule(schedule)
    with runner_of(test, Way(read.timing, read.preempt)) as runner:
        policy = Replayed(read.switches)
        noted = runner.run(policy)
    misfit = _misfit(read, policy, noted)
    if misfit is not None:
        raise ReplayError(f"the schedule does not fit this test (any more): {misfit}; find another by exploring it")
    if noted.failure is not None:
        raise noted.failure


def _misfit(read: Schedule, policy: Replayed, noted: Noted) -> str | None:
    """Say why what was run is not what the schedule stands for; None if it is."""
    now, then = len(noted.handovers), read.handovers
    if policy.misfit is not None:
        return policy.misfit
    if policy.left:
        switch = policy.left[0]
        return f"thread {switch.thread} has not stopped at {switch.place!r} {switch.visit} time(s)"
    if read.checksum and now < then:
        return f"it has {now} hand-overs now, and had {then} up to its failure"
    if read.checksum and checksum(noted.handovers[:then]) != read.checksum:
        return "its threads stop in other places now"
    if read.checksum and noted.failure is not None and noted.handovers_of_failure != then:
        return f"it fails after {noted.handovers_of_failure} hand-overs now, and did so after {then}"
    return None


def _one_switch(usual: Noted, attempt: Callable[[SchedulePolicy], Noted | None]) -> list[Switch] | None:
    """
    Look for a single switch that is enough.

    To leave out switches does not get there from two that only make up for one another, and most faults need one.
    """
    for prefix in islice(neighbours(tuple(usual.choices)), _MOST_NEIGHBOURS):
        noted = attempt(FromPrefix(prefix.taken()))
        if noted is not None and noted.switches_of_failure == 1:
            return noted.switches[:1]
    return None


def _shrunk(runner: Runner, way: Way, policy: str, found: Found) -> ScheduleFailure:
    """Make the failure of a schedule, with as few switches as can be."""

    def attempt(chosen: SchedulePolicy) -> Noted | None:
        noted = runner.run(chosen)
        failure = noted.failure
        return noted if failure is not None and type(failure).__name__ == found.kind else None

    switches = list(found.switches)
    if found.kind != TooManyChoicesError.__name__:  # which takes long, and where each switch is as good as another
        switches = shrink(switches, lambda fewer: attempt(Replayed(fewer)))
    if len(switches) > 1:
        switches = _one_switch(runner.run(InOrderPolicy()), attempt) or switches
    witness = Witness()
    runner.lines.on_line = witness.line
    noted = runner.run(Replayed(switches), witness.stopped)
    runner.lines.on_line = None
    cause = noted.failure or UnsteadyTestError(found.text)
    handovers = noted.handovers[: noted.handovers_of_failure]
    text = str(
        Schedule(
            tuple(switches), way.timing, policy.partition(":")[0], way.preempt, len(handovers), checksum(handovers)
        )
    )
    failure = ScheduleFailure(text, report(noted, witness, cause), found.number)
    failure.__cause__ = cause
    return failure
