"""Commands about objects and their properties (QEMU's `qapi/qom.json`)."""

from contextlib import nullcontext
from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.devices.vfio import OWN_PROPERTIES
from vfio_migration.emulator.errors import QmpError

table = CommandTable()


def releases(arguments: Any) -> bool:
    """Whether a `qom-get` or `qom-set` is about a fault: it must not wait for what it is to release."""
    return arguments.get("property") in OWN_PROPERTIES


@table.command("qom-list")
def qom_list(call: Call) -> Any:
    """List an object's properties."""
    path = call.arguments["path"]
    return call.emulated.board.qom(path, ambiguous=f"Path '{path}' is ambiguous").list()


@table.command("qom-get", locked=False)
def qom_get(call: Call) -> Any:
    """Read a property; one that is about faults at once, whoever holds the big lock."""
    with _turn(call):
        return call.emulated.board.qom(call.arguments["path"]).get(call.arguments["property"])


@table.command("qom-set", locked=False)
def qom_set(call: Call) -> None:
    """Set a property; one that is about faults at once, whoever holds the big lock."""
    with _turn(call):
        call.emulated.board.qom(call.arguments["path"]).set(call.arguments["property"], call.arguments["value"])


@table.command("qom-list-get")
def qom_list_get(call: Call) -> Any:
    """Give the properties of several objects, with their values."""
    return [{"properties": call.emulated.board.qom(path).list_get()} for path in call.arguments["paths"]]


@table.command("qom-list-types")
def qom_list_types(call: Call) -> Any:
    """List the types that implement another."""
    return call.emulated.profile.list_types(call.arguments.get("implements"), call.arguments.get("abstract"))


@table.command("device-list-properties")
def device_list_properties(call: Call) -> Any:
    """List the properties of a type of devices."""
    return _recorded(call, "device-list-properties")


@table.command("qom-list-properties")
def qom_list_properties(call: Call) -> Any:
    """List the properties of a type."""
    return _recorded(call, "qom-list-properties")


def _recorded(call: Call, command: str) -> Any:
    typename = call.arguments["typename"]
    reply = call.emulated.profile.answer(command, {"typename": typename})
    if reply is not None and "return" in reply:
        return reply["return"]
    if reply is not None:
        raise QmpError(reply["error"]["desc"], reply["error"]["class"])
    if typename in call.emulated.profile.types:
        return []
    raise QmpError(f"{'Device' if command.startswith('device') else 'Class'} '{typename}' not found", "DeviceNotFound")


def _turn(call: Call) -> Any:
    return nullcontext() if releases(call.arguments) else call.emulated.machine.big_lock
