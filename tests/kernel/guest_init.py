"""
The first process of a guest that has real VFIO devices: mounts, loads modules, runs pytest, says its exit status.

Started by the kernel from what `.ci/kernel` packs. What is to be run stands in /kernel-test, an argument a line.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

_MOUNTS = {"proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev", "tmpfs": "/tmp", "tracefs": "/sys/kernel/tracing"}
_FINIT_MODULE = 313  # the number of the call on x86-64
_POWER_OFF = 0x4321FEDC  # RB_POWER_OFF
_libc = ctypes.CDLL("libc.so.6", use_errno=True)


def _tell(what: str) -> None:
    sys.stdout.write(f"guest: {what}\n")
    sys.stdout.flush()


def _said(what: str, failed: int) -> None:
    if failed:
        _tell(f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount() -> None:
    for kind, place in _MOUNTS.items():
        Path(place).mkdir(parents=True, exist_ok=True)
        _said(f"mounting {kind}", _libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None))


def _load_modules() -> None:
    for line in Path("/modules/order").read_text().split():
        with Path(f"/modules/{line}.ko").open("rb") as file:
            _said(f"loading {line}", _libc.syscall(_FINIT_MODULE, file.fileno(), b"", 0))


def _run() -> int:
    command = [sys.executable, *Path("/kernel-test").read_text().splitlines()]
    environment = {**os.environ, "PYTHONPATH": "/project:/site", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"}
    return subprocess.run(command, cwd="/project", env=environment, check=False).returncode


def main() -> None:
    """Do all of it, and switch the guest off, whatever happens."""
    status = 1
    try:
        _mount()
        _load_modules()
        _tell(f"Linux {os.uname().release}, {os.cpu_count()} processors")
        status = 0 if "ONLY_BOOT" in os.environ else _run()
    finally:
        _tell(f"exit status {status}")
        os.sync()
        _libc.reboot(_POWER_OFF)


if __name__ == "__main__":
    main()
