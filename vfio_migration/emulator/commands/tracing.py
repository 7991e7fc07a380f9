"""Commands about traced events: which are on (QEMU's `trace/qmp.c`); only those that are emitted here are known."""

from fnmatch import fnmatchcase
from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.errors import QmpError

table = CommandTable()
_EVENTS = (
    "migrate_set_state", "runstate_set", "vm_state_notify", "vmstate_downtime_checkpoint", "savevm_section_start",
    "savevm_section_end", "vfio_migration_set_device_state", "vfio_migration_state_notifier",
    "vfio_save_complete_precopy", "vfio_save_complete_precopy_start", "vfio_load_device_config_state_start",
    "vfio_load_device_config_state_end", "virtio_set_status",
)  # fmt: skip


@table.command("trace-event-get-state")
def get_state(call: Call) -> Any:
    """Say whether events are on; raises QmpError of a name without a pattern that no event has."""
    on = call.emulated.traced
    return [{"name": each, "state": "enabled" if each in on else "disabled"} for each in _named(call)]


@table.command("trace-event-set-state")
def set_state(call: Call) -> None:
    """Note that events are on or off; what is written to the log is what the command line says."""
    names = set(_named(call))
    if call.arguments["enable"]:
        call.emulated.traced |= names
    else:
        call.emulated.traced -= names


def _named(call: Call) -> list[str]:
    name = call.arguments["name"]
    found = [each for each in _EVENTS if fnmatchcase(each, name)]
    if not found and "*" not in name:
        raise QmpError(f'unknown event "{name}"')
    return found
