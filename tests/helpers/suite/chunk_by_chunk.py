"""The whole migration once more, chunk by chunk and step by step, as slow and plain as it can be: to compare with."""

import math
from dataclasses import dataclass, field

from vfio_migration.live import Link, MigrationParameters

MIB = 1024 * 1024


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def takes(size: int, rate: float | None) -> int:
    return 0 if rate is None else ns(size / rate)


@dataclass
class Dev:
    """A device: bytes and rates, rounds of pre-copy, and whether it has pre-copy at all."""

    state: int
    rate: float | None = None
    write: float | None = None
    rounds: tuple[int, ...] = ()
    arc_ns: int = 0
    to_load: int = 0
    read: int = 0
    pending: int = 0
    later: list[int] = field(default_factory=list)


@dataclass
class World:
    """What is under way, all of it in nanoseconds."""

    devices: list[Dev]
    ram: int
    dirty: float
    link: Link | None
    parameters: MigrationParameters
    now: int = 0
    ready: int = 0
    began: int = 0
    known: int = 0
    synced: int = 0
    passes: int = 1
    measured: float | None = None
    anchor: int = 0
    total: int = 0
    busy_until: int = -1
    throttled: bool = True
    last_rate: float | None = None
    done: int = -(10**18)

    def send(self, size: int) -> int:
        """Send; gives how long the link took."""
        if self.link is None:
            return 0
        rate = self.rate()
        if self.now > self.busy_until or rate != self.last_rate:
            self.anchor, self.total = self.now, 0
        self.last_rate = rate
        self.total += size
        begin = self.now
        self.now = self.busy_until = self.anchor + ns(self.total / rate)
        return self.now - begin

    def rate(self) -> float:
        assert self.link is not None
        assert self.link.bandwidth is not None
        throttle = self.parameters.max_bandwidth if self.throttled else None
        return min(self.link.bandwidth, throttle or self.link.bandwidth)

    def chunk(self, device: Dev, size: int) -> int:
        """Read a chunk, send it, have it loaded; gives how long the link took."""
        self.now += takes(device.read + size, device.rate) - takes(device.read, device.rate)
        device.read += size
        link = self.send(size)
        arrives = self.now + (ns(self.link.latency_s) if self.link else 0)
        load = takes(device.to_load + size, device.write) - takes(device.to_load, device.write)
        device.to_load += size
        self.done = max(self.done, arrives) + load
        return link

    def sync(self) -> None:
        """See what was dirtied."""
        dirtied = int(self.dirty * (self.now - self.began) / 1e9)
        self.known = min(self.ram, self.known + dirtied - self.synced)
        self.synced = dirtied

    def threshold(self) -> float:
        bandwidth = self.parameters.switchover_bandwidth
        if bandwidth is None:
            bandwidth = self.measured if self.measured is not None else 0.0
        return self.parameters.downtime_limit_s * bandwidth if self.parameters.downtime_limit_s else 0.0

    def precopy(self, most: int) -> bool:
        """Iterate; says whether the switchover was decided."""
        rate = self.rate()
        self.known = self.ram
        start, carried, busy = self.began, 0, 0
        for device in self.devices:
            device.later = [*device.rounds]
            device.pending = device.later.pop(0) if device.later else 0
        for _ in range(most):
            while self.known + sum(each.pending for each in self.devices) <= self.threshold():
                self.sync()
                self.passes += 1
                if self.known + sum(each.pending + each.state for each in self.devices) > self.threshold():
                    break
                if self.now >= self.ready:
                    return True
                self.now = self.ready
            sent, linked = self.iteration(int(rate * 0.1))
            carried, busy = carried + sent, busy + linked
            if not sent:
                self.now = start + 100_000_000 if start + 100_000_000 >= self.now else self.now + 100_000_000
            if self.now - start >= 100_000_000:
                if carried:
                    self.measured = carried * 1e9 / busy if busy else math.inf
                start, carried, busy = self.now, 0, 0
        return False

    def iteration(self, budget: int) -> tuple[int, int]:
        ram = min(self.known, budget)
        linked = self.send(ram) if ram else 0
        self.known -= ram
        sent = ram
        if not self.known:
            for device in self.devices:
                turn = device.pending
                while turn and sent < budget:
                    size = min(MIB, turn)
                    linked += self.chunk(device, size)
                    sent, turn, device.pending = sent + size, turn - size, device.pending - size
                    if not device.pending and device.later:
                        device.pending, device.read = device.later.pop(0), 0
        return sent, linked

    def switchover(self, stop: int, final: int, other: int) -> tuple[int, int]:
        """Give the transfer, and how long after its end all is loaded."""
        self.sync()
        self.throttled = False
        self.now += stop
        saving = self.now
        self.now += final
        if self.known:
            self.send(self.known)
        for device in self.devices:
            self.now += device.arc_ns
            device.read = 0
            for run in (device.pending, device.state):
                left = run
                while left:
                    self.chunk(device, min(MIB, left))
                    left -= min(MIB, left)
        self.now += other
        arrived = self.now + (ns(self.link.latency_s) if self.link else 0)
        return self.now - saving, max(arrived, self.done) - self.now
