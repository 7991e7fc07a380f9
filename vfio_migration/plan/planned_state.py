"""What there is to say of a device's state, for a plan: how much of it, how fast it is read and loaded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedState:
    """
    A device's state; bytes, bytes per second (None: no time), seconds.

    `size` is left when pre-copy is over. A device with pre-copy has `precopy_size` more, which it sends before, and of
    which it dirties `precopy_dirty`, one number for each round; the first `initial_size` are its initial bytes.
    """

    size: int = 0
    rate: float | None = None
    precopy_size: int = 0
    precopy_dirty: tuple[int, ...] = ()
    write_rate: float | None = None
    config_load_s: float = 0.0
    initial_size: int = 0

    @property
    def precopy_runs(self) -> tuple[int, ...]:
        """What pre-copy sends, round after round; a round in which nothing is dirtied ends it."""
        runs: list[int] = []
        for size in (self.precopy_size, *(min(each, self.precopy_size) for each in self.precopy_dirty)):
            if size == 0:
                break
            runs.append(size)
        return tuple(runs)


NO_STATE = PlannedState()
