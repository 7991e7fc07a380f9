"""What a plan has to know beside the machine's devices and handlers: memory, the link, and what was asked for."""

from dataclasses import dataclass, field
from typing import Literal

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
        return None if self.link is None else self.link.bandwidth

    @property
    def precopy_bandwidth(self) -> float | None:
        """What it sends before: the throttle counts until the switchover is decided."""
        bandwidth, throttle = self.bandwidth, self.parameters.max_bandwidth
        if bandwidth is None or throttle is None:
            return bandwidth
        return min(bandwidth, throttle)

    def in_thread(self, multifd: bool | Literal["auto"]) -> bool:
        """Whether a device of which that is said is saved by a thread of its own."""
        return bool(multifd) and self.parameters.multifd_channels > 0

    @property
    def latency_ns(self) -> int:
        """How much later arrives what was sent, in nanoseconds."""
        return 0 if self.link is None else seconds_to_ns(self.link.latency_s)


NO_SURROUNDINGS = Surroundings()
