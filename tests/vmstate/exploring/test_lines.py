"""Which functions are meant by `preempt`, and what it takes."""

import functools
import importlib
import sys
from collections.abc import Callable

import pytest
from suite import faults

from vmstate import VirtualClock
from vmstate.exploring import explore
from vmstate.exploring.lines import Lines, names_of


def steps(clock: VirtualClock) -> None:
    def inner() -> int:
        one = 1
        return one + 1

    faults.run_all(clock, inner, inner)


def wrapped(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*arguments: object) -> object:
        return function(*arguments)

    return wrapper


class Kinds:
    @property
    def prop(self) -> int:
        return 1

    @classmethod
    def of_class(cls) -> None: ...

    @staticmethod
    def static() -> None: ...


def test_things_are_named_as_they_can_be_found_again() -> None:
    here = __name__
    assert names_of(faults) == ("suite.faults",)
    assert names_of((faults.Counter, faults.Counter.add, "a.b:c")) == (
        "suite.faults:Counter",
        "suite.faults:Counter.add",
        "a.b:c",
    )
    assert names_of([faults.Counter().add, wrapped(steps), functools.partial(steps)]) == (
        "suite.faults:Counter.add",
        f"{here}:steps",
        f"{here}:steps",
    )
    assert names_of((Kinds.prop, Kinds.of_class, Kinds.static)) == (
        f"{here}:Kinds.prop",
        f"{here}:Kinds.of_class",
        f"{here}:Kinds.static",
    )


@pytest.mark.parametrize("what", [len, 3, None, functools.partial(len)])
def test_what_has_no_lines_of_python_is_refused(what: object) -> None:
    with pytest.raises(TypeError, match="written in Python"):
        explore(faults.any_order, preempt=(what,))


def test_functions_within_are_meant_too_but_never_the_clock_s_own() -> None:
    code = faults.Counter.add.__code__
    assert Lines(("suite.faults:Counter",)).means(code, "suite.faults")
    assert Lines(("suite",)).means(code, "suite.faults")
    assert not Lines(("suite.faults:Count",)).means(code, "suite.faults")
    assert not Lines(("suite.faults:LockedCounter",)).means(code, "suite.faults")
    clock = VirtualClock.sleep.__code__
    assert not Lines(("vmstate",)).means(clock, "vmstate.clocks.virtual")


def test_a_function_within_another_is_preempted_with_it() -> None:
    alone = explore(steps, policy="exhaustive").schedules
    assert explore(steps, policy="exhaustive", preempt=(steps,)).schedules > alone


def test_a_trace_function_that_was_there_is_there_again() -> None:
    def tracer(frame: object, event: str, argument: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        explore(faults.lost_update, preempt=(faults.Counter,))
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


def test_a_whole_module_can_be_preempted() -> None:
    failure = explore(faults.lost_update, preempt=importlib.import_module("suite.faults"), policy="random").failure
    assert failure is not None
