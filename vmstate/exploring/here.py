"""Whether the calling thread belongs to an exploration, and `checkpoint`, which is a choice in one."""

import sys
import threading

from vmstate.clocks import VirtualClock
from vmstate.exploring.places import place_of_line


class Here(threading.local):
    """
    What a thread belongs to: its clock, while it runs in an exploration.

    By thread and not by process: an executor of threads runs several explorations at once.
    """

    clock: VirtualClock | None = None
    number = 0  # of the thread, in that clock


here = Here()


def checkpoint() -> None:
    """
    Let another thread go on here, in some schedules of an exploration.

    Does nothing in real time, and outside an exploration.
    """
    clock = here.clock
    if clock is not None:
        frame = sys._getframe(1)  # noqa: SLF001 - the only way to learn who calls
        clock.checkpoint(place_of_line(frame.f_code, frame.f_lineno))
