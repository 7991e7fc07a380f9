"""When the switchover begins: the estimate, the exact query and the threshold (QEMU's `migration_iteration_run`)."""

import math

from vfio_migration.live.parameters import MigrationParameters
from vfio_migration.live.wire import Wire
from vmstate import NS_PER_SECOND, Clock

WINDOW_NS = 100_000_000  # over which bandwidth is measured (QEMU's BUFFER_DELAY), and the most that an iteration takes


class Decision:
    """
    What a source knows of its bandwidth, and so what may be left when it stops the machine.

    The bandwidth is what was reached in the last window of at least 100 ms, measured while the link was busy. Rejected:
    to divide by the whole window, as QEMU does; a guest with nothing to send would lower it, and get less time for its
    switchover. Before the first window has passed only nothing pending fits. Lives in the source's thread.
    """

    def __init__(self, clock: Clock, wire: Wire) -> None:
        self._clock = clock
        self._wire = wire
        self._begin_ns = clock.now()
        self._begin_carried = wire.carried
        self.measured: float | None = None

    def threshold(self, parameters: MigrationParameters) -> float:
        """Give how many bytes may be left; without a link none, as there is no bandwidth to count with."""
        if not self._wire.limited:
            return 0.0
        bandwidth = parameters.switchover_bandwidth or self.measured
        if bandwidth is None or not parameters.downtime_limit_s:
            return 0.0
        return parameters.downtime_limit_s * bandwidth

    def budget(self) -> int | None:
        """Give how many bytes an iteration may send; None: all that is pending when it begins."""
        return max(1, int(self._wire.rate * WINDOW_NS / NS_PER_SECOND)) if self._wire.limited else None

    def iterated(self, sent: int) -> None:
        """Note that an iteration has sent so much; one that had nothing to send waits until the window ends."""
        now = self._clock.now()
        if not sent:
            until = self._begin_ns + WINDOW_NS
            self._clock.sleep((until - now if until > now else WINDOW_NS) / NS_PER_SECOND)
            now = self._clock.now()
        if now - self._begin_ns >= WINDOW_NS:
            carried, busy = (a - b for a, b in zip(self._wire.carried, self._begin_carried, strict=True))
            if carried > 0:  # in no time, over a link that is faster than a nanosecond can tell
                self.measured = carried * NS_PER_SECOND / busy if busy > 0 else math.inf
            self._begin_ns, self._begin_carried = now, self._wire.carried
