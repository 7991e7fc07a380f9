"""What a machine's memory and CPUs change on its board."""

import re
from dataclasses import replace
from typing import Any

from vfio_migration.emulator.profile.boards import BoardRecord
from vfio_migration.emulator.profile.recorded_objects import renamed
from vfio_migration.emulator.profile.tree_text import BusText, DeviceText

_NUMBER = re.compile(r"(/machine/unattached/device|^device)\[(\d+)\]")
_FIRST = "/machine/unattached/device[0]"

_Q35_SPLIT, _Q35_FROM = 0x80000000, 0xB0000000
_PC_SPLIT, _PC_FROM = 0xC0000000, 0xE0000000
_HOSTS = {"q35-pcihost": (_Q35_FROM, _Q35_SPLIT), "i440FX-pcihost": (_PC_FROM, _PC_SPLIT)}


def machine_values(kind: str, memory: int) -> dict[str, int]:
    """
    Give the properties of a device that follow from the bytes of memory: how much lies below and above 4 GiB.

    QEMU's `pc_q35_init` and `pc_init1`.
    """
    if kind not in _HOSTS:
        return {}
    most, split = _HOSTS[kind]
    below = memory if memory < most else split
    return {"below-4g-mem-size": below, "above-4g-mem-size": memory - below}


def with_cpus(record: BoardRecord, cpus: int) -> BoardRecord:
    """
    Give a board, which was recorded with one CPU, with several: they are the first objects that nobody names.

    All that come after them have other numbers then (QEMU's `device_set_realized`).
    """
    cpu = next((each[2] for each in record.objects.get(_FIRST, ()) if each[0] == "type"), "")
    if cpus == 1 or not cpu.endswith("-cpu"):
        return record

    def rename(text: str) -> str:
        return _NUMBER.sub(lambda match: f"{match[1]}[{int(match[2]) + cpus - 1}]" if int(match[2]) else match[0], text)

    objects = {rename(path): renamed(listing, rename) for path, listing in record.objects.items()}
    for number in range(1, cpus):
        at = f"/machine/unattached/device[{number}]"
        of_first = {path: each for path, each in record.objects.items() if f"{path}/".startswith(f"{_FIRST}/")}
        objects |= {path.replace(_FIRST, at): renamed(each, lambda text: text) for path, each in of_first.items()}
        objects["/machine/unattached"].append([f"device[{number}]", f"child<{cpu}>"])
    return replace(record, objects=objects, tree=_renamed_tree(record.tree, rename))


def _renamed_tree(node: Any, rename: Any) -> Any:
    """Give a tree whose lines name other paths."""
    if isinstance(node, BusText):
        return replace(node, devices=tuple(_renamed_tree(each, rename) for each in node.devices))
    assert isinstance(node, DeviceText)  # noqa: S101 - there are two kinds of node
    lines = tuple(rename(line) if "/machine/unattached" in line else line for line in node.lines)
    return replace(node, lines=lines, buses=tuple(_renamed_tree(each, rename) for each in node.buses))
