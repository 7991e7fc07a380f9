"""
What the clock seam costs in real time: launch, sleep and join through `RealClock` against `threading` itself.

Both do the same in turns within one run; the ratio of the medians is what counts.

    python benchmarks/clock_seam.py --threads 64 --sleep-ms 5
"""

import argparse
import json
import threading
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from vmstate import RealClock


def through_the_clock(threads: int, seconds: float) -> float:
    """Start, sleep and join through the clock; gives the seconds it took."""
    clock = RealClock()
    start = time.perf_counter()
    started = [clock.start_thread(lambda: clock.sleep(seconds), "sleeper") for _ in range(threads)]
    for thread in started:
        clock.join(thread)
    return time.perf_counter() - start


def directly(threads: int, seconds: float) -> float:
    """Do the same with `threading` and `time`."""
    start = time.perf_counter()
    started = [
        threading.Thread(target=lambda: time.sleep(seconds), name="sleeper", daemon=True) for _ in range(threads)
    ]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return time.perf_counter() - start


def main() -> None:
    """Read the command line, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=64, help="started at a time (default %(default)s)")
    parser.add_argument("--sleep-ms", type=float, default=5.0, help="of each thread (default %(default)s)")
    parser.add_argument("--runs", type=int, default=51, help="turns (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    seconds = options.sleep_ms / 1000
    seam, direct = [], []
    for _ in range(options.runs):
        seam.append(through_the_clock(options.threads, seconds))
        direct.append(directly(options.threads, seconds))
    ratio = median(seam) / median(direct)
    table = Table(
        title=f"{options.threads} threads that sleep {options.sleep_ms:g} ms, medians of {options.runs} turns"
    )
    for column in ("through RealClock", "threading directly", "ratio"):
        table.add_column(column, justify="right")
    table.add_row(f"{median(seam) * 1000:.3f} ms", f"{median(direct) * 1000:.3f} ms", f"{ratio:.3f}")
    Console().print(table)
    if options.json:
        figures = {"seam_s": median(seam), "direct_s": median(direct), "ratio": ratio}
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
