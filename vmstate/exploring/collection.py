"""
No garbage collection in the middle of a schedule.

The collector runs when so many objects were made, in whatever thread that happens. What it finalizes would have its
lines watched at another moment in each run, and even while the clock's mutex is held, for which they would then wait
for ever.
Objects that are dropped without a cycle are finalized as ever, at the same moment in each run.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_guard = threading.Lock()
_users = 0
_was_on = False


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the collector off as long as anybody is in this context."""
    global _users, _was_on  # noqa: PLW0603 - there is one collector for the process
    with _guard:
        if not _users:
            _was_on = gc.isenabled()
            gc.disable()
        _users += 1
    try:
        yield
    finally:
        with _guard:
            _users -= 1
            if not _users and _was_on:
                gc.enable()
