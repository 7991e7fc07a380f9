"""
The downtimes that were published for mlx5 VFs, with and without multifd, against the scenario `mlx5`.

One set of latencies for all six: one, two and four VFs, in turn and over channels. The QEMU that was measured changed
states one after another, so it is the mode `serial`. What is planned is waited for too, in virtual time or, with
`--real`, for real; the ratios are to the published figures.

    python benchmarks/published_downtime.py
    python benchmarks/published_downtime.py --real 3
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.runner import run_once
from vmstate import Clock, VirtualClock

# Milliseconds, the 25th percentile of 70 to 100 migrations: qemu-devel, cover letter of "Multifd device state transfer
# support with VFIO consumer", v3, November 2024.
PUBLISHED_MS = {False: {1: 487, 2: 859, 4: 1900}, True: {1: 366, 2: 556, 4: 1095}}


def main() -> None:
    """Read the command line, plan and run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=int, default=0, metavar="N", help="runs in real time, 0: one in virtual time")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    rows = [
        row(devices, published_ms, multifd=multifd, runs=options.real)
        for multifd, published in PUBLISHED_MS.items()
        for devices, published_ms in published.items()
    ]
    show(rows)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def row(devices: int, published_ms: float, *, multifd: bool, runs: int) -> dict[str, Any]:
    """Plan and measure one of the six; times in milliseconds."""
    scenario = with_devices(devices, multifd=multifd)
    planned_ms = scenario.plan().bounds.mechanism_s * 1000
    clocks: list[Clock | None] = [None] * runs or [VirtualClock()]
    measured_ms = median(run_ms(scenario, clock) for clock in clocks)
    return {
        "multifd": multifd,
        "devices": devices,
        "published_ms": published_ms,
        "planned_ms": planned_ms,
        "measured_ms": measured_ms,
        "ratio": measured_ms / published_ms,
    }


def with_devices(devices: int, *, multifd: bool) -> Scenario:
    """Give the scenario with its first so many VFs, changed one after another, over that many channels or none."""
    scenario = override(load_scenario("mlx5"), [f"parameters.multifd_channels={devices if multifd else 0}"])
    return replace(scenario, devices=scenario.devices[:devices]).serial()


def run_ms(scenario: Scenario, clock: Clock | None) -> float:
    """Run it once, and give what its guest missed."""
    report = run_once(scenario, clock, record=False).report
    if report.blackout_s is None:
        raise SystemExit(f"the migration did not complete: {report.status}: {report.error}")
    return report.blackout_s * 1000


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    table = Table(
        "multifd", "VFs", "published", "planned", "measured", "measured over published", title="downtime in ms"
    )
    for each in rows:
        table.add_row(
            "on" if each["multifd"] else "off",
            str(each["devices"]),
            *(f"{each[key]:,.0f}" for key in ("published_ms", "planned_ms", "measured_ms")),
            f"{each['ratio']:.3f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
