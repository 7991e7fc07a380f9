"""
Back-and-forth migrations of random machines with random faults and cancellations; every invariant after each one.

Most run in virtual time, some in real time with short latencies. Whatever happens in a migration, the next one of the
same pair, without faults, has to complete. A violation ends the soak and names the seed that shows it again.

    python benchmarks/soak.py --minutes 10 --seed 1
    python benchmarks/soak.py --minutes 10 --seed 1 --over tcp

Over TCP both ends are connected by an address, in real time. A third of the pairs have multifd channels.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vfio_migration import (
    ALL_FLAGS,
    DataFault,
    DeviceState,
    Incoming,
    Migration,
    MigrationFlags,
    MigrationParameters,
    MigrationReport,
    MigrationStatus,
    Outgoing,
    Watchdog,
    use_strategy,
)
from vfio_migration.device.state_machine import transition_path
from vfio_migration.testing import (
    Invariants,
    MachineRig,
    PairRig,
    count_descriptors,
    destination_gone_at,
    our_threads,
    raising_handler,
    stream_cut_at,
)
from vmstate import Machine, MonitorEvent, RealClock, VirtualClock

ARCS = [
    (current, target) for current in DeviceState for target in DeviceState if DeviceState.ERROR not in (current, target)
]
_STRATEGIES = ("depths", "depths", "serial", "overlapping", "pool:1", "pool:2")
REAL_SHARE = 0.15  # of the machines run in real time
KINDS = ["fail", "error", "stall", "reset", "read", "write", "chance", "handler", "subscriber"]
STATUSES = ["setup", "active", "pre-switchover", "device", "failing", "completed", "failed"]
CANCEL_AT = [None] * 4 + ["setup", "active", "pre-switchover", "device"]


class SoakedError(BaseException):
    """What an embedder's code raises, and no Exception."""


class Raising:
    """A subscriber that raises once, at an event or status."""

    def __init__(self, at: str) -> None:
        self.at: str | None = at

    def __call__(self, event: MonitorEvent) -> None:
        """Raise, if it is the event."""
        if self.at is not None and self.at in (event.name, event.data.get("status")):
            self.at = None
            raise SoakedError("a subscriber")


class RandomPair(PairRig):
    """A pair with random devices and handlers; the machine is on one side or the other."""

    def __init__(self, rng: random.Random, *, over_tcp: bool) -> None:
        self.real = rng.random() < REAL_SHARE or over_tcp
        self.over_tcp = over_tcp
        super().__init__(clock=RealClock() if self.real else VirtualClock())
        self.unit = 0.0002 if self.real else 0.05  # seconds that an arc takes at least
        self.back = False  # the next migration is one back to the source
        self.rigs = self.source, self.destination
        self.raising: list[Raising] = []
        self.parameters = MigrationParameters(multifd_channels=rng.choice([0, 0, 0, 0, 1, 3]))
        for rig in self.rigs:
            use_strategy(rig.machine, rng.choice(_STRATEGIES))
        count = rng.choice([1, 1, 2, 3, 5])
        self.flags = {f"d{number}": self._flags(rng, alone=count == 1) for number in range(count)}
        for name in self.flags:
            depth, parallel, latency = rng.randint(1, 5), rng.random() < 0.75, self.unit * rng.randint(0, 3)
            for rig in self.rigs:
                seed, threads = rng.randrange(10**6), rng.choice(["per-change", "parked"])
                options = self._options(name, latency, seed)
                rig.add_device(name, depth=depth, parallel=parallel, threads=threads, **options)
        for rig in self.rigs:
            for depth in range(1, 1 + rng.randrange(3)):
                rig.add_handler("ordinary", depth=depth, seconds=self.unit * rng.random())

    @staticmethod
    def _flags(rng: random.Random, *, alone: bool) -> MigrationFlags:
        flags = ALL_FLAGS
        if rng.random() < 0.3:
            flags &= ~MigrationFlags.PRE_COPY
        if alone and rng.random() < 0.5:
            flags &= ~MigrationFlags.P2P
        return flags

    def _options(self, name: str, latency: float, seed: int) -> dict[str, Any]:
        watchdog = Watchdog(give_up_after_s=0.5 if self.real else 100.0)
        sizes = {"state_size": 3000, "precopy_size": 1000}
        return {"flags": self.flags[name], "latency": latency, "seed": seed, "watchdog": watchdog, **sizes}

    def migrate_on(self, **options: Any) -> MigrationReport:
        """Migrate from the live machine to the other; the invariants hold, and no thread is given up."""
        source, destination = reversed(self.rigs) if self.back else self.rigs
        invariants = Invariants(source.machine, destination.machine)
        options["parameters"] = self.parameters
        migrate = migrate_over_tcp if self.over_tcp else migrate_here
        report = migrate(source.machine, destination.machine, options)
        for raising in self.raising:
            raising.at = None  # what it raises outside of a migration is raised by whoever starts or stops a machine
        invariants.check(report)
        self._leave_one_running(source, destination)
        self.back ^= destination.machine.run_state.live
        return report

    @staticmethod
    def _leave_one_running(source: MachineRig, destination: MachineRig) -> None:
        """
        Do what somebody has to do where a source cannot know, and after the endings of takeover "qemu".

        Devices that are reset with the machine are where a start brings them back from, whatever became of them.
        """
        if source.machine.run_state.live and destination.machine.run_state.live:
            destination.machine.stop()
        elif not source.machine.run_state.live and not destination.machine.run_state.live:
            source.machine.reset()
            source.machine.start()

    @property
    def live(self) -> MachineRig:
        """The rig whose machine is to run."""
        return self.destination if self.back else self.source

    def replace_lost(self) -> None:
        """Take lost devices away, on both sides, and put new ones in their places."""
        for name in self.flags:
            if any(rig.device_states[name] is DeviceState.ERROR for rig in self.rigs):
                depth = self.source.devices[name].vfio_device.device.depth
                self.remove_device(name)
                self.add_device(name, depth=depth, **self._options(name, self.unit, 0))


