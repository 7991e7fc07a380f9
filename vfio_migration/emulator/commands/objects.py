"""Commands that make and take away objects of the user (QEMU's `qom/object_interfaces.c`)."""

import os
from collections.abc import Mapping
from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.commands.identifiers import check_identifier
from vfio_migration.emulator.errors import QmpError

table = CommandTable()
_MEMORY = "memory-backend-"
_NOT_SAID = {"int": 0, "bool": False, "string": ""}
_USUAL: Mapping[str, Mapping[str, Any]] = {
    "iothread": {
        "poll-max-ns": 32768, "poll-grow": 2, "poll-shrink": 2, "poll-weight": 3, "aio-max-batch": 0,
        "thread-pool-min": 0, "thread-pool-max": 64,
    },
    _MEMORY: {
        "merge": True, "dump": True, "reserve": True, "policy": "default", "host-nodes": [], "prealloc-threads": 1,
    },
    "memory-backend-memfd": {"share": True},
}  # fmt: skip


@table.command("object-add")
def object_add(call: Call) -> None:
    """Make an object; raises QmpError if its id is taken or is none, or it cannot be."""
    objects, board = call.emulated.backends.objects, call.emulated.board
    name, kind = check_identifier(call.arguments["id"]), str(call.arguments["qom-type"])
    if name in objects:
        raise QmpError(f"attempt to add duplicate property '{name}' to object (type 'container')")
    _check(call, kind)
    objects[name] = dict(call.arguments)
    board.add_object(name, _listing(call, kind))


@table.command("object-del")
def object_del(call: Call) -> None:
    """Forget an object; raises QmpError if there is none."""
    name = call.arguments["id"]
    if call.emulated.backends.objects.pop(name, None) is None:
        raise QmpError(f"object '{name}' not found")
    call.emulated.board.remove_object(name)


def _check(call: Call, kind: str) -> None:
    """See that an object has what it needs."""
    arguments = call.arguments
    if kind.startswith(_MEMORY) and arguments.get("size") == 0:
        raise QmpError(f"property 'size' of {kind} doesn't take value '0'")
    path = str(arguments.get("mem-path", ""))
    if kind == "memory-backend-file" and not os.path.isdir(os.path.dirname(path) or "."):  # noqa: PTH112, PTH120
        raise QmpError(f"can't open backing store {path} for guest RAM: No such file or directory")
    if kind == "secret" and not {"file", "data"} & set(arguments):
        raise QmpError("Either 'file' or 'data' must be provided")
    if kind == "tls-creds-x509" and not os.path.isfile(f"{arguments.get('dir', '')}/ca-cert.pem"):  # noqa: PTH113
        raise QmpError(
            f"Unable to access credentials {arguments.get('dir', '')}/ca-cert.pem: No such file or directory"
        )
    if kind.startswith("filter-") and arguments.get("netdev") not in call.emulated.backends.netdevs:
        raise QmpError("Parameter 'netdev' expects a network backend id")


def _listing(call: Call, kind: str) -> list[list[Any]]:
    """Give the properties of an object: what it was told, what is usual, or nothing that can be read."""
    usual = {**(_USUAL[_MEMORY] if kind.startswith(_MEMORY) else {}), **_USUAL.get(kind, {}), "type": kind}
    found = []
    for each in call.emulated.profile.object_properties(kind):
        name, type_ = each["name"], each["type"]
        value = usual[name] if name == "type" else call.arguments.get(name, usual.get(name, _NOT_SAID.get(type_)))
        found.append([name, type_] if value is None else [name, type_, value])
    return found
