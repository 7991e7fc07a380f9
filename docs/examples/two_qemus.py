"""Two QEMUs without hardware for a test: each a process with two VFIO devices behind root ports, and a monitor."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Qemu:
    """A process, and the path of its monitor's socket."""

    process: subprocess.Popen[str]
    path: str

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()

    def last_words(self) -> tuple[int, str]:
        """Wait for its end; gives the exit status, and what it has printed."""
        _, printed = self.process.communicate(timeout=_TIMEOUT_S)
        return self.process.returncode, printed


def start_qemu(path: str, device: str, options: Sequence[str], environment: Mapping[str, str]) -> Qemu:
    """
    Start one whose monitor is at this path; `device` is what options its devices have.

    It is given a socket that listens, as libvirt does: whoever connects need not wait until the process is there.
    """
    words = ["vfio-switchover-qemu", "-name", Path(path).name, "-machine", "q35", "-nodefaults", "-m", "64M"]
    for n in range(2):
        words += ["-device", f"pcie-root-port,id=rp{n},chassis={n},slot={n}"]
        words += ["-device", f"vfio-pci,id=vf{n},bus=rp{n},migration-events=on{device}"]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        number = listening.fileno()
        words += ["-chardev", f"socket,id=monitor,fd={number},server=on,wait=off"]
        words += ["-mon", "chardev=monitor,mode=control", *options]
        process = subprocess.Popen(
            words, pass_fds=[number], env=os.environ | environment, stderr=subprocess.PIPE, text=True
        )
    return Qemu(process, path)


@contextmanager
def two_qemus(device: str = "", **environment: str) -> Iterator[tuple[Qemu, Qemu, str]]:
    """Give a source that runs, a destination that waits to be told where to listen, and a uri for that."""
    qemus: list[Qemu] = []
    # The path of a socket has 107 bytes at most, and that of a test's own folder may be longer.
    with tempfile.TemporaryDirectory() as folder:
        try:
            qemus.append(start_qemu(f"{folder}/source", device, [], environment))
            qemus.append(start_qemu(f"{folder}/destination", device, ["-incoming", "defer"], environment))
            yield qemus[0], qemus[1], f"unix:{folder}/migration"
        finally:
            for qemu in qemus:
                qemu.kill()
                qemu.last_words()
