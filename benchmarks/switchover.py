"""
The wall-clock switchover over numbers of devices at one depth: serial against parallel against the bounds.

Only the arcs of the switchover wait, each for the same time; those of the setup and the transfer take none.
Serial is measured up to 8 devices and computed above (marked *): the sum of all waits.

    python benchmarks/switchover.py --devices 1,4,16,64 --latency-ms 100
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from vfio_migration.scenarios.file import scenario_from_data
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.runner import run_once

SERIAL_UP_TO = 8
SWITCHOVER_ARCS = (
    "PRE_COPY -> PRE_COPY_P2P",
    "PRE_COPY_P2P -> STOP_COPY",
    "RESUMING -> STOP",
    "STOP -> RUNNING_P2P",
    "RUNNING_P2P -> RUNNING",
)


def flat_scenario(devices: int, latency_s: float) -> Scenario:
    """Make a machine with so many VFIO devices at one depth."""
    tree = [{"bus": "main-system-bus", "buses": ["pcie.0"]}]
    tree += [{"bus": "pcie.0", "id": f"vf{number}"} for number in range(devices)]
    vfio = {
        "devices": "vf*",
        "state_size": 4096,
        "precopy_size": 0,
        "latency": dict.fromkeys(SWITCHOVER_ARCS, latency_s),
    }
    return scenario_from_data({"tree": {"devices": tree}, "vfio": [vfio]}, Path(f"{devices}-devices"))


def measure(devices: int, latency_s: float, runs: int) -> dict[str, Any]:
    """Measure one number of devices; times in seconds."""
    scenario = flat_scenario(devices, latency_s)
    bounds = scenario.plan().bounds
    parallel = [_switchover(scenario) for _ in range(runs)]
    measured = devices <= SERIAL_UP_TO
    serial = median(_switchover(scenario.serial()) for _ in range(runs)) if measured else bounds.serial_s
    return {
        "devices": devices,
        "serial_s": serial,
        "serial_measured": measured,
        "parallel_s": median(parallel),
        "parallel_min_s": min(parallel),
        "parallel_max_s": max(parallel),
        "bounds": asdict(bounds),
        "parallel_over_bound": median(parallel) / bounds.mechanism_s,
        "speedup": serial / median(parallel),
    }


def _switchover(scenario: Scenario) -> float:
    report = run_once(scenario, record=False).report
    if report.switchover_s is None:
        raise SystemExit(f"the migration did not complete: {report.status}: {report.error}")
    return report.switchover_s


def main() -> None:
    """Read the command line, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="1,4,16,64", help="numbers of devices (default %(default)s)")
    parser.add_argument("--latency-ms", type=float, default=100.0, help="of each arc (default %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="migrations for each figure (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    results = []
    table = Table(title=f"switchover in ms, medians of {options.runs} run(s), {options.latency_ms:g} ms an arc")
    for column in ("devices", "serial", "parallel", "min", "max", "bound", "ratio", "speed-up"):
        table.add_column(column, justify="right")
    for devices in map(int, options.devices.split(",")):
        row = measure(devices, options.latency_ms / 1000, options.runs)
        results.append(row)
        table.add_row(
            str(devices),
            f"{row['serial_s'] * 1000:.1f}{'' if row['serial_measured'] else '*'}",
            f"{row['parallel_s'] * 1000:.1f}",
            f"{row['parallel_min_s'] * 1000:.1f}",
            f"{row['parallel_max_s'] * 1000:.1f}",
            f"{row['bounds']['mechanism_s'] * 1000:.1f}",
            f"{row['parallel_over_bound']:.3f}",
            f"{row['speedup']:.1f}",
        )
    Console().print(table)
    print("ratio: parallel over bound")
    if any(not row["serial_measured"] for row in results):
        print("* computed: the sum of all waits")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
