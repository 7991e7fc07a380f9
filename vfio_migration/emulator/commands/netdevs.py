"""Commands about what network devices are connected to (QEMU's `net/net.c`): kept, and shown, no more."""

from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.commands.identifiers import check_identifier
from vfio_migration.emulator.errors import QmpError

table = CommandTable()
_ENDS_OF_SOCKET = ("fd", "listen", "connect", "mcast", "udp")
_NETWORK_DEVICES = ("virtio-net-pci-base", "e1000-base", "e1000e", "igb", "rtl8139", "usb-net", "vmxnet3")
_VIRTIO = "virtio-net-pci-base"


@table.command("netdev_add")
def netdev_add(call: Call) -> None:
    """Make a backend; raises QmpError if its id is taken or is none, or there is nothing to connect to."""
    netdevs, name = call.emulated.backends.netdevs, check_identifier(call.arguments["id"])
    if name in netdevs:
        raise QmpError(f"Duplicate ID '{name}'")
    _check(call)
    netdevs[name] = dict(call.arguments)


@table.command("netdev_del")
def netdev_del(call: Call) -> None:
    """Forget a backend, also one that a device uses; raises QmpError if there is none."""
    if call.emulated.backends.netdevs.pop(call.arguments["id"], None) is None:
        raise _no_device(call.arguments["id"])


@table.command("set_link")
def set_link(call: Call) -> None:
    """Plug a cable in or out, which no guest notices; raises QmpError if nothing has that name."""
    name = call.arguments["name"]
    if name not in call.emulated.backends.netdevs and name not in _named(call):
        raise _no_device(name)


@table.command("query-rx-filter")
def query_rx_filter(call: Call) -> Any:
    """Say what network devices listen to: virtio's, as they are before a driver has told them."""
    wanted = call.arguments.get("name")
    types = _named(call)
    if wanted is not None and wanted not in types:
        raise QmpError(f"invalid net client name: {wanted}")
    board = call.emulated.board
    return [
        _listens(call, name) for name, kind in types.items() if board.is_a(kind, _VIRTIO) and wanted in (None, name)
    ]


def _named(call: Call) -> dict[str, str]:
    """Give the types of network devices by the names that they have among clients of the network."""
    board = call.emulated.board
    return {
        each.id: each.type for each in board.devices() if any(board.is_a(each.type, kind) for kind in _NETWORK_DEVICES)
    }


def _listens(call: Call, name: str) -> dict[str, Any]:
    recorded: list[dict[str, Any]] = (call.emulated.profile.answer("query-rx-filter") or {}).get("return") or [{}]
    device = next(each for each in call.emulated.board.devices() if each.id == name)
    shown: dict[str, Any] = {
        "promiscuous": True, "multicast": "normal", "unicast": "normal", "vlan": "all",
        "broadcast-allowed": False, "multicast-overflow": False, "unicast-overflow": False,
        "main-mac": "52:54:00:12:34:56", "vlan-table": list(reversed(range(4096))), "unicast-table": [],
        "multicast-table": [],
    }  # fmt: skip
    return shown | recorded[0] | {"name": name} | _mac(device.value("mac"))


def _mac(shown: str | None) -> dict[str, str]:
    return {} if shown is None else {"main-mac": shown.strip('"')}


def _check(call: Call) -> None:
    """See that a backend says where to; what needs a network is believed."""
    arguments = call.arguments
    if arguments["type"] == "socket" and sum(each in arguments for each in _ENDS_OF_SOCKET) != 1:
        raise QmpError("exactly one of listen=, connect=, mcast= or udp= is required")
    chardev = arguments.get("chardev")
    if arguments["type"] == "vhost-user" and chardev not in call.emulated.backends.chardevs:
        raise QmpError(f'chardev "{chardev}" not found')


def _no_device(name: str) -> QmpError:
    return QmpError(f"Device '{name}' not found", "DeviceNotFound")
