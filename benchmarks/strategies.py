"""
The switchover of each bundled scenario under each strategy: planned, in virtual time, in real time.

    python benchmarks/strategies.py                       all of them; about four minutes
    python benchmarks/strategies.py --scenarios host,vfs --runs 1

Real time is held against the plan: medians of several runs, in turns of the strategies.
"""

import argparse

from vfio_migration.scenarios import bundled_scenarios, load_scenario, run_scenario
from vmstate import VirtualClock

_STRATEGIES = ("serial", "depths", "overlapping", "pool:2", "pool:4")


def row(name: str, strategy: str, runs: int) -> str:
    """Give a line of the table: seconds become milliseconds, and what was measured a ratio to the plan."""
    scenario = load_scenario(name).with_strategy(strategy)
    planned = scenario.plan().bounds.mechanism_s
    virtual = run_scenario(scenario, ["parallel"], runs=1, make_clock=VirtualClock).modes["parallel"]
    real = run_scenario(scenario, ["parallel"], runs=runs).modes["parallel"]
    found = [each.median("switchover_s") for each in (virtual, real)]
    cells = ["failed" if seconds is None else f"{seconds / planned:.4f}" for seconds in found]
    return f"| {name} | {strategy} | {planned * 1e3:,.1f} | {cells[0]} | {cells[1]} |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(bundled_scenarios()))
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print("| scenario | strategy | planned, ms | virtual / planned | real / planned |")
    print("| --- | --- | --- | --- | --- |")
    for name in options.scenarios.split(","):
        for strategy in _STRATEGIES:
            print(row(name, strategy, options.runs), flush=True)


if __name__ == "__main__":
    main()
