"""Two hosts with a libvirtd each, on one machine: what a daemon keeps is its own, by namespaces of Linux."""

import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

_TIMEOUT_S = 30
# Where a libvirtd keeps what it has, and what that is called in its host's folder.
_KEPT = {
    "run": "/run",
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
_LIBVIRTD = """\
auth_unix_rw = "none"
host_uuid = "{uuid}"
log_outputs = "2:file:{folder}/libvirtd.log"
"""
# Without systemd there are no control groups to be had, nobody to change to, and no virtlogd.
_QEMU = """\
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
dynamic_ownership = 0
stdio_handler = "file"
"""
# libvirt refuses to migrate to a host of its own name.
_ENTER = """\
set -e
hostname "$0"
for pair in "$@"; do
    mkdir -p "${pair#*:}"
    mount --bind "${pair%%:*}" "${pair#*:}"
done
exec libvirtd --config /etc/libvirt/libvirtd.conf
"""


class HostError(Exception):
    """A host's libvirtd does not do what it should."""


class Host:
    """A libvirtd, from `start` to `stop`; `folder` holds all that is its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Where it is reached, also by another libvirtd."""
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt/libvirt-sock"

    def start(self) -> None:
        """Start it, and wait until it answers; raises HostError if it does not."""
        for each in _KEPT:
            (self.folder / each).mkdir(parents=True)
        settings = _LIBVIRTD.format(uuid=uuid.uuid4(), folder=self.folder)
        (self.folder / "etc/libvirtd.conf").write_text(settings, encoding="ascii")
        (self.folder / "etc/qemu.conf").write_text(_QEMU, encoding="ascii")
        pairs = [f"{self.folder}/{ours}:{theirs}" for ours, theirs in _KEPT.items()]
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--uts", "bash", "-c", _ENTER, self.name, *pairs],
                stdout=output,
                stderr=output,
            )
        last = time.monotonic() + _TIMEOUT_S
        while self.virsh("uri").returncode != 0:
            if time.monotonic() > last or self._process.poll() is not None:
                raise HostError(f"the libvirtd of {self.name} does not answer:\n{self.said()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_TIMEOUT_S)

    def virsh(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Have virsh do something here."""
        return run(["virsh", "--quiet", "--connect", self.uri, *words])

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Have virsh begin something here."""
        command = ["virsh", "--quiet", "--connect", self.uri, *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def said(self) -> str:
        """Give what the daemon has printed and logged, and the logs of its domains."""
        files = [self.folder / "output", self.folder / "libvirtd.log", *sorted(self.folder.glob("log/qemu/*.log"))]
        return "\n".join(f"-- {file.name}\n{file.read_text(errors='replace')}" for file in files if file.exists())


def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, standard error with standard output."""
    return subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=_TIMEOUT_S
    )
