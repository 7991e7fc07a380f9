"""
How long forecasts take: of many scenarios, in one process, and whether that is linear in each factor.

    python benchmarks/forecasts.py                   10,000 scenarios of 16 devices, 1,000 samples each; the factors
    python benchmarks/forecasts.py --scenarios 100   a taste

A bare loop stands beside it: drawing as many numbers by numpy, and adding them up.
"""

import argparse
import resource
import time
from pathlib import Path
from statistics import median

import numpy as np

from vfio_migration.fleet import forecast
from vfio_migration.scenarios import Scenario, parse_scenario

_LATENCY = "{ median = 0.04, p99 = 0.1 }"


def made(devices: int, number: int) -> Scenario:
    """Give a scenario with two depths, whose five arcs of the switchover vary for each device."""
    text = f"""
[tree]
devices = [
    {{ bus = "main-system-bus", ids = "vf{{0..{devices - 2}}}", type = "vfio-pci" }},
    {{ bus = "main-system-bus", type = "port", buses = ["rp0"] }},
    {{ bus = "rp0", id = "gpu0", type = "vfio-pci" }},
]
[[vfio]]
devices = "[vg]*"
seed = {number}
[vfio.latency]
"PRE_COPY -> PRE_COPY_P2P" = {_LATENCY}
"PRE_COPY_P2P -> STOP_COPY" = {_LATENCY}
"RESUMING -> STOP" = {_LATENCY}
"STOP -> RUNNING_P2P" = {_LATENCY}
"RUNNING_P2P -> RUNNING" = {_LATENCY}
"""
    return parse_scenario(text, Path(f"host{number}.toml"))


def took(scenarios: int, devices: int, samples: int) -> float:
    """Give the processor's seconds of one forecast."""
    fleet = {f"host{number}": made(devices, number) for number in range(scenarios)}
    begin = time.process_time()
    forecast(fleet, samples=samples, most_helps=0)
    return time.process_time() - begin


def bare(numbers: int) -> float:
    """Give what drawing and adding up so many normal numbers takes."""
    generator = np.random.default_rng(0)
    begin = time.process_time()
    total = 0.0
    for _ in range(0, numbers, 80_000):
        total += float(np.exp(generator.standard_normal(80_000)).sum())
    return time.process_time() - begin if total else 0.0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=3, help="of the factors; medians are shown")
    options = parser.parse_args()
    count = options.scenarios
    whole, numbers = took(count, 16, 1000), count * 16 * 5 * 1000
    print(f"{count:,} scenarios, 16 devices, 1,000 samples: {whole:.1f} s of one processor")
    print(f"drawing and adding up as many numbers: {bare(numbers):.1f} s; {whole / numbers * 1e9:.0f} ns for each here")
    few = max(10, count // 100)
    turns = range(options.turns)
    base = median(took(few, 16, 1000) for _ in turns)
    for words, factors in (
        ("twice the scenarios", (2 * few, 16, 1000)),
        ("twice the devices", (few, 32, 1000)),
        ("twice the samples", (few, 16, 2000)),
    ):
        print(f"{words}: {median(took(*factors) for _ in turns) / base:.2f} times as long")
    print(f"memory at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
