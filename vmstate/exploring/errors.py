"""What can be wrong with a schedule itself; what a test raises in one is its own affair."""

from vmstate.errors import ClockError


class ReplayError(ClockError):
    """A schedule cannot be replayed: it is none, it is of another test, or the test has changed since."""


class TooManyChoicesError(ClockError):
    """A schedule has come to more choices than it may: most likely a thread spins until another has done something."""


class UnsteadyTestError(ClockError):
    """A test that failed does not fail again in the same schedule."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the test failed with {what}, but not when the same schedule was run again: something in it depends on "
            "more than its schedule (real time, a hash's order, what an earlier run has left behind)"
        )
