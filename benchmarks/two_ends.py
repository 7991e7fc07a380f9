"""
What it costs a switchover that its ends are connected by an address: over a Unix socket and TCP, against a socket pair.

Real time, four devices, in turns; medians, and the ratios to the pair within each turn.

    python benchmarks/two_ends.py --latency-ms 20 --runs 15
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from vfio_migration import Incoming, Outgoing, OutgoingReport
from vfio_migration.testing import PairRig
from vmstate import RealClock


def main() -> None:
    """Read the command line, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=float, default=20.0, help="of each arc (default %(default)s)")
    parser.add_argument("--devices", type=int, default=4, help="how many (default %(default)s)")
    parser.add_argument("--runs", type=int, default=15, help="turns (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Callable[[PairRig], float]] = {
            "socket pair": over_pair,
            "unix": lambda pair: over_address(pair, f"unix:{folder}/m.sock"),
            "tcp": lambda pair: over_address(pair, "tcp:127.0.0.1:0"),
        }
        turns = [
            {name: migrate(pair(options.devices, options.latency_ms)) for name, migrate in ways.items()}
            for _ in range(options.runs)
        ]
    result = {
        name: {
            "switchover_ms": median(turn[name] for turn in turns),
            "ratio": median(turn[name] / turn["socket pair"] for turn in turns),
        }
        for name in ways
    }
    show(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def pair(devices: int, latency_ms: float) -> PairRig:
    """Make two machines that wait for real."""
    made = PairRig(clock=RealClock())
    for number in range(devices):
        made.add_device(f"vf{number}", latency=latency_ms / 1000, state_size=65536)
    return made


def over_pair(made: PairRig) -> float:
    """Migrate within the process; gives how long until the source has heard that the other runs, in milliseconds."""
    report = made.migrate()
    made.close()
    return heard_ms(report)


def over_address(made: PairRig, uri: str) -> float:
    """Migrate by an address; gives the same."""
    incoming = Incoming(made.destination.machine, uri)
    incoming.start()
    kind = uri.partition(":")[0]
    outgoing = Outgoing(made.source.machine, f"{kind}:{incoming.address}")
    outgoing.start()
    report = outgoing.wait()
    incoming.wait()
    made.close()
    return heard_ms(report)


def heard_ms(report: OutgoingReport) -> float:
    """Give the time in milliseconds until the source has heard that the destination runs."""
    if report.source_stop_s is None or report.transfer_s is None or report.answered_s is None:
        raise SystemExit(f"the migration did not complete: {report.status}: {report.error}")
    return (report.source_stop_s + report.transfer_s + report.answered_s) * 1000


def show(result: dict[str, dict[str, Any]]) -> None:
    """Print a table."""
    table = Table("connected by", "switchover, ms", "over a socket pair", title="medians")
    for name, figures in result.items():
        table.add_row(name, f"{figures['switchover_ms']:.1f}", f"{figures['ratio']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
