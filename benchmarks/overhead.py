"""
What launching and joining costs beside the devices' waits: ours, the least that does it, and what one would write.

A cycle stops and starts a machine whose devices lie at one depth: four passes in which every device waits. Every
contender runs in a process of its own, in turns; each has one cycle to warm up. The native reference is the patch
and nothing else in C (`native_reference.c`), built where a C compiler is found.

    python benchmarks/overhead.py --devices 1,4,16,64,256,1024 --latency-ms 100
"""

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from contenders import CONTENDERS
from rich.console import Console
from rich.table import Table

NATIVE = "native (C)"
# A contender, against what, for how many devices, and the ratio that it is to stay under.
TARGETS = [
    ("per-change", "thread sketch", (64, 256, 1024), 1.05),
    ("per-change", NATIVE, (64,), 1.05),
    ("parked", "parked sketch", (64, 256, 1024), 1.05),
    ("parked", NATIVE, (64, 256, 1024), 1.00),
]
PASSES = 4
Row = dict[str, Any]


def measure_here(contender: str, devices: int, seconds: float, cycles: int) -> list[Row]:
    """Measure in this process; times in seconds."""
    before_kib = process_status("VmRSS:")
    rows: list[Row] = []
    with CONTENDERS[contender](devices, seconds) as cycle:
        for number in range(cycles + 1):
            marks: list[float] = []
            threads: list[int] = []

            def mark(marks: list[float] = marks, threads: list[int] = threads) -> None:
                marks.append(time.perf_counter())
                if len(marks) % 3 == 2:  # all were told, and wait: looking costs nothing now
                    threads.append(process_status("Threads:"))

            start = time.perf_counter()
            cycle(mark)
            total = time.perf_counter() - start
            if number:
                launch = sum(told - began for began, told in zip(marks[::3], marks[1::3], strict=True))
                rows.append({"total_s": total, "launch_s": launch, "threads": max(threads)})
    peak = process_status("VmHWM:") - before_kib
    return [{**row, "memory_kib": peak} for row in rows]


