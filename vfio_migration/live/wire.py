"""What sending takes: the link as the source uses it, with the throttle before the switchover."""

import threading

from vfio_migration.live.parameters import Link
from vmstate import Clock, begin_ns, seconds_to_ns, wait_until


class Wire:
    """
    A link in use; who sends waits until his bytes are out.

    Times are rounded from sums since the link was idle last, so that many small pieces take what one big one does.
    `_lock` guards all fields; waits are outside of it, one after another in the order of asking.
    """

    def __init__(self, clock: Clock, link: Link | None) -> None:
        self._clock = clock
        self._link = link if link is not None and link.bandwidth is not None else None
        self._lock = threading.Lock()
        self._throttle: float | None = None
        self._rate = 0.0  # of the sum
        self._anchor_ns = 0  # since when the link is busy
        self._size = 0  # bytes since then
        self._busy_until_ns = 0
        self._total = 0
        self._total_busy_ns = 0

    @property
    def limited(self) -> bool:
        """Whether sending takes time at all."""
        return self._link is not None

    @property
    def rate(self) -> float:
        """Bytes per second now; only where sending takes time."""
        assert self._link is not None and self._link.bandwidth is not None  # noqa: S101, PT018 - asked before
        with self._lock:
            return min(self._link.bandwidth, self._throttle or self._link.bandwidth)

    @property
    def carried(self) -> tuple[int, int]:
        """How many bytes were carried so far, and for how many nanoseconds the link was busy with them."""
        with self._lock:
            return self._total, self._total_busy_ns

    def throttle(self, rate: float | None) -> None:
        """Send no faster than so many bytes per second from now on; None: as fast as the link can."""
        with self._lock:
            self._throttle = rate

    def carry(self, size: int) -> None:
        """Wait until so many bytes are out."""
        if self._link is None or not size:
            return
        rate, now = self.rate, begin_ns(self._clock)
        with self._lock:
            begin = max(now, self._busy_until_ns)
            if now > self._busy_until_ns or rate != self._rate:
                self._anchor_ns, self._size, self._rate = begin, 0, rate
            self._size += size
            end = self._anchor_ns + seconds_to_ns(self._size / rate)
            self._busy_until_ns = end
            self._total += size
            self._total_busy_ns += end - begin
        wait_until(self._clock, end)
