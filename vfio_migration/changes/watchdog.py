"""When to worry about a state change that does not come to an end, and when to give it up."""

from collections.abc import Iterator
from dataclasses import dataclass

from vmstate import finite_or_none, seconds_to_ns


@dataclass(frozen=True)
class Watchdog:
    """
    What the join of a state-change thread does while the thread takes its time; seconds, None or `math.inf`: never.

    After `warn_after_s` it logs a warning that names device and arc, and again each time the wait has doubled.
    After `give_up_after_s` it gives the change up: the device is lost, and the machine goes on without it.

    Raises:
        ValueError: a time is negative, zero or not finite.

    """

    warn_after_s: float | None = None
    give_up_after_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("warn_after_s", "give_up_after_s"):
            seconds = finite_or_none(getattr(self, name))
            object.__setattr__(self, name, seconds)
            if seconds is not None and seconds_to_ns(seconds) == 0:
                raise ValueError("a watchdog waits for more than no time: give seconds, or None for never")

    def moments(self) -> Iterator[tuple[float, bool]]:
        """Give the seconds after which to act, ascending, each with whether to give up then."""
        warn = self.warn_after_s
        while warn is not None and (self.give_up_after_s is None or warn < self.give_up_after_s):
            if warn > _LONGEST_S:
                break
            yield warn, False
            warn *= 2
        if self.give_up_after_s is not None:
            yield self.give_up_after_s, True


_LONGEST_S = 7 * 24 * 3600.0  # nobody reads a warning that comes later
