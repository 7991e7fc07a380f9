"""What one device has to do to be saved once its machine has stopped, for a plan."""

from dataclasses import dataclass

from vfio_migration.plan.pipeline import duration
from vfio_migration.plan.planned_state import PlannedState


@dataclass(frozen=True)
class PlannedSaving:
    """
    It goes to STOP_COPY (ns), sends what pre-copy left, then the rest; in a thread of its own, or in turn.

    `loaded` bytes were loaded before. `plain_ns` is taken beside, for one of whose state nothing but the time is known.
    """

    state: PlannedState
    arcs_ns: int = 0
    left: int = 0
    loaded: int = 0
    plain_ns: int = 0
    in_thread: bool = False

    @property
    def loading_ns(self) -> int:
        """How long the destination takes to load what is sent now."""
        rate = self.state.write_rate
        return duration(self.loaded + self.left + self.state.size, rate) - duration(self.loaded, rate)