def migrate_here(source: Machine, destination: Machine, options: dict[str, Any]) -> MigrationReport:
    """Migrate within the process."""
    migration = Migration(source, destination, **options)
    with source.clock.taking_part():
        migration.start()
        report: MigrationReport = _report_of(migration)
        return report


def migrate_over_tcp(source: Machine, destination: Machine, options: dict[str, Any]) -> MigrationReport:
    """Migrate by an address, and put together what both ends say."""
    alike = {key: options[key] for key in ("parameters", "takeover") if key in options}
    incoming = Incoming(destination, "tcp:127.0.0.1:0", **alike)
    incoming.start()
    outgoing = Outgoing(source, f"tcp:{incoming.address}", **options)
    outgoing.start()
    sent = _report_of(outgoing)
    if sent.status is not MigrationStatus.COMPLETED:
        incoming.cancel()  # nobody may have come
    received = _report_of(incoming)
    return MigrationReport(
        **{field.name: getattr(sent, field.name) for field in fields(sent)},
        destination_state=received.destination_state,
        destination_status=received.status,
        destination_lost_devices=received.lost_devices,
        destination_reset_devices=received.reset_devices,
    )


def _report_of(end: Any) -> Any:
    try:
        return end.wait()
    except SoakedError:  # what a callback raised, when all is over
        return end.wait()


def arrange_faults(rng: random.Random, pair: RandomPair) -> Counter[str]:
    """Arrange none, one or some faults; gives what kinds."""
    kinds: Counter[str] = Counter()
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        rig = rng.choice(pair.rigs)
        name = rng.choice(list(pair.flags))
        mock = rig.mocks[name]
        current, target = rng.choice(
            [arc for arc in ARCS if _is_arc(*arc, mock.flags)],
        )
        kind = rng.choice(["fail", *KINDS])
        kinds[kind] += 1
        if kind == "fail":
            mock.fail(current, target, times=rng.randint(1, 2))
        elif kind == "error":
            mock.fail(current, target, into_error=True)
        elif kind == "stall":
            mock.stall(current, target, seconds=pair.unit * rng.randint(1, 4))
        elif kind == "reset":
            mock.fail(current, target)
            mock.fail_reset()
        elif kind == "read":
            mock.fail_read(rng.choice(list(DataFault)))
        elif kind == "write":
            mock.fail_write(rng.choice([DataFault.ERROR, DataFault.ALTERED, DataFault.CUT]))
        elif kind == "chance":
            mock.fail(current, target, probability=0.5, seed=rng.randrange(10**6))
        elif kind == "handler":
            error = rng.choice([ValueError("soak"), SoakedError("a handler")])
            rig.add_handler("raising", raising_handler(error), priority=rng.randrange(10**6))
        else:
            raising = Raising(rng.choice(["setup", "active", "STOP", "RESUME", "failing"]))
            pair.raising.append(raising)
            rig.machine.monitor.subscribe(raising)
    return kinds


def _is_arc(current: DeviceState, target: DeviceState, flags: MigrationFlags) -> bool:
    try:
        return len(transition_path(current, target, flags)) == 1
    except OSError:
        return False


