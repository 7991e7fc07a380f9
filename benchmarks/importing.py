"""
How fast logs are read: user time against that of a bare loop that looks at each line, also for hostile lines.

    python benchmarks/importing.py [--lines 300000] [--json FILE]
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vfio_migration.errors import LogImportError
from vfio_migration.importing import import_logs

REPEATS = 3
STAMP = "2026-11-25T10:44:48.{:06}Z "
DEVICE = "(0000:3b:00.1)"
# What QEMU's other events, the guest's console and a hostile guest write.
UNRELATED = (
    "vfio_region_write  (0000:3b:00.1:region2+0x1000, 0x12345678, 4)",
    "virtio_pci_notify_write 0x0 val 0x1 (2)",
    "kvm_irqchip_commit_routes ",
    "qemu_loadvm_state_section_partend 4",
)


def lines_of_switchover(us: int) -> Iterator[str]:
    """Give the lines of one migration."""
    for number, event in enumerate(
        (
            "migrate_set_state new state setup",
            f"vfio_migration_set_state  {DEVICE} new state PRE_COPY, recover state RUNNING",
            f"vfio_migration_set_device_state  {DEVICE} state PRE_COPY",
            "migrate_set_state new state active",
            "vmstate_downtime_checkpoint src-downtime-start",
            "vm_state_notify running 0 reason 7 (finish-migrate)",
            f"vfio_migration_set_state  {DEVICE} new state STOP_COPY, recover state ERROR",
            f"vfio_migration_set_device_state  {DEVICE} state STOP_COPY",
            f"vfio_vmstate_change  {DEVICE} running 0 reason finish-migrate device state STOP_COPY",
            "vmstate_downtime_checkpoint src-vm-stopped",
            f"vfio_save_complete_precopy_start  {DEVICE}",
            f"vfio_save_complete_precopy  {DEVICE} ret 0",
            "vmstate_downtime_checkpoint src-downtime-end",
            "migrate_set_state new state completed",
        )
    ):
        yield STAMP.format(us + number) + event


def unrelated(lines: int) -> Iterator[str]:
    """Give lines of other events, with one migration among them."""
    for number in range(lines):
        yield STAMP.format(number) + UNRELATED[number % len(UNRELATED)]
    yield from lines_of_switchover(lines)


def all_known(lines: int) -> Iterator[str]:
    """Give one migration after another."""
    for number in range(0, lines, 14):
        yield from lines_of_switchover(number)


def journal(lines: int) -> Iterator[str]:
    """Give the same behind the prefix of a journal."""
    for line in all_known(lines):
        yield f"Nov 25 10:44:48 node-a qemu-kvm[7]: {line}"


def hostile(lines: int) -> Iterator[str]:
    """Give long lines that almost are events, over and over, and noise."""
    chance = random.Random(1)
    pieces = (
        ") running 1 reason x",
        ") new state ",
        " device state ",
        " ret ",
        "7@1.000000:",
        "vfio_vmstate_change (a",
    )
    left = lines * 100  # characters
    while left > 0:
        size = min(left, chance.choice((100, 10_000, 300_000)))
        piece = chance.choice(pieces)
        yield STAMP.format(1) + f"vfio_vmstate_change  (a{piece * (size // len(piece))}"
        left -= size
    yield from lines_of_switchover(2)


def user_s(work: Callable[[], object]) -> float:
    """Give the least user time of some tries."""
    times = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        work()
        times.append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)
    return min(times)


def bare_loop(path: Path) -> int:
    """Look at each line, as little as that can be."""
    found = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if "vfio" in line:
                found += 1
    return found


def imported(path: Path) -> None:
    """Import, or be told that it cannot be."""
    try:
        import_logs(path)
    except LogImportError as error:
        sys.stderr.write(f"{error}\n")


def measured(name: str, lines: Iterator[str], folder: Path) -> dict[str, object]:
    """Measure one kind of log."""
    path = folder / f"{name}.log"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    bare, ours = user_s(lambda: bare_loop(path)), user_s(lambda: imported(path))
    tracemalloc.start()
    imported(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "log": name,
        "megabytes": path.stat().st_size / 1e6,
        "bare_s": bare,
        "import_s": ours,
        "ratio": ours / bare if bare else 0.0,
        "peak_megabytes": peak / 1e6,
    }


def main() -> None:
    """Measure all kinds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=300_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    kinds = (unrelated, all_known, journal, hostile)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(kind.__name__, kind(arguments.lines), Path(folder)) for kind in kinds]
    table = Table(title="user time of an import, against a bare loop over the lines", title_justify="left")
    for column in ("log", "MB", "bare loop, s", "import, s", "ratio", "peak memory, MB"):
        table.add_column(column, justify="left" if column == "log" else "right")
    for row in rows:
        numbers = [f"{row[key]:.2f}" for key in ("megabytes", "bare_s", "import_s", "ratio", "peak_megabytes")]
        table.add_row(str(row["log"]), *numbers)
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
