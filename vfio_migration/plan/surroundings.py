"""What a plan has to know beside the machine's devices and handlers: memory, the link, and what was asked for."""

from dataclasses import dataclass, field

from vfio_migration.live import Link, MigrationParameters
from vmstate import seconds_to_ns


@dataclass(frozen=True)
class PlannedRam:
    """The machine's memory: bytes, and bytes per second that its guest dirties while it runs."""

    size: int
    dirty_rate: float = 0.0


@dataclass(frozen=True)
class Surroundings:
    """Memory and link, None where there is none, which costs nothing; and the parameters."""

    ram: PlannedRam | None = None
    link: Link | None = None
    parameters: MigrationParameters = field(default_factory=MigrationParameters)

    @property
    def bandwidth(self) -> float | None:
        """What the link sends in the switchover, in bytes per second."""
        return None if self.link is None else self.link.rate

    @property
    def precopy_bandwidth(self) -> float | None:
        """What it sends before: the throttle counts until the switchover is decided."""
        if self.link is None or self.parameters.max_bandwidth is None:
            return self.bandwidth
        return min(self.link.rate, self.parameters.max_bandwidth)

    @property
    def latency_ns(self) -> int:
        """How much later arrives what was sent, in nanoseconds."""
        return 0 if self.link is None else seconds_to_ns(self.link.latency_s)


NO_SURROUNDINGS = Surroundings()
