"""Commands about character devices (QEMU's `chardev/char.c`, `char-ringbuf.c`): kept, and connected to nothing."""

import base64
import os
from collections.abc import Mapping
from typing import Any

from vfio_migration.emulator.board.hash_order import HashOrder
from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.errors import QmpError

table = CommandTable()
_RING = "ringbuf"
_CONTENTS = "x-contents"  # of a ring, kept beside its options
_SIZE_OF_RING = 65536
_BACKENDS = (
    "testdev", "stdio", "wctablet", "file", "udp", "memory", "parallel", "vc", "socket", "msmouse", "null", "hub",
    "pty", "qemu-vdagent", "pipe", "mux", "serial", "ringbuf",
)  # fmt: skip


@table.command("query-chardev-backends")
def query_chardev_backends(call: Call) -> Any:
    """Name the kinds of character devices."""
    return [{"name": name} for name in _BACKENDS]


@table.command("query-chardev")
def query_chardev(call: Call) -> Any:
    """List the character devices: monitors, and those that are connected to nothing here."""
    shown = {
        each.label: {"frontend-open": each.connected, "filename": each.filename, "label": each.label}
        for each in call.emulated.speakers
    }
    for name, each in call.emulated.backends.chardevs.items():
        shown.setdefault(name, {"frontend-open": False, "filename": _filename(each), "label": name})
    order = HashOrder()
    for name in shown:
        order.add(name)
    return [shown[name] for name in order.listing()]


@table.command("chardev-add")
def chardev_add(call: Call) -> None:
    """Make one; raises QmpError if its id is taken, or it cannot be opened."""
    name = call.arguments["id"]
    if name in _labels(call):
        raise QmpError(f"Chardev with id '{name}' already exists")
    call.emulated.backends.chardevs[name] = _made(name, call.arguments["backend"])


@table.command("chardev-change")
def chardev_change(call: Call) -> None:
    """Put another in its place."""
    name = call.arguments["id"]
    if name not in _labels(call):
        raise QmpError(f"Chardev '{name}' does not exist")
    if name in _of_monitors(call):
        raise QmpError("Chardev user does not support chardev hotswap")
    call.emulated.backends.chardevs[name] = _made(name, call.arguments["backend"])


@table.command("chardev-remove")
def chardev_remove(call: Call) -> None:
    """Forget one; raises QmpError if it is a monitor's, or there is none."""
    name = call.arguments["id"]
    if name in _of_monitors(call):
        raise QmpError(f"Chardev '{name}' is busy")
    if call.emulated.backends.chardevs.pop(name, None) is None:
        raise QmpError(f"Chardev '{name}' not found")


@table.command("chardev-send-break")
def chardev_send_break(call: Call) -> None:
    """Send a break, to nobody."""
    if call.arguments["id"] not in _labels(call):
        raise QmpError(f"Chardev '{call.arguments['id']}' not found")


@table.command("ringbuf-write")
def ringbuf_write(call: Call) -> None:
    """Write to a ring; the oldest bytes make room. Raises QmpError if it is none."""
    ring = _ring(call)
    data = call.arguments["data"]
    written = base64.b64decode(data) if call.arguments.get("format") == "base64" else data.encode()
    ring[_CONTENTS] = (ring.get(_CONTENTS, b"") + written)[-int(ring.get("size", _SIZE_OF_RING)) :]


@table.command("ringbuf-read")
def ringbuf_read(call: Call) -> Any:
    """Read from a ring, at most so many bytes, which are gone then. Raises QmpError if it is none."""
    ring, size = _ring(call), call.arguments["size"]
    if size <= 0:
        raise QmpError("size must be greater than zero")
    contents = ring.get(_CONTENTS, b"")
    ring[_CONTENTS] = contents[size:]
    if call.arguments.get("format") == "base64":
        return base64.b64encode(contents[:size]).decode()
    return contents[:size].decode("utf-8", "replace")


def _ring(call: Call) -> dict[str, Any]:
    name = call.arguments["device"]
    if name not in _labels(call):
        raise QmpError(f"Device '{name}' not found")
    ring = call.emulated.backends.chardevs.get(name, {})
    if ring.get("backend") != _RING:
        raise QmpError(f"{name} is not a ringbuf device")
    return ring


def _of_monitors(call: Call) -> set[str]:
    return {each.label for each in call.emulated.speakers}


def _labels(call: Call) -> set[str]:
    return {*_of_monitors(call), *call.emulated.backends.chardevs}


def _made(name: str, backend: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is kept of one, once it could be opened."""
    kind, data = str(backend["type"]), dict(backend.get("data", {}))
    failed = f"Failed to add chardev '{name}': "
    if kind == "file":
        folder = os.path.dirname(data["out"])  # noqa: PTH120 - a path as the client has written it
        if folder and not os.path.isdir(folder):  # noqa: PTH112
            raise QmpError(f"{failed}Could not open '{data['out']}': No such file or directory")
    size = data.get("size", _SIZE_OF_RING)
    if kind == _RING and (size <= 0 or size & (size - 1)):
        raise QmpError(f"{failed}size of ringbuf chardev must be power of two")
    path = data.get("addr", {}).get("data", {}).get("path", "")
    if kind == "socket" and not data.get("server", True) and path and not os.path.exists(path):  # noqa: PTH110
        raise QmpError(f"{failed}Failed to connect to '{path}': No such file or directory")
    return {"backend": kind, **data}


def _filename(chardev: Mapping[str, Any]) -> str:
    """Give what a character device is called that nobody has connected to."""
    kind = str(chardev.get("backend", "null"))
    address = chardev.get("addr", {}).get("data", chardev)
    if kind == "socket" and "path" in address:
        server = ",server=on" if chardev.get("server", True) not in (False, "off") else ""
        return f"disconnected:unix:{address['path']}{server}"
    return kind
