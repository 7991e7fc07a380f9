"""
How much real time a migration takes in virtual time, with arcs of an hour each.

    python benchmarks/virtual_time.py --devices 64,1024
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from vfio_migration.scenarios.file import scenario_from_data
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock

HOUR = 3600.0


def hourly_scenario(devices: int) -> Scenario:
    """Make a machine with so many VFIO devices at one depth, each of whose arcs takes an hour."""
    tree = [{"bus": "main-system-bus", "buses": ["pcie.0"]}]
    tree += [{"bus": "pcie.0", "id": f"vf{number}"} for number in range(devices)]
    vfio = {"devices": "vf*", "state_size": 4096, "precopy_size": 0, "latency": {"default": HOUR}}
    return scenario_from_data({"tree": {"devices": tree}, "vfio": [vfio]}, Path(f"{devices}-devices"))


def measure(devices: int, runs: int) -> dict[str, Any]:
    """Measure one number of devices; times in seconds."""
    scenario = hourly_scenario(devices)
    real = []
    virtual_s = switchover_s = None
    for _ in range(runs):
        clock = VirtualClock()
        start = time.perf_counter()
        run = run_once(scenario, clock, record=False)
        real.append(time.perf_counter() - start)
        if not run.completed:
            raise SystemExit(f"the migration did not complete: {run.report.status}: {run.report.error}")
        virtual_s, switchover_s = clock.now() / 1e9, run.report.switchover_s
    return {
        "devices": devices,
        "real_s": median(real),
        "virtual_s": virtual_s,
        "switchover_s": switchover_s,
        "bound_s": scenario.plan().bounds.mechanism_s,
    }


def main() -> None:
    """Read the command line, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="64,1024", help="numbers of devices (default %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="migrations for each figure (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    results = [measure(devices, options.runs) for devices in map(int, options.devices.split(","))]
    table = Table(title=f"arcs of an hour in virtual time, medians of {options.runs} run(s)")
    for column in ("devices", "real time", "virtual time", "switchover", "bound"):
        table.add_column(column, justify="right")
    for row in results:
        table.add_row(
            str(row["devices"]),
            f"{row['real_s']:.2f} s",
            f"{row['virtual_s'] / HOUR:,.0f} h",
            f"{row['switchover_s'] / HOUR:.0f} h",
            f"{row['bound_s'] / HOUR:.0f} h",
        )
    Console().print(table)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
