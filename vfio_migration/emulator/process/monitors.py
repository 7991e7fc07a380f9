"""The monitors of a process: sockets that are listened at, connected to, or given."""

import os
import socket

from vfio_migration.emulator.command_line.chardevs import MonitorSocket, filename_of
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.monitor.listener import Listener, given_socket, listen_at, listen_at_port
from vfio_migration.emulator.monitor.session import Commands


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
