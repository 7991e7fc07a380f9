"""The monitors of a process: sockets that are listened at, connected to, or given."""

import os
import socket
import threading
from collections.abc import Mapping
from typing import Any

from vfio_migration.emulator.command_line.chardevs import MonitorSocket, filename_of
from vfio_migration.emulator.commands.dispatch import greeting_of
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.monitor.listener import Listener, given_socket, listen_at, listen_at_port
from vfio_migration.emulator.monitor.request import Request
from vfio_migration.emulator.monitor.session import Commands, Session
from vfio_migration.emulator.profile import Profile


class EarlyCommands:
    """
    The commands of monitors that are there before their machine is (`monitor.session.Commands`).

    Whoever connects is greeted at once, as by a QEMU that is about to find out that it cannot be; commands wait until
    `ready` has said who carries them out, or `give_up` that nobody will. `_ready` is set once, after `_commands`.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._ready = threading.Event()
        self._commands: Commands | None = None

    def ready(self, commands: Commands) -> None:
        """Have commands carried out from now on."""
        self._commands = commands
        self._ready.set()

    def give_up(self) -> None:
        """Have nobody wait any more: there will be no machine."""
        self._ready.set()

    def greeting(self) -> Mapping[str, Any]:
        """Say who is there."""
        return greeting_of(self._profile)

    def epoch_ns(self) -> int:
        """Give what the machine's clock calls zero."""
        return self._when_ready().epoch_ns()

    def check(self, request: Request) -> Mapping[str, Any]:
        """Give the arguments as the command takes them."""
        return self._when_ready().check(request)

    def run(self, session: Session, request: Request, arguments: Mapping[str, Any]) -> Any:
        """Carry a command out."""
        return self._when_ready().run(session, request, arguments)

    def _when_ready(self) -> Commands:
        self._ready.wait()
        if self._commands is None:
            raise QmpError("there is no machine, and the process is about to end")
        return self._commands


def open_monitor(where: MonitorSocket, commands: Commands) -> Listener:
    """
    Make a monitor at a socket; it serves nobody yet.

    Raises:
        QmpError: that cannot be listened at, or connected to.

    """
    if where.descriptor is not None:
        sock = given_socket(where.descriptor)
        path = ""
    elif where.server:
        sock = listen_at(where.path) if where.path else listen_at_port(where.host, where.port)
        path = os.path.abspath(where.path) if where.path else ""  # noqa: PTH100 - Path would resolve links
    else:
        sock, path = _connected(where), ""
    return Listener(sock, commands, where.label, filename=filename_of(where, sock), path=path, pretty=where.pretty)


def _connected(where: MonitorSocket) -> socket.socket:
    try:
        if not where.path:
            return socket.create_connection((where.host or "localhost", where.port))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(where.path)
    except OSError as error:
        at = where.path or f"{where.host}:{where.port}"
        raise QmpError(f"Failed to connect to '{at}': {error.strerror}") from error
    return sock
