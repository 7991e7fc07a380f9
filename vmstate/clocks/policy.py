"""Who goes next in virtual time when several threads could: one decision, behind one small interface."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from vmstate.errors import ClockError


class Runnable(Protocol):
    """A thread that could go next."""

    @property
    def name(self) -> str:
        """The thread's name."""
        ...

    @property
    def number(self) -> int:
        """Which one it was to come to this clock, counted from 0."""
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


@runtime_checkable
class Explorer(Policy, Protocol):
    """
    A policy that asks for more choices than there are by themselves, and is told what happens between them.

    All but `run_thread` is called with the clock's mutex held, so it must neither wait nor raise.
    """

    @property
    def any_time(self) -> bool:
        """Whether durations are unknown: any sleeper may be next, and time-outs come when nobody else can go on."""
        ...

    @property
    def gave_up(self) -> ClockError | None:
        """What ends the run, if the policy has had enough of it: raised by whoever waits next."""
        ...

    def leaves(self, thread: Runnable, place: str, *, goes_on: bool) -> None:
        """Note that a thread stops running, at a place or waiting for something; `goes_on`: it could be next itself."""
        ...

    def deadlocked(self, error: ClockError) -> None:
        """Note a deadlock, before anybody is told."""
        ...

    def run_thread(self, thread: Runnable, target: Callable[[], object]) -> None:
        """Run what a thread that takes part was started for, and see to what it raises."""
        ...


class InOrder:
    """The default: who was woken by others first, then sleepers, each in their order."""

    def choose(self, woken: Sequence[Runnable], due: Sequence[Runnable]) -> int:
        """Take the first."""
        return 0
