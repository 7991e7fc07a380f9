"""The sections that a source writes, as its trace tells of them."""

from collections.abc import Callable
from typing import TypeVar

from vfio_migration.live.stream import StreamWriter
from vmstate import Machine, Migratable

T = TypeVar("T")


def write_section(
    machine: Machine, writer: StreamWriter, index: int, migratable: Migratable, save: Callable[[StreamWriter], T]
) -> T:
    """Write a section as `StreamWriter.section`, between QEMU's events; one that fails has no end."""
    if not machine.traced:
        return writer.section(index, migratable, save)
    machine.emit("savevm_section_start", id=migratable.id, section_id=index)
    result = writer.section(index, migratable, save)
    machine.emit("savevm_section_end", id=migratable.id, section_id=index, ret=0)
    return result
