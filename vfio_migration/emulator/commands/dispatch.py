"""Finding a command, checking what it is told, and carrying it out in its turn (QEMU's `qmp_dispatch`)."""

from collections.abc import Mapping
from typing import Any

from vfio_migration.emulator.arguments import check_arguments
from vfio_migration.emulator.commands import (
    block_edits,
    chardevs,
    devices,
    human,
    migration,
    netdevs,
    objects,
    qom,
    queries,
    run_states,
    tracing,
    without_guest,
)
from vfio_migration.emulator.commands.command import Call, Command
from vfio_migration.emulator.commands.unsupported import unsupported
from vfio_migration.emulator.emulated import Emulated
from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.monitor.request import Request
from vfio_migration.emulator.monitor.session import Session
from vfio_migration.emulator.profile import Profile

_MODULES = (
    run_states, migration, devices, qom, objects, netdevs, chardevs, block_edits, queries, tracing, without_guest,
    human,
)  # fmt: skip
_COMMANDS: dict[str, Command] = {name: command for each in _MODULES for name, command in each.table.commands.items()}
# Before the machine is made there are these (QEMU's `allow-preconfig`).
_IN_PRECONFIG = frozenset(
    {
        "quit", "x-exit-preconfig", "qmp_capabilities", "netdev_add", "netdev_del", "object-add", "object-del",
        "qom-get", "qom-list", "qom-list-get", "qom-list-properties", "qom-list-types", "qom-set",
        "query-block", "query-block-exports", "query-block-jobs", "query-blockstats", "query-chardev",
        "query-command-line-options", "query-commands", "query-hotpluggable-cpus", "query-iothreads",
        "query-memdev", "query-name", "query-named-block-nodes", "query-pr-managers", "query-qmp-schema",
        "query-status", "query-uuid", "query-version", "set-action", "set-numa-node", "blockdev-add",
        "blockdev-del",
    }
)  # fmt: skip
_UNCHECKED = ("device_add",)  # QEMU takes whatever it is told, and so knows best what is wrong with it
_ABOUT_FAULTS = ("qom-get", "qom-set")


def greeting_of(profile: Profile) -> dict[str, Any]:
    """Give what a QEMU says to whoever connects."""
    return {"QMP": {"version": profile.version, "capabilities": ["oob"]}}


class Dispatcher:
    """Carries out the commands of all sessions (`monitor.session.Commands`)."""

    def __init__(self, emulated: Emulated) -> None:
        self._emulated = emulated
        self._schema = {each["name"]: each for each in emulated.profile.schema}

    def greeting(self) -> Mapping[str, Any]:
        """Say who is there."""
        return greeting_of(self._emulated.profile)

    def epoch_ns(self) -> int:
        """Give what the machine's clock calls zero."""
        return self._emulated.epoch_ns

    def check(self, request: Request) -> Mapping[str, Any]:
        """Give the arguments as the command takes them."""
        entry = self._schema.get(request.command)
        if entry is None or entry["meta-type"] != "command":
            raise QmpError(f"The command {request.command} has not been found", "CommandNotFound")
        if request.oob and not self._may_overtake(request, entry):
            raise QmpError(f"The command {request.command} does not support OOB")
        if self._emulated.preconfig and request.command not in _IN_PRECONFIG:
            raise QmpError(
                f"The command '{request.command}' is permitted only after machine initialization has completed"
            )
        if request.command in _UNCHECKED:
            return request.arguments
        return check_arguments(self._schema, request.command, request.arguments)

    def run(self, session: Session | None, request: Request, arguments: Mapping[str, Any]) -> Any:
        """Carry it out, in its turn; what this QEMU does not do is said to be so, here and in the log."""
        command = _COMMANDS.get(request.command)
        if command is None:
            return self._recorded(request.command, arguments)
        call = Call(self._emulated, session, arguments)
        if command.locked:
            with self._emulated.machine.big_lock:
                value = command.run(call)
        else:
            value = command.run(call)
        return {} if value is None else value

    def _recorded(self, name: str, arguments: Mapping[str, Any]) -> Any:
        reply = self._emulated.profile.answer(name, arguments)
        if reply is None:
            raise unsupported(name, arguments)
        if "error" in reply:
            raise QmpError(reply["error"]["desc"], reply["error"]["class"])
        return reply["return"]

    @staticmethod
    def _may_overtake(request: Request, entry: Mapping[str, Any]) -> bool:
        """Whether a command may be out of band: QEMU's own, and ours about faults."""
        about_faults = request.command in _ABOUT_FAULTS and qom.releases(request.arguments)
        return bool(entry.get("allow-oob")) or about_faults
