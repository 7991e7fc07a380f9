"""Commands that plug, unplug and show devices (QEMU's `qapi/qdev.json`, `pci.json`)."""

from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.commands.run_states import announce_deleted
from vfio_migration.emulator.errors import QmpError

table = CommandTable()
_WITH_DRIVE = ("scsi-hd", "virtio-blk-pci", "ide-hd", "usb-storage")


@table.command("device_add")
def device_add(call: Call) -> None:
    """Plug a device in; QMP's options are JSON."""
    plug(call, typed=True)


def plug(call: Call, *, typed: bool) -> None:
    """Plug a device in, as `device_add` of either monitor."""
    if "driver" not in call.arguments:
        raise QmpError("Parameter 'driver' is missing")
    if call.emulated.migrations.running:
        raise QmpError("device_add not allowed while migrating")
    _check_backends(call)
    call.emulated.devices.plug(call.arguments, hotplugged=True, typed=typed)


def _check_backends(call: Call) -> None:
    """See that what a device is to be connected to is there, and free (QEMU's `set_drive`, `set_netdev`)."""
    board, arguments = call.emulated.board, call.arguments
    kind = call.emulated.devices.type_of(arguments)
    backends = call.emulated.backends
    for name, known in (("drive", backends.blockdevs), ("netdev", backends.netdevs)):
        value = arguments.get(name)
        if not isinstance(value, str) or not value:
            continue
        if value not in known:
            raise QmpError(f"Property '{kind}.{name}' can't find value '{value}'")
        if name == "netdev" and any(each.options.get(name) == value for each in board.devices()):
            raise QmpError(f"Property '{kind}.{name}' can't take value '{value}', it's in use")
    if kind in _WITH_DRIVE and not arguments.get("drive"):
        raise QmpError("drive property not set")


@table.command("device_del")
def device_del(call: Call) -> None:
    """Ask for a device to be unplugged."""
    call.emulated.devices.check_unplug(call.arguments["id"])  # what cannot be unplugged at all is said first
    if call.emulated.migrations.running:
        raise QmpError("device_del not allowed while migrating")
    for device in call.emulated.devices.request_unplug(call.arguments["id"]):
        announce_deleted(call, device.id, device.path)


@table.command("query-pci")
def query_pci(call: Call) -> Any:
    """Show the PCI devices."""
    return call.emulated.board.query_pci()
