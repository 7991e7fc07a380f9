"""
What it costs to migrate devices with big states of real bytes.

Against it, a bare loop: as many bytes sent over a socket pair by one thread and received by another, in pieces of the
same size. With `--against FOLDER` also against the packages of another checkout of this project, in turns.

    python benchmarks/big_states.py --devices 4 --size 250000000
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

PIECE = 64 * 1024


def migration_s(devices: int, size: int) -> float:
    """Migrate once, in real time; without a rate, so that only work counts."""
    from vfio_migration import MockDevice, VFIODevice, VFIOMigration, migrate  # noqa: PLC0415 - of either checkout
    from vmstate import Bus, Device, Machine  # noqa: PLC0415

    machines = [Machine(name) for name in ("source", "destination")]
    for seed, machine in enumerate(machines):
        for number in range(devices):
            mock = MockDevice(state_size=size, precopy_size=0, precopy_dirty=(), seed=2 * number + seed)
            VFIOMigration(machine, VFIODevice(Device(f"vf{number}", Bus("pcie.0")), mock))
    machines[0].start()
    begin = time.perf_counter()
    report = migrate(*machines)
    took = time.perf_counter() - begin
    if not report.completed:
        raise SystemExit(f"the migration failed: {report.error}")
    return took


def bare_loop_s(total: int) -> float:
    """Send and receive so many bytes, and do nothing else."""
    there, here = socket.socketpair()

    def send() -> None:
        data = bytes(PIECE)
        for _ in range(total // PIECE):
            there.sendall(data)
        there.close()

    begin = time.perf_counter()
    sender = threading.Thread(target=send)
    sender.start()
    while here.recv(PIECE):
        pass
    sender.join()
    here.close()
    return time.perf_counter() - begin


def elsewhere_s(folder: Path, devices: int, size: int) -> float:
    """Migrate once with the packages of another checkout."""
    command = [sys.executable, __file__, "--one", "--devices", str(devices), "--size", str(size)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--size", type=int, default=250_000_000, help="bytes of state of each (default 250000000)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout")
    parser.add_argument("--one", action="store_true", help="one migration only, and print its seconds")
    arguments = parser.parse_args()
    devices, size = arguments.devices, arguments.size
    if arguments.one:
        print(migration_s(devices, size))
        return
    here, bare, there = [], [], []
    for _ in range(arguments.runs):
        here.append(elsewhere_s(Path(__file__).parents[1], devices, size))
        bare.append(bare_loop_s(devices * size))
        if arguments.against is not None:
            there.append(elsewhere_s(arguments.against, devices, size))
    print(f"{devices} devices of {size:,} bytes, medians of {arguments.runs}")
    print(f"migration        {statistics.median(here):8.3f} s")
    print(f"bare loop        {statistics.median(bare):8.3f} s  {_ratio(here, bare):.2f} times that")
    if there:
        print(f"other checkout   {statistics.median(there):8.3f} s  {_ratio(here, there):.2f} times that")


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
