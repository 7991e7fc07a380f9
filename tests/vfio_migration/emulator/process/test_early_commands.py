"""A monitor that is there before its machine is, and a machine that never comes."""

import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vfio_migration.emulator.monitor.listener import Listener, listen_at
from vfio_migration.emulator.monitor.request import Request
from vfio_migration.emulator.process.monitors import EarlyCommands
from vfio_migration.emulator.profile import Profile

LIMIT_S = 30.0


class Asked(EarlyCommands):
    """Tells when a command has come, which then waits."""

    def __init__(self) -> None:
        super().__init__(Profile.bundled())
        self.asked = threading.Event()

    def check(self, request: Request) -> Mapping[str, Any]:
        self.asked.set()
        return super().check(request)


@pytest.mark.parametrize("behind", [b"", b'{"execute": "query-status"}\n'], ids=["one", "two"])
def test_a_command_that_waits_for_a_machine_does_not_hold_up_the_end(behind: bytes, tmp_path: Path) -> None:
    commands = Asked()
    listener = Listener(listen_at(str(tmp_path / "qmp")), commands, "monitor")
    listener.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_S)
        client.connect(str(tmp_path / "qmp"))
        assert client.recv(1 << 16).startswith(b'{"QMP"')
        client.sendall(b'{"execute": "qmp_capabilities"}\n' + behind)
        assert commands.asked.wait(LIMIT_S)
        closing = threading.Thread(target=lambda: listener.close(flush=False), daemon=True)
        closing.start()
        closing.join(LIMIT_S)
        assert not closing.is_alive()
        assert client.recv(1 << 16) == b""
    commands.give_up()
