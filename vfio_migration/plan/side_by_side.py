"""
The transfer where devices are saved by threads of their own: who has the link when, and when all is loaded.

A small simulation of its own: the threads ask for a free channel, then for the link, both in the order of asking. In
that it is the same machine as the real one, and shares no code with it. Where nothing is on a link nobody waits for
anybody, and each device is worked out by itself.

All times are whole nanoseconds from the status `device` on.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vfio_migration.device import CHUNK
from vfio_migration.plan.pipeline import LONG_AGO, Flow, Pipeline, duration
from vfio_migration.plan.planned_saving import PlannedSaving
from vfio_migration.plan.surroundings import Surroundings
from vmstate import seconds_to_ns

EXACT_PIECES = 2**18  # 256 GiB in all
_Process = Iterator[int | None]  # gives until when it sleeps, or None if somebody has to wake it


@dataclass(frozen=True)
class Loader:
    """
    What loads on the destination: the thread of a device, or the main one with all that came over its channel.

    With nothing to catch up with it is done at `following`; one that begins late is done `loading` after it began. Then
    configurations take it `config`, under the lock that all of them want.
    """

    following: int
    loading: int
    config: int

    def done(self, begins: int) -> int:
        """Give when it has all its data, if it cannot begin before that."""
        return max(self.following, begins + self.loading)


@dataclass(frozen=True)
class SideBySidePlan:
    """
    A transfer with threads; see `TransferPlan` for what the figures mean.

    `devices` is how long each device was being saved, which overlaps. The destination's main thread is the last of
    `loaders`.
    """

    sending: int
    before_ns: int
    ram_ns: int
    latency: int
    devices: tuple[int, ...]
    loaders: tuple[Loader, ...]

    def behind_ns(self, lag_ns: int) -> int:
        """Give how long after the last byte all data are there and loaded."""
        return max(self._done(lag_ns)) - self.sending

    def config_ns(self, lag_ns: int) -> int:
        """Give how long after that the last configuration is loaded."""
        done = self._done(lag_ns)
        now = LONG_AGO
        for moment, config in sorted(zip(done, (each.config for each in self.loaders), strict=True)):
            now = max(now, moment) + config
        return now - max(done)

    def _done(self, lag_ns: int) -> list[int]:
        *threads, main = (each.done(lag_ns) for each in self.loaders)
        return [*threads, max(main, self.sending + self.latency)]


def plan_side_by_side(
    savings: Sequence[PlannedSaving],
    ram_left: int,
    surroundings: Surroundings,
    before_ns: int,
    after_ns: int,
    *,
    most_pieces: int = EXACT_PIECES,
) -> SideBySidePlan:
    """
    Plan it; `before_ns` and `after_ns` pass before the first byte and after the last.

    Devices are read, sent and loaded in chunks; where these are more than `most_pieces`, in larger pieces, which give
    the same to what one of them takes.
    """
    chunks = sum(-(-(each.left + each.state.size) // CHUNK) for each in savings) - (-ram_left // CHUNK)
    simulation = _Simulation(surroundings, before_ns, CHUNK * max(1, -(-chunks // most_pieces)))
    main = _Line(simulation.now, LONG_AGO)
    lines = [_Line(before_ns, before_ns + surroundings.latency_ns) if each.in_thread else main for each in savings]
    ends = [before_ns] * len(savings)
    begins = [before_ns] * len(savings)
    simulation.launch(simulation.main(main, savings, ram_left, begins, ends))
    for place, saving in enumerate(savings):
        if saving.in_thread:
            simulation.launch(simulation.saver(lines[place], saving, place, ends))
    simulation.run()
    end = max([main.now, *ends])
    threads = [
        Loader(lines[place].done, each.loading_ns, seconds_to_ns(each.state.config_load_s))
        for place, each in enumerate(savings)
        if each.in_thread
    ]
    others = [each for each in savings if not each.in_thread]
    configs = sum(seconds_to_ns(each.state.config_load_s) for each in others)
    last = Loader(main.done, sum(each.loading_ns for each in others), configs)
    return SideBySidePlan(
        end + after_ns,
        before_ns,
        main.ram_end - before_ns,
        surroundings.latency_ns,
        tuple(end - begin for begin, end in zip(begins, ends, strict=True)),
        (*threads, last),
    )


def plan_alone(saving: PlannedSaving, surroundings: Surroundings, before_ns: int) -> tuple[int, Loader]:
    """Give when a device is sent that has channels and link to itself, and what loads it; however much it is."""
    latency = surroundings.latency_ns
    pipeline = Pipeline(surroundings.bandwidth, latency, before_ns, before_ns + latency)
    pipeline.now += saving.arcs_ns + saving.plain_ns
    flow = Flow(saving.state, loaded=saving.loaded)
    for run in (saving.left, saving.state.size):
        pipeline.carry(flow, run)
    done = max(pipeline.done, pipeline.now + latency)
    return pipeline.now, Loader(done, saving.loading_ns, seconds_to_ns(saving.state.config_load_s))


@dataclass
class _Line:
    """What goes from one thread of the source to one of the destination: how far either is."""

    now: int
    done: int
    ram_end: int = 0


@dataclass
class _Simulation:
    """
    Threads, channels and a link, at one moment after another.

    Who was woken by another goes first, in the order of waking; then sleepers, in the order of their moments and of
    going to sleep.
    """

    surroundings: Surroundings
    now: int
    chunk: int
    _ready: deque[_Process] = field(default_factory=deque)
    _sleepers: list[tuple[int, int, _Process]] = field(default_factory=list)
    _asleep: int = 0
    _waiting: deque[_Process] = field(default_factory=deque)  # for a channel
    _anchor: int = 0
    _total: int = 0
    _busy_until: int = LONG_AGO

    def __post_init__(self) -> None:
        self._free = self.surroundings.parameters.multifd_channels
        self._current: _Process | None = None

    def launch(self, process: _Process) -> None:
        """Have a thread go on when it is its turn."""
        self._ready.append(process)

    def run(self) -> None:
        """Let all go on until all are done."""
        ready, sleepers = self._ready, self._sleepers
        while ready or sleepers:
            if ready:
                process = ready.popleft()
            else:
                self.now, _, process = heapq.heappop(sleepers)
            self._current = process
            until = next(process, None)
            if until is not None:
                self._asleep += 1
                heapq.heappush(sleepers, (until, self._asleep, process))

    def main(
        self, line: _Line, savings: Sequence[PlannedSaving], ram_left: int, begins: list[int], ends: list[int]
    ) -> _Process:
        """Send memory's rest, then the devices that have no thread, one after another."""
        shared = any(each.in_thread for each in savings)
        while ram_left:
            size = min(self.chunk, ram_left) if shared else ram_left
            ram_left -= size
            yield from self._sent(size)
        line.ram_end = self.now
        for place, saving in enumerate(savings):
            if not saving.in_thread:
                begins[place] = self.now
                if saving.arcs_ns + saving.plain_ns:
                    yield self.now + saving.arcs_ns + saving.plain_ns
                yield from self._data(line, saving, channel=False)
                ends[place] = self.now
        line.now = self.now

    def saver(self, line: _Line, saving: PlannedSaving, place: int, ends: list[int]) -> _Process:
        """Save one device in a thread: its arc, its data, and at last its configuration."""
        if saving.arcs_ns + saving.plain_ns:
            yield self.now + saving.arcs_ns + saving.plain_ns
        yield from self._data(line, saving, channel=True)
        yield from self._channel()
        self._give_back()
        line.done = max(line.done, self.now + self.surroundings.latency_ns)
        ends[place] = self.now

    def _data(self, line: _Line, saving: PlannedSaving, *, channel: bool) -> _Process:
        flow = Flow(saving.state, loaded=saving.loaded)
        latency = self.surroundings.latency_ns
        if self.surroundings.bandwidth is None:
            yield from self._without_link(line, flow, saving)
            return
        for run in (saving.left, saving.state.size):
            left = run
            while left:
                size = min(self.chunk, left)
                left -= size
                reading = flow.reading(size)
                if reading:
                    yield self.now + reading
                flow.read += size
                if channel:
                    yield from self._channel()
                yield from self._sent(size)
                if channel:
                    self._give_back()
                line.done = max(line.done, self.now + latency) + flow.loading(size)
                flow.loaded += size

    def _without_link(self, line: _Line, flow: Flow, saving: PlannedSaving) -> _Process:
        """Do all of it at once: nobody else has anything to do with it."""
        pipeline = Pipeline(None, self.surroundings.latency_ns, self.now, line.done)
        for run in (saving.left, saving.state.size):
            pipeline.carry(flow, run)
        line.done = pipeline.done
        if pipeline.now > self.now:
            yield pipeline.now

    def _sent(self, size: int) -> _Process:
        """Have the link send so many bytes."""
        if self.surroundings.bandwidth is None:
            return
        if self.now > self._busy_until:
            self._anchor, self._total = self.now, 0
        self._total += size
        self._busy_until = end = self._anchor + duration(self._total, self.surroundings.bandwidth)
        if end > self.now:
            yield end

    def _channel(self) -> _Process:
        """Take a free channel, or wait for one in the order of asking."""
        if self._free:
            self._free -= 1
            return
        assert self._current is not None  # noqa: S101 - it is the one that asks
        self._waiting.append(self._current)
        yield None

    def _give_back(self) -> None:
        if self._waiting:
            self._ready.append(self._waiting.popleft())
        else:
            self._free += 1
