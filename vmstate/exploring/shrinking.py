"""
A schedule that fails, with as few switches as it can have.

First all switches are left out, then halves, and so on down to single ones, as long as the test still fails in the
same way. At the end no single switch can be lost. What is left out is not put right elsewhere: without a switch
the threads go on as usual, and later switches that no longer find their place are dropped with it.
"""

from collections.abc import Callable, Sequence

from vmstate.exploring.chooser import Noted
from vmstate.exploring.schedule import Switch

Attempt = Callable[[Sequence[Switch]], Noted | None]
"""Runs a test with some switches; None unless it fails as it did."""


def shrink(switches: Sequence[Switch], attempt: Attempt) -> list[Switch]:
    """
    Give switches with which the test fails in the same way, and of which none can be left out.

    The result is what such a run has noted itself, so that all of it takes place in a replay.
    """
    current = list(switches)
    size = len(current)
    while size and current:
        shorter = _without_one_part(current, size, attempt)
        if shorter is not None:
            current = shorter
            size = min(size, len(current))
        elif size == 1:
            break
        else:
            size = (size + 1) // 2
    return current


def _without_one_part(current: list[Switch], size: int, attempt: Attempt) -> list[Switch] | None:
    # The last ones first: to leave out an early one changes all that comes after it.
    for end in range(len(current), 0, -size):
        noted = attempt(current[: max(0, end - size)] + current[end:])
        if noted is not None:
            found = noted.switches[: noted.switches_of_failure]
            if len(found) < len(current):
                return found
    return None
