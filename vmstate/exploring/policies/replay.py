"""What was noted before: the usual order but for the switches of a schedule."""

from collections.abc import Iterable

from vmstate.exploring.policies.base import Candidates
from vmstate.exploring.schedule import Switch


class Replayed:
    """Takes the usual one, unless a switch says otherwise for the place where the last thread stopped."""

    def __init__(self, switches: Iterable[Switch]) -> None:
        self._switches = {switch.where: switch for switch in switches}
        self._here: tuple[int, str, int] = (-1, "", 0)
        self.misfit: str | None = None  # why the schedule does not fit this test

    @property
    def left(self) -> list[Switch]:
        """The switches that never had their turn."""
        return list(self._switches.values())

    def stopped_at(self, where: tuple[int, str, int]) -> None:
        """Note where a thread has stopped, before the choice that follows."""
        self._here = where

    def choose(self, candidates: Candidates, goes_on: bool) -> int:
        """Take who is written down, else the first."""
        switch = self._switches.get(self._here)
        if switch is None:
            return 0
        if switch.to not in candidates:
            self.misfit = self.misfit or (
                f"thread {switch.to} cannot go on where thread {switch.thread} has stopped at {switch.place!r} "
                f"(visit {switch.visit}); {', '.join(map(str, candidates))} could"
            )
            return 0
        del self._switches[self._here]
        return candidates.index(switch.to)

    def alone(self, thread: int) -> None:
        """Do nothing."""
