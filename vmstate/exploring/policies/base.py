"""What a policy decides, and how one is made for each schedule."""

from collections.abc import Sequence
from typing import Protocol

Candidates = Sequence[int]
"""Numbers of the threads that could go on, the usual one first: who could go on itself, else as time would have it."""


class SchedulePolicy(Protocol):
    """Decides one schedule, choice by choice."""

    def choose(self, candidates: Candidates, goes_on: bool) -> int:
        """
        Give the place in `candidates` of who goes on.

        `goes_on`: the first of them is the thread that ran last, so that to choose another is to preempt it.
        """
        ...

    def alone(self, thread: int) -> None:
        """Note that a thread goes on because no other could: a step like any other, but no choice."""
        ...
