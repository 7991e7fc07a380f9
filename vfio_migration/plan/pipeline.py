"""
Reading, sending and loading, chunk behind chunk: when the source has sent something, and when the destination has it.

All times are whole nanoseconds, as the clocks count them, and are rounded from sums, so that no number of chunks adds
up rounding.
"""

from dataclasses import dataclass

from vfio_migration.device import CHUNK
from vfio_migration.plan.planned_state import PlannedState
from vmstate import seconds_to_ns

LONG_AGO = -(10**30)  # when a destination was done that has had nothing to load yet


def duration(size: int, rate: float | None) -> int:
    """Give the nanoseconds that so many bytes take; None: none."""
    return 0 if rate is None else seconds_to_ns(size / rate)


@dataclass
class Flow:
    """How far one device's state has come: bytes read since its reading began anew, and bytes loaded in all."""

    state: PlannedState
    read: int = 0
    loaded: int = 0

    def reading(self, size: int) -> int:
        """Give how long reading so many more bytes takes."""
        return duration(self.read + size, self.state.rate) - duration(self.read, self.state.rate)

    def loading(self, size: int) -> int:
        """Give how long loading so many more bytes takes."""
        return duration(self.loaded + size, self.state.write_rate) - duration(self.loaded, self.state.write_rate)


@dataclass
class Pipeline:
    """
    The source, which reads and sends, and the destination, which loads.

    `bandwidth` is the link's, None: no link; what is sent arrives `latency` later. `now` is the source's time, `done`
    when the destination has loaded what was sent. `carried` and `busy` count what was on the link, and for how long.

    Guarantees:
    - What the link takes is reckoned from when it was idle last, so pieces that follow each other take what their sum
      takes.
    - The source waits for its device and for the link, never for the destination.
    - A run of equal chunks takes no longer to work out than one of them, and is the same to a few nanoseconds.
    """

    bandwidth: float | None
    latency: int = 0
    now: int = 0
    done: int = LONG_AGO
    carried: int = 0
    busy: int = 0
    _anchor: int = 0  # when the link began to be busy, and with how much since
    _total: int = 0
    _busy_until: int = LONG_AGO

    def send(self, size: int) -> None:
        """Have the link send so many bytes, now."""
        if self.now > self._busy_until:
            self._anchor, self._total = self.now, 0
        self._total += size
        end = self._anchor + duration(self._total, self.bandwidth)
        self.carried += size
        self.busy += end - self.now
        self.now = self._busy_until = end

    def carry(self, flow: Flow, size: int) -> None:
        """Read, send and load so many bytes of a device, in chunks; the last may be smaller."""
        whole, rest = divmod(size, CHUNK)
        if whole:
            # The first by itself: it may follow on the link what was sent before it.
            self._chunk(flow, CHUNK)
            self._equal_chunks(flow, whole - 1)
        if rest:
            self._chunk(flow, rest)

    def _chunk(self, flow: Flow, size: int) -> None:
        self.now += flow.reading(size)
        self.send(size)
        self.done = max(self.done, self.now + self.latency) + flow.loading(size)
        flow.read += size
        flow.loaded += size

    def _equal_chunks(self, flow: Flow, count: int) -> None:
        """
        Do what as many calls of `_chunk` would.

        Sending and loading a chunk take the same each time. So how long the destination still has to load when one
        arrives falls or rises steadily, and only the first and the last of them can be the one that it waits for.
        """
        if count == 0:
            return
        size = count * CHUNK
        before_last = flow.loading(size - CHUNK)
        first = self._arrival_of(flow, 1)
        last = self._arrival_of(flow, count)
        loading = flow.loading(size)
        self.done = loading + max(self.done, first, last - before_last)
        end = last - self.latency
        if flow.state.rate is None:
            self._total += size
            self.busy += end - self.now
        else:
            one = duration(CHUNK, self.bandwidth)
            self._anchor, self._total = end - one, CHUNK
            self.busy += count * one
        self.carried += size
        self.now = self._busy_until = end
        flow.read += size
        flow.loaded += size

    def _arrival_of(self, flow: Flow, number: int) -> int:
        """Give when the chunk of that number arrives, of equal ones that begin now."""
        size = number * CHUNK
        if flow.state.rate is None:
            return self._anchor + duration(self._total + size, self.bandwidth) + self.latency
        return self.now + flow.reading(size) + number * duration(CHUNK, self.bandwidth) + self.latency
