"""Anybody, each as likely as the others."""

import random

from vmstate.exploring.policies.base import Candidates


class RandomWalk:
    """
    Draws at each choice.

    Good where much may go wrong in many ways. A fault that needs one thread to stop for long while another does a lot
    is hard to meet so, since a thread is stopped at every second choice; that is what `pct` is for.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be kept secret

    def choose(self, candidates: Candidates, goes_on: bool) -> int:
        """Draw one."""
        return int(self._random.random() * len(candidates))

    def alone(self, thread: int) -> None:
        """Do nothing."""
