"""What goes over a monitor's socket: the JSON that QEMU reads, with its limits and its words for what is wrong."""

from vfio_migration.emulator.wire.json_reader import JsonError, JsonLimits, JsonReader

__all__ = ["JsonError", "JsonLimits", "JsonReader"]