def process_status(field: str) -> int:
    """Read a number of `/proc/self/status`; 0 where there is none."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    lines = status.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def measure_python(contender: str, devices: int, seconds: float, cycles: int) -> list[Row]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--child", contender, str(devices), str(seconds), str(cycles)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise SystemExit(f"{contender}, {devices} devices: {reason}")
    rows: list[Row] = json.loads(done.stdout)
    return rows


def build_native(folder: Path) -> Path | None:
    """Compile the reference; None, with a message, where that cannot be done."""
    source = Path(__file__).with_name("native_reference.c")
    names = [str(sysconfig.get_config_var("CC") or "cc").split()[0], "cc", "gcc", "clang"]
    compiler = next((path for name in names if (path := shutil.which(name)) is not None), None)
    if compiler is None:
        print("no C compiler was found: the native reference is left out", file=sys.stderr)
        return None
    program = folder / "native_reference"
    done = subprocess.run(
        [compiler, "-O2", "-pthread", "-o", str(program), str(source)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        print(f"the native reference is left out, it cannot be built: {done.stderr.strip()}", file=sys.stderr)
        return None
    return program


def measure_native(program: Path, devices: int, seconds: float, cycles: int) -> list[Row]:
    """Run the reference."""
    command = [str(program), str(devices), str(round(seconds * 1e9)), str(cycles)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *lines, last = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    threads, memory = last
    return [
        {"total_s": total / 1e9, "launch_s": launch / 1e9, "threads": threads, "memory_kib": memory}
        for total, launch in lines
    ]


def measure(
    devices: int, seconds: float, turns: int, cycles: int, native: Path | None, only: str | None = None
) -> dict[str, list[Row]]:
    """Measure all contenders in turns; gives a list of cycles for each."""

    def runner(name: str) -> Callable[[], list[Row]]:
        return lambda: measure_python(name, devices, seconds, cycles)

    ways = {name: runner(name) for name in CONTENDERS}
    if native is not None:
        ways = {NATIVE: lambda: measure_native(native, devices, seconds, cycles), **ways}
    if only is not None:
        ways = {name: ways[name] for name in only.split(",")}
    rows: dict[str, list[Row]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, run in ways.items():
            rows[name].append({field: median(row[field] for row in cycle) for cycle in [run()] for field in cycle[0]})
    return rows


def summary(devices: int, name: str, rows: list[Row], seconds: float) -> Row:
    """Condense the turns of a contender."""
    totals = [row["total_s"] for row in rows]
    launch = median(row["launch_s"] for row in rows)
    return {
        "devices": devices,
        "contender": name,
        "total_s": median(totals),
        "min_s": min(totals),
        "max_s": max(totals),
        "over_wait": median(totals) / (PASSES * seconds),
        "launch_s_per_pass": launch / PASSES,
        "join_s_per_pass": (median(totals) - launch) / PASSES - seconds,
        "threads": int(max(row["threads"] for row in rows)),
        "memory_mib": median(row["memory_kib"] for row in rows) / 1024,
    }


def compare(results: list[Row]) -> list[Row]:
    """Set what is to be shown against what was measured."""
    by = {(row["contender"], row["devices"]): row for row in results}
    shown = []
    for name, peer, sizes, limit in TARGETS:
        for devices in sizes:
            ours, theirs = by.get((name, devices)), by.get((peer, devices))
            if ours is not None and theirs is not None:
                ratio = ours["total_s"] / theirs["total_s"]
                shown.append(
                    {
                        "what": f"{name} / {peer}",
                        "devices": devices,
                        "ratio": ratio,
                        "best": ours["min_s"] / theirs["max_s"],
                        "worst": ours["max_s"] / theirs["min_s"],
                        "at_most": limit,
                    }
                )
    return shown


def show(results: list[Row], targets: list[Row], title: str) -> None:
    """Print the tables."""
    table = Table(title=title)
    for column in ("devices", "contender", "total", "min", "max", "/ wait", "launch", "join", "threads", "MiB"):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for row in results:
        table.add_row(
            str(row["devices"]),
            row["contender"],
            *(f"{row[field] * 1000:.1f}" for field in ("total_s", "min_s", "max_s")),
            f"{row['over_wait']:.3f}",
            *(f"{row[field] * 1000:.2f}" for field in ("launch_s_per_pass", "join_s_per_pass")),
            str(row["threads"]),
            f"{row['memory_mib']:.1f}",
        )
    console = Console(width=max(Console().width, 110))
    console.print(table)
    console.print("times in ms; launch and join: of one pass, beyond the wait; MiB: peak above the process before")
    if targets:
        table = Table(title="ratios of the medians; best and worst: of any two turns")
        for column in ("what", "devices", "ratio", "best", "worst", "at most"):
            table.add_column(column, justify="left" if column == "what" else "right")
        for row in targets:
            figures = [f"{row[field]:.3f}" for field in ("ratio", "best", "worst")]
            table.add_row(row["what"], str(row["devices"]), *figures, f"{row['at_most']:.2f}")
        console.print(table)


def plot(results: list[Row], file: str) -> None:
    """Draw what a pass costs beyond the wait, over the number of devices."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError:
        raise SystemExit("a plot needs matplotlib: pip install -e '.[bench]'") from None
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["contender"] for row in results):
        rows = [row for row in results if row["contender"] == name]
        beyond = [(row["launch_s_per_pass"] + row["join_s_per_pass"]) * 1000 for row in rows]
        axes.plot([row["devices"] for row in rows], beyond, marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="devices at one depth", ylabel="ms beyond the wait, for each pass")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(file)


def main() -> None:
    """Read the command line, measure, print tables, write JSON and a plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="1,4,16,64,256,1024", help="numbers of devices (default %(default)s)")
    parser.add_argument("--latency-ms", type=float, default=100.0, help="of each arc (default %(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="of all contenders (default %(default)s)")
    parser.add_argument("--cycles", type=int, default=2, help="stops and starts in each turn (default %(default)s)")
    parser.add_argument("--only", metavar="NAMES", help="these contenders (default all), such as 'per-change,parked'")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--plot", metavar="FILE", help="draw them there (.svg, .png)")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        contender, devices, child_seconds, cycles = options.child
        print(json.dumps(measure_here(contender, int(devices), float(child_seconds), int(cycles))))
        return
    seconds = options.latency_ms / 1000
    results: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        native = build_native(Path(folder))
        for number in map(int, options.devices.split(",")):
            measured = measure(number, seconds, options.turns, options.cycles, native, options.only)
            results += [summary(number, name, rows, seconds) for name, rows in measured.items()]
    targets = compare(results)
    show(results, targets, f"stop and start, {options.latency_ms:g} ms an arc, medians of {options.turns} turn(s)")
    if options.json:
        Path(options.json).write_text(json.dumps({"results": results, "targets": targets}, indent=2) + "\n")
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
