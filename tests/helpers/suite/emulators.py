"""Processes of the emulator, for tests that need real ones."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vfio_migration.testing import QmpClient

LIMIT_S = 30.0
COMMAND = [sys.executable, "-m", "vfio_migration.emulator.process.main"]
VFS = [
    *("-device", "pcie-root-port,id=rp0,chassis=1,slot=1", "-device", "vfio-pci,id=vf0,bus=rp0"),
    *("-device", "pcie-root-port,id=rp1,chassis=2,slot=2", "-device", "vfio-pci,id=vf1,bus=rp1"),
]
_ALWAYS = ["-machine", "q35", "-m", "64", "-display", "none", "-nodefaults"]


class Emulator:
    """One process; `qmp` is a client that is connected, with migration events on, unless it is told not to be."""

    def __init__(
        self, folder: Path, name: str, *options: str, env: dict[str, str] | None = None, connect: bool = True
    ) -> None:
        self.path = folder / f"{name}.qmp"
        self.process = subprocess.Popen(
            [*COMMAND, *_ALWAYS, *options, "-qmp", f"unix:{self.path},server=on,wait=off"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        if connect:
            self.qmp = connected(self.path)
            self.qmp.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])

    def end(self) -> tuple[int, str]:
        """Wait for the end; gives the exit status and what was printed to the standard error stream."""
        _, errors = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, errors

    def kill(self) -> None:
        """Kill it, if it is there still, and let go of everything."""
        self.process.kill()
        self.process.communicate(timeout=LIMIT_S)
        if hasattr(self, "qmp"):
            self.qmp.close()

    def capability(self, name: str) -> None:
        """Switch a capability on."""
        self.qmp.execute("migrate-set-capabilities", capabilities=[{"capability": name, "state": True}])


class Emulators:
    """Starts processes in one folder, and ends all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()

    def start(self, name: str, *options: str, **more: Any) -> Emulator:
        """Start one."""
        emulator = Emulator(self.folder, name, *options, **more)
        self._stack.callback(emulator.kill)
        return emulator

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def connected(path: Path) -> QmpClient:
    """Connect to a monitor, once it is there."""
    return QmpClient.when_there(str(path), timeout_s=LIMIT_S)
