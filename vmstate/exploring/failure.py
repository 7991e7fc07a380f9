"""What an exploration has come to."""

from dataclasses import dataclass


class ScheduleFailure(AssertionError):  # noqa: N818 - it is what is looked for, not what went wrong in looking
    """
    A schedule in which a test fails; `__cause__` is what the test, a thread or (of a deadlock) the clock raised.

    `schedule` is the string that `replay` takes. `report` shows the threads as lanes, with the lines where they
    switched.
    """

    def __init__(self, schedule: str, report: str, number: int) -> None:
        super().__init__(schedule, report, number)
        self.schedule = schedule
        self.report = report
        self.number = number  # of the schedule that was tried, from 1

    def __str__(self) -> str:
        return f"schedule {self.number} fails\n{self.report}\nto replay it: {self.schedule}"


@dataclass(frozen=True)
class Exploration:
    """
    What trying many schedules has shown.

    `schedules`: how many were tried, up to the one that failed. `complete`: these were all there are. `seen`: which
    share of them, as a walk at random would meet them; None where that is not known.
    """

    schedules: int
    complete: bool = False
    failure: ScheduleFailure | None = None
    seen: float | None = None

    def check(self) -> None:
        """
        Raise the failure, if there is one.

        Raises:
            ScheduleFailure: a schedule fails.

        """
        if self.failure is not None:
            raise self.failure
