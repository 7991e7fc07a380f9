"""
What is predicted against what is measured: the switchover of every bundled scenario, serial and as configured.

In real time, medians; the ratio is measured over predicted.

    python benchmarks/prediction.py --runs 5
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from vfio_migration.forecast.prediction import predict
from vfio_migration.scenarios.file import bundled_scenarios, load_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.runner import run_once


def measure(name: str, runs: int) -> list[dict[str, Any]]:
    """Measure one scenario in both modes, taking turns; times in seconds."""
    parallel = load_scenario(name)
    modes = {"serial": parallel.serial(), "parallel": parallel}
    measured: dict[str, list[float]] = {mode: [] for mode in modes}
    for _ in range(runs):
        for mode, scenario in modes.items():
            measured[mode].append(_switchover(scenario))
    return [_row(name, mode, predict(scenario).switchover_s, measured[mode]) for mode, scenario in modes.items()]


def _row(name: str, mode: str, predicted_s: float, measured: list[float]) -> dict[str, Any]:
    return {
        "scenario": name,
        "mode": mode,
        "predicted_s": predicted_s,
        "measured_s": median(measured),
        "measured_min_s": min(measured),
        "measured_max_s": max(measured),
        "ratio": median(measured) / predicted_s,
    }


def _switchover(scenario: Scenario) -> float:
    report = run_once(scenario, record=False).report
    if report.switchover_s is None:
        raise SystemExit(f"the migration did not complete: {report.status}: {report.error}")
    return report.switchover_s


def main() -> None:
    """Read the command line, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(bundled_scenarios()), help="which ones (default %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="migrations for each figure (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    results = [row for name in options.scenarios.split(",") for row in measure(name, options.runs)]
    table = Table(title=f"switchover in ms, medians of {options.runs} run(s)")
    for column in ("scenario", "mode", "predicted", "measured", "min", "max", "ratio"):
        table.add_column(column, justify="left" if column in ("scenario", "mode") else "right")
    for row in results:
        times = (row[key] for key in ("predicted_s", "measured_s", "measured_min_s", "measured_max_s"))
        table.add_row(row["scenario"], row["mode"], *(f"{each * 1000:,.1f}" for each in times), f"{row['ratio']:.4f}")
    Console().print(table)
    print("ratio: measured over predicted")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
