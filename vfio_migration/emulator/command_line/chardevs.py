"""Where monitors are listened for: `-qmp DEVICE`, and sockets of `-chardev` (QEMU's `chardev/char-socket.c`)."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vfio_migration.emulator.command_line.keyvals import parse_keyvals, parse_switch
from vfio_migration.emulator.errors import QmpError


@dataclass(frozen=True)
class MonitorSocket:
    """
    A monitor's socket: a path, a host with a port, or a descriptor that this process was given.

    `server`: it is listened at, and connected to otherwise; `wait`: the machine waits for the first client.
    """

    label: str
    path: str = ""
    host: str = ""
    port: str = ""
    descriptor: int | None = None
    server: bool = True
    wait: bool = True
    pretty: bool = False


def chardev_of_device(text: str) -> dict[str, Any]:
    """
    Give `unix:PATH,...` or `tcp:HOST:PORT,...` as a character device has it.

    Raises:
        QmpError: it is none of both, and so nothing that a monitor is served at here.

    """
    kind, colon, rest = text.partition(":")
    where, _, options = rest.partition(",")
    values = parse_keyvals(options)
    if colon and kind == "unix" and where:
        return {"backend": "socket", "path": where, **values}
    host, found, port = where.rpartition(":")
    if colon and kind == "tcp" and found:
        return {"backend": "socket", "host": host, "port": port, **values}
    raise QmpError(f"'{text}' is not a socket: monitors are served at unix:PATH, tcp:HOST:PORT or a socket of -chardev")


def monitor_socket(chardev: Mapping[str, Any], label: str, *, pretty: bool) -> MonitorSocket:
    """
    Give where a monitor is to be served that is at this character device.

    Raises:
        QmpError: it is no socket, or says nothing that could be listened at.

    """
    if chardev.get("backend") != "socket":
        raise QmpError(f"chardev '{label}' is no socket: monitors are served at sockets only")
    server = parse_switch(chardev.get("server", "off"), "server")
    wait = server and parse_switch(chardev.get("wait", "on"), "wait")
    if "fd" in chardev:
        text = str(chardev["fd"])
        if not text.isdecimal():
            raise QmpError(f"File descriptor named '{text}' has not been found")
        return MonitorSocket(label, descriptor=int(text), server=server, wait=wait, pretty=pretty)
    if "path" in chardev:
        return MonitorSocket(label, path=str(chardev["path"]), server=server, wait=wait, pretty=pretty)
    if "port" in chardev:
        host, port = str(chardev.get("host", "")), str(chardev["port"])
        return MonitorSocket(label, host=host, port=port, server=server, wait=wait, pretty=pretty)
    raise QmpError("chardev: socket: no path, port or fd given")


def filename_of(where: MonitorSocket, sock: socket.socket | None = None) -> str:
    """Give a socket as `query-chardev` names it."""
    suffix = ",server=on" if where.server else ""
    if where.descriptor is not None and sock is not None:
        name = sock.getsockname()
        if isinstance(name, str) and name:
            return f"unix:{name}{suffix}"
        return f"fd:{where.descriptor}{suffix}"
    if where.path:
        return f"unix:{where.path}{suffix}"
    return f"tcp:{where.host}:{where.port}{suffix}"
