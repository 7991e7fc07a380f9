"""One run of a test, in a fresh clock."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vmstate.clocks import VirtualClock
from vmstate.exploring.chooser import Chooser, Noted
from vmstate.exploring.collection import no_collection
from vmstate.exploring.here import here
from vmstate.exploring.lines import Lines
from vmstate.exploring.plain_locks import plain_locks_wait_through_the_clock
from vmstate.exploring.policies import SchedulePolicy
from vmstate.interrupts import interrupts_heard

Test = Callable[[VirtualClock], object]

_STALL_LIMIT_S = 10.0  # of real time: nothing in an exploration has to wait for anything real
_END_WITHIN_S = 1.0


@dataclass(frozen=True)
class Way:
    """How a test is run, the same in all its schedules."""

    timing: str = "exact"
    preempt: tuple[str, ...] = ()


def find_test(test: Test | str) -> Test:
    """
    Find a test by "module:function"; anything else is given back.

    Raises:
        ValueError: it is no such string.
        TypeError: it names nothing that can be called.
        ImportError, AttributeError: there is no such module or function.

    """
    if not isinstance(test, str):
        return test
    module, _, name = test.partition(":")
    if not module or not name:
        raise ValueError(f"a test is a callable that takes a clock, or 'module:function'; got {test!r}")
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{test!r} is {found!r}, and cannot be called")
    return found


class Runner:
    """Runs a test any number of times, each in a clock of its own."""

    def __init__(self, test: Test, way: Way, lines: Lines) -> None:
        self._test = test
        self._way = way
        self.lines = lines

    def run(self, policy: SchedulePolicy, on_handover: Callable[[], object] | None = None) -> Noted:
        """
        Run the test once, with all threads that it starts, as the policy says.

        `on_handover` is called at each, in the thread that stops.

        Raises:
            KeyboardInterrupt: not the test's failure, but somebody wants to stop.

        """
        outer, before = here.clock, interrupts_heard()

        def enter(number: int) -> None:
            here.clock, here.number = clock, number
            self.lines.enter()

        chooser = Chooser(policy, any_time=self._way.timing == "any", enter=enter, on_handover=on_handover)
        clock = VirtualClock(stall_limit_s=_STALL_LIMIT_S, policy=chooser)
        noted = chooser.noted
        with no_collection(), clock.taking_part():
            enter(0)
            try:
                self._test(clock)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a test fails with whatever it likes
                noted.fails(error)
            finally:
                self.lines.leave()
                here.clock = outer
            try:
                left = clock.drain()
            except BaseException as error:
                noted.fails(error)
                if isinstance(error, KeyboardInterrupt):
                    raise
                left = []
        for thread in left:
            thread.join(_END_WITHIN_S)
        if interrupts_heard() != before:  # and the test has made a result of it, as `migrate()` does
            raise KeyboardInterrupt
        return noted


@contextmanager
def runner_of(test: Test | str, way: Way) -> Iterator[Runner]:
    """Give what runs a test, with the lines of `preempt` watched as long as the context lasts."""
    found = find_test(test)
    with Lines(way.preempt) as lines, plain_locks_wait_through_the_clock():
        yield Runner(found, way, lines)
