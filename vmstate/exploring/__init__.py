"""
Every schedule: a test is run with its threads in many orders, and one that fails is made small and can be replayed.

- `explore(test)` tries schedules; `Exploration.check()` raises a `ScheduleFailure`.
- `replay(test, schedule)` runs one again.
- `checkpoint()` is a point where another thread may go on.

Threads are real and run one at a time, in a `VirtualClock` of their own; who goes on is chosen by a policy
(`vmstate.exploring.policies`).
"""

from vmstate.exploring.errors import ReplayError, TooManyChoicesError
from vmstate.exploring.explore import explore, replay
from vmstate.exploring.failure import Exploration, ScheduleFailure
from vmstate.exploring.here import checkpoint
from vmstate.exploring.schedule import TIMINGS, parse_schedule

__all__ = [
    "TIMINGS",
    "Exploration",
    "ReplayError",
    "ScheduleFailure",
    "TooManyChoicesError",
    "checkpoint",
    "explore",
    "parse_schedule",
    "replay",
]
