"""Who goes next in virtual time when several threads could: one decision, behind one small interface."""

from collections.abc import Sequence
from typing import Protocol


class Runnable(Protocol):
    """A thread that could go next."""

    @property
    def name(self) -> str:
        """The thread's name."""
        ...


class Policy(Protocol):
    """Decides who goes next."""

    def choose(self, woken: Sequence[Runnable], due: Sequence[Runnable]) -> int:
        """
        Give the place of who goes next in `woken` followed by `due`, of which at least one is not empty.

        `woken` were woken by others, in order of waking; `due` are sleepers whose time has come, in the order of
        their going to sleep.
        """
        ...


class InOrder:
    """The default: who was woken by others first, then sleepers, each in their order."""

    def choose(self, woken: Sequence[Runnable], due: Sequence[Runnable]) -> int:
        """Take the first."""
        return 0
