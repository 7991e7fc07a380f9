"""Commands that plug, unplug and show devices (QEMU's `qapi/qdev.json`, `pci.json`)."""

from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.commands.run_states import announce_deleted
from vfio_migration.emulator.errors import QmpError

table = CommandTable()


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
    call.emulated.devices.plug(call.arguments, hotplugged=True, typed=typed)


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
