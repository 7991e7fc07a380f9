"""The usual order: who could go on does, else who was woken first, else who sleeps shortest."""

from vmstate.exploring.policies.base import Candidates


class InOrderPolicy:
    """Takes the first, always."""

    def choose(self, candidates: Candidates, goes_on: bool) -> int:
        """Take the first."""
        return 0

    def alone(self, thread: int) -> None:
        """Do nothing."""
