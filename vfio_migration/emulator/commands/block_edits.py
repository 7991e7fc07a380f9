"""Commands that make and take away the nodes that disks consist of (QEMU's `blockdev.c`)."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from vfio_migration.emulator.commands.command import Call, CommandTable
from vfio_migration.emulator.commands.identifiers import is_well_formed
from vfio_migration.emulator.errors import QmpError

table = CommandTable()
_NODE = "node-name"
_MADE_WITH = "x-made-with"  # the node that one was made with, and goes with
_CHILDREN = ("file", "backing")


@table.command("blockdev-add")
def blockdev_add(call: Call) -> None:
    """Make a node, and those that it says it stands on; raises QmpError, and then there is none of them."""
    if _NODE not in call.arguments:
        raise QmpError("'node-name' must be specified for the root node")
    made: dict[str, dict[str, Any]] = {}
    _make(call, dict(call.arguments), made, None)
    call.emulated.backends.blockdevs.update(made)


@table.command("blockdev-del")
def blockdev_del(call: Call) -> None:
    """Take a node away; raises QmpError if there is none, or something stands on it."""
    nodes, name = call.emulated.backends.blockdevs, call.arguments[_NODE]
    if name not in nodes or _MADE_WITH in nodes[name]:
        raise QmpError(f"Failed to find node with node-name='{name}'")
    if name in _of_devices(call):
        raise QmpError(f"Node {name} is in use")
    if any(name in _children(each) for each in nodes.values()):
        raise QmpError(f"Block device {name} is in use")
    for gone in [name, *(each for each, options in nodes.items() if options.get(_MADE_WITH) == name)]:
        del nodes[gone]


@table.command("block_resize")
def block_resize(call: Call) -> None:
    """Refuse to resize a disk that there is no image of."""
    name = call.arguments.get(_NODE, call.arguments.get("device", ""))
    if name not in call.emulated.backends.blockdevs:
        raise QmpError(f"Cannot find device='{name}' nor node-name='{name}'")
    raise QmpError("Image format driver does not support resize")


def _make(call: Call, options: dict[str, Any], made: dict[str, dict[str, Any]], root: str | None) -> str:
    """Make a node after its children; gives its name."""
    nodes = call.emulated.backends.blockdevs
    name = str(options.get(_NODE, f"#block{len(nodes) + len(made):03d}"))
    if _NODE in options and not is_well_formed(name):
        raise QmpError(f"Invalid node-name: '{name}'")
    if name in nodes or name in made:
        raise QmpError(f"Duplicate nodes with node-name='{name}'")
    _check_file(options)
    for key in _CHILDREN:
        child = options.get(key)
        if isinstance(child, Mapping):
            options[key] = _make(call, dict(child), made, root or name)
        elif isinstance(child, str) and child not in nodes:
            raise QmpError(f"Cannot find device='{child}' nor node-name='{child}'")
    made[name] = options | {_NODE: name} | ({} if root is None else {_MADE_WITH: root})
    return name


def _check_file(options: Mapping[str, Any]) -> None:
    path = str(options.get("filename", ""))
    if options["driver"] == "file" and not os.path.exists(path):  # noqa: PTH110 - as the client has written it
        raise QmpError(f"Could not open '{path}': No such file or directory")


def _children(options: Mapping[str, Any]) -> Iterator[str]:
    return (options[key] for key in _CHILDREN if isinstance(options.get(key), str))


def _of_devices(call: Call) -> set[Any]:
    return {each.options.get("drive") for each in call.emulated.board.devices()}
