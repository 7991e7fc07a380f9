"""What a strategy's plan reckons with: the times of a pass, as floats or as anything that can be added and compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar


class Addable(Protocol):
    """Seconds: a float, or an array with a sample in each place."""

    def __add__(self, other: Self, /) -> Self:
        """Give the sum."""
        ...


T = TypeVar("T", bound=Addable)


@dataclass(frozen=True)
class Arithmetic(Generic[T]):
    """
    How times are reckoned with, beside `+`: no time, and the longest and the shortest of some, which are one or more.

    With arrays, `longest` and `shortest` are taken sample by sample.
    """

    zero: T
    longest: Callable[[Sequence[T]], T]
    shortest: Callable[[Sequence[T]], T]


@dataclass(frozen=True)
class DepthTimes(Generic[T]):
    """
    What one depth of a pass takes, in seconds.

    `launches`: the change of each device with a bracket, in the order in which the walk meets these; `handlers_s`: all
    ordinary handlers, one after another. Each launch costs the walk `launch_s`, and each join `join_s`.
    """

    launches: tuple[T, ...]
    handlers_s: T
    launch_s: T
    join_s: T

    def in_turn_s(self, math: Arithmetic[T]) -> T:
        """Give what it takes with one after another, and nothing launched or joined."""
        return sum_of((*self.launches, self.handlers_s), math)


def sum_of(times: Sequence[T], math: Arithmetic[T]) -> T:
    """Give the sum of times, of which there may be none."""
    now = math.zero
    for each in times:
        now = now + each
    return now


def joined_s(now: T, ends: Sequence[T], join_s: T, math: Arithmetic[T]) -> T:
    """Give when a walk that is at `now` has joined, in turn, threads that end then."""
    for end in ends:
        now = math.longest((now, end)) + join_s
    return now


SECONDS: Arithmetic[float] = Arithmetic(0.0, max, min)
