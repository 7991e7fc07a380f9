"""A strategy, and what it has to do with: the changes of a pass, and the walk that meets their brackets."""

from collections.abc import Sequence
from typing import Protocol

from vfio_migration.strategies.arithmetic import Arithmetic, DepthTimes, T
from vfio_migration.strategies.places import Places


class Change(Protocol):
    """What one device has to do in the pass under way; done once, whoever begins it."""

    @property
    def device(self) -> str:
        """The device's id."""
        ...

    @property
    def depth(self) -> int:
        """Where the device's bracket lies."""
        ...

    @property
    def begun(self) -> bool:
        """Whether it was made or launched in this pass."""
        ...

    @property
    def launched(self) -> bool:
        """Whether a thread is to be joined."""
        ...

    def make(self) -> None:
        """Make it here and now, in the thread that walks."""
        ...

    def launch(self, places: Places | None = None) -> None:
        """Have a thread make it; with places, once it has one. Where no thread can be had it is made on the spot."""
        ...

    def join(self) -> None:
        """Wait for the thread; raises what the change raised."""
        ...


class Walk(Protocol):
    """The pass under way, as far as a strategy asks for it."""

    def due(self) -> Sequence[Change]:
        """Give the changes of this pass that were not begun yet, in the order in which their brackets will be met."""
        ...

    def places(self, most: int) -> Places:
        """Give the pass's places for so many changes at a time."""
        ...


class Strategy(Protocol):
    """
    How a pass treats the devices of a machine, and what it takes so.

    `open` and `close` are called by the thread that walks, under the machine's big lock, where it meets the two entries
    of a device's bracket: before the ordinary handlers of the device's depth, and after them. A strategy has no life
    of its own, and may be that of many machines. Whatever it leaves undone is done where the bracket closes: a change
    that was not begun is made, and a thread joined (`PassWalk`).

    `name` is how it is called in scenarios and on the command line. Strategies that are equal do the same.
    """

    @property
    def name(self) -> str:
        """How it is called."""
        ...

    def open(self, change: Change, walk: Walk) -> None:
        """Begin what is to be begun where a device's bracket opens."""
        ...

    def close(self, change: Change, walk: Walk) -> None:
        """End what has to be over where it closes."""
        ...

    def pass_s(self, depths: Sequence[DepthTimes[T]], math: Arithmetic[T]) -> T:
        """
        Give the seconds that a pass takes whose depths are met in this order.

        To be written with `+`, `math.longest` and `math.shortest` only, so that it serves arrays of samples too.
        """
        ...
