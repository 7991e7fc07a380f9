"""Disks as they are shown: what the command line says, and nothing behind it (QEMU's `bdrv_block_device_info`)."""

import json
from collections.abc import Mapping
from typing import Any

from vfio_migration.emulator.command_line.keyvals import parse_size
from vfio_migration.emulator.emulated import Emulated

_COUNTERS = (
    "unmap_operations", "unmap_merged", "failed_zone_append_operations", "flush_total_time_ns", "wr_highest_offset",
    "wr_total_time_ns", "failed_wr_operations", "failed_rd_operations", "wr_merged", "wr_bytes",
    "failed_unmap_operations", "zone_append_merged", "rd_total_time_ns", "invalid_unmap_operations",
    "flush_operations", "wr_operations", "unmap_bytes", "rd_merged", "rd_bytes", "unmap_total_time_ns",
    "invalid_flush_operations", "failed_flush_operations", "zone_append_total_time_ns", "zone_append_operations",
    "rd_operations", "zone_append_bytes", "invalid_zone_append_operations", "invalid_wr_operations",
    "invalid_rd_operations",
)  # fmt: skip

_CHILDREN = ("file", "backing")
_OF_NODES = ("node-name", "read-only", "auto-read-only", "discard", "cache", "detect-zeroes")
_NULL = ("null-co", "null-aio")
_SIZE_OF_NULL = 1 << 30  # bytes


def block_nodes(emulated: Emulated) -> list[dict[str, Any]]:
    """Give what `query-named-block-nodes` answers, the newest first."""
    nodes = emulated.backends.blockdevs
    return [_node(name, nodes) for name in reversed(nodes)]


def block_devices(emulated: Emulated, *, flat: bool) -> list[dict[str, Any]]:
    """Give what `query-block` answers: the devices that have a drive."""
    shown = []
    for device, name in _drives(emulated):
        node = _node(name, emulated.backends.blockdevs)
        shown.append(
            {
                "device": "",
                "io-status": "ok",
                "locked": False,
                "removable": False,
                "type": "unknown",
                "qdev": device,
                "inserted": node,
            }
        )
    return shown


def block_statistics(emulated: Emulated) -> list[dict[str, Any]]:
    """Give what `query-blockstats` answers."""
    zero: dict[str, Any] = dict.fromkeys(_COUNTERS, 0)
    stats = {**zero, "timed_stats": [], "account_invalid": True, "account_failed": True}
    return [{"device": "", "qdev": device, "node-name": name, "stats": stats} for device, name in _drives(emulated)]


def _drives(emulated: Emulated) -> list[tuple[str, str]]:
    """Give the devices that have a drive, each with the drive's name."""
    found = []
    for device in emulated.board.devices():
        drive = device.options.get("drive")
        if isinstance(drive, str) and drive in emulated.backends.blockdevs:
            found.append((device.id or device.path, drive))
    return found


def _node(name: str, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    options = nodes[name]
    driver = str(options.get("driver", "raw"))
    filename = str(options.get("filename", _described(options, nodes)))
    children = [{"child": key, "node-name": options[key]} for key in _CHILDREN if options.get(key) in nodes]
    return {
        "iops_rd": 0, "detect_zeroes": "off", "active": True, "iops_wr": 0, "children": children, "node-name": name,
        "backing_file_depth": 0, "drv": driver, "iops": 0, "bps_wr": 0, "write_threshold": 0, "encrypted": False,
        "bps": 0, "bps_rd": 0, "file": filename, "ro": options.get("read-only") in (True, "on"),
        "cache": {"no-flush": False, "direct": False, "writeback": True},
        "image": {
            "limits": {"request-alignment": 1, "min-mem-alignment": 512, "opt-mem-alignment": 4096, "max-iov": 1024},
            "virtual-size": _size(options, nodes), "filename": filename, "format": driver, "actual-size": 0,
        },
    }  # fmt: skip


def _described(options: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """Give a node's name for people: all that it was told, but for its ids."""
    described = _options(options, nodes)
    if described.keys() == {"driver"} and described["driver"] in _NULL:
        return f"{described['driver']}://"
    return "json:" + json.dumps(described)


def _options(options: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in sorted(options, key=_bucket):
        if key in _CHILDREN and options[key] in nodes:
            found[key] = _options(nodes[options[key]], nodes)
        elif key not in _OF_NODES and not key.startswith("x-"):
            found[key] = _plain(options[key])
    return found


def _size(options: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]]) -> int:
    child = nodes.get(str(options.get("file", "")))
    if child is not None:
        return _size(child, nodes)
    usual = _SIZE_OF_NULL if options.get("driver") in _NULL else 0
    return parse_size(options.get("size", usual), "size")


def _bucket(key: str) -> int:
    """Give where a key stands among others in what QEMU prints (`tdb_hash`, modulo the buckets of a QDict)."""
    value = 0x238F13AF * len(key)
    for place, each in enumerate(key.encode()):
        value += each << (place * 5 % 24)
    return ((1103515243 * value + 12345) & 0xFFFFFFFF) % 512


def _plain(value: Any) -> Any:
    """Give a value as JSON has it: a switch, a number or a text."""
    if value in ("on", "off"):
        return value == "on"
    return int(value) if isinstance(value, str) and value.isdecimal() else value