def options_of(rng: random.Random, pair: RandomPair) -> tuple[dict[str, Any], str]:
    """Choose how to migrate: cancelled somewhere, over a connection that breaks, or as usual."""
    at = rng.choice(CANCEL_AT)
    options: dict[str, Any] = {"pause_before_switchover": at == "pre-switchover" or rng.random() < 0.1}
    what = "cancel" if at else ""

    raises, resets = (rng.choice(["never"] * 5 + STATUSES) for _ in range(2))

    def steer(migration: Migration, status: MigrationStatus) -> None:
        if status == at:
            migration.cancel()
        if status == resets:
            pair.live.machine.reset()
        if status is MigrationStatus.PRE_SWITCHOVER and at != "pre-switchover":
            migration.continue_()
        if status == raises:
            raise SoakedError("a status callback")

    options["on_status"] = steer
    options["takeover"] = rng.choice(["confirmed", "confirmed", "qemu"])
    if rng.random() < 0.15 and not pair.over_tcp:
        make = rng.choice([stream_cut_at, destination_gone_at])
        options["sockets"] = make(rng.randrange(6000))
        what += " " + make.__name__
    return options, what


def one_round(seed: int, figures: Counter[str], *, over_tcp: bool) -> None:
    """Migrate one random pair a few times, with faults and without."""
    rng = random.Random(seed)
    pair = RandomPair(rng, over_tcp=over_tcp)
    figures["real time" if pair.real else "virtual time"] += 1
    for _ in range(rng.randint(1, 4)):
        faults = arrange_faults(rng, pair)
        options, what = options_of(rng, pair)
        report = pair.migrate_on(**options)
        figures["migrations"] += 1
        figures["with multifd channels"] += bool(pair.parameters.multifd_channels)
        figures[f"takeover {report.takeover}"] += 1
        figures["devices reset"] += len(report.reset_devices) + len(report.destination_reset_devices)
        figures[str(report.status)] += 1
        figures["with faults"] += bool(faults)
        figures["faults"] += faults.total()
        figures["cancelled or cut"] += bool(what)
        figures["devices lost"] += len(report.lost_devices) + len(report.destination_lost_devices)
        for rig in pair.rigs:
            for mock in rig.mocks.values():
                mock.heal()
            for entry in [each for each in rig.machine.handlers if each.name == "raising"]:
                entry.remove()
        pair.replace_lost()
        report = pair.migrate_on()
        if not report.completed:
            raise AssertionError(f"without faults, the next migration is {report.status}: {report.error!r}")
        figures["migrations"] += 1
        figures[str(report.status)] += 1
    pair.close()


def resident_mib() -> float:
    """Give the process's resident memory, in MiB; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0.0
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Soak for so long and print figures; exit status 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first round (default %(default)s)")
    parser.add_argument("--over", choices=["pair", "tcp"], default="pair", help="what connects (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    figures: Counter[str] = Counter()
    start = time.monotonic()
    seed = options.seed
    violations = 0
    samples: dict[str, dict[str, float]] = {}
    warm_up_s = min(60.0, options.minutes * 60 / 2)
    while time.monotonic() - start < options.minutes * 60:
        try:
            one_round(seed, figures, over_tcp=options.over == "tcp")
        except (Exception, SoakedError) as error:  # noqa: BLE001 - whatever it is, the seed is what counts
            violations += 1
            print(f"violation with --seed {seed}: {error!r}", file=sys.stderr)
            break
        seed += 1
        if "after warm-up" not in samples and time.monotonic() - start > warm_up_s:
            samples["after warm-up"] = sample()
    samples["at the end"] = sample()
    show(options.minutes, figures, violations, samples)
    if options.json:
        result = {"figures": figures, "violations": violations, "samples": samples, "seeds": [options.seed, seed]}
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    raise SystemExit(1 if violations else 0)


def sample() -> dict[str, float]:
    """Look at what must stay level."""
    return {
        "threads": threading.active_count(),
        "of ours": len(our_threads()),
        "descriptors": count_descriptors(),
        "resident MiB": round(resident_mib(), 1),
    }


def show(minutes: float, figures: Counter[str], violations: int, samples: dict[str, dict[str, float]]) -> None:
    """Print the figures."""
    table = Table(title=f"soak of {minutes:g} minute(s)")
    table.add_column("what")
    table.add_column("number", justify="right")
    for name, number in sorted(figures.items()):
        table.add_row(name, f"{number:,}")
    table.add_row("violations", str(violations))
    for moment, values in samples.items():
        for name, value in values.items():
            table.add_row(f"{name}, {moment}", f"{value:g}")
    Console().print(table)


if __name__ == "__main__":
    main()
