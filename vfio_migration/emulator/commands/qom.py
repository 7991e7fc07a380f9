"""Commands about objects and their properties (QEMU's `qapi/qom.json`)."""

from typing import Any

from vfio_migration.emulator.board import QomObject
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
    path, name = call.arguments["path"], call.arguments["property"]
    at_once = _with_faults(call)
    if at_once is not None:
        return at_once.get(name)
    with call.emulated.machine.big_lock:
        return call.emulated.board.qom(path).get(name)


@table.command("qom-set", locked=False)
def qom_set(call: Call) -> None:
    """Set a property; one that is about faults at once, whoever holds the big lock."""
    path, name, value = call.arguments["path"], call.arguments["property"], call.arguments["value"]
    at_once = _with_faults(call)
    if at_once is not None:
        at_once.set(name, value)
        return
    with call.emulated.machine.big_lock:
        call.emulated.board.qom(path).set(name, value)


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


def _with_faults(call: Call) -> QomObject | None:
    """Give the device whose fault it is about, which must not wait for whoever waits for that device."""
    if not releases(call.arguments):
        return None
    found = call.emulated.devices.with_faults(call.arguments["path"])
    return found if found is not None and call.arguments["property"] in found.properties else None
