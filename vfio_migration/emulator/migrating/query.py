"""What `query-migrate` and `info migrate` say (QEMU's `fill_source_migration_info`, `hmp_info_migrate`)."""

from typing import Any

from vfio_migration.emulator.migrating.addresses import shown_address
from vfio_migration.emulator.migrating.memory import PAGE, Memory
from vfio_migration.emulator.migrating.migrations import Migrations
from vfio_migration.emulator.migrating.parameters import MS_PER_SECOND
from vfio_migration.live import MigrationInfo, MigrationStatus

_NEVER = 2**63 - 1  # milliseconds, as QEMU says of a downtime that it cannot tell
_BITS = 8
_MILLION = 1_000_000
_UNDER_WAY = (
    MigrationStatus.ACTIVE,
    MigrationStatus.CANCELLING,
    MigrationStatus.PRE_SWITCHOVER,
    MigrationStatus.DEVICE,
    MigrationStatus.FAILING,
)
_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def query_migrate(migrations: Migrations) -> dict[str, Any]:
    """Give what `query-migrate` answers; of a machine that never migrated nothing."""
    said: dict[str, Any] = {}
    blockers = list(migrations.blockers())
    if blockers:
        said["blocked-reasons"] = blockers
    _add_source(migrations, said)
    _add_destination(migrations, said)
    return said


def _add_source(migrations: Migrations, said: dict[str, Any]) -> None:
    status = migrations.status
    if status is MigrationStatus.NONE:
        return
    said["status"] = str(status)
    info = migrations.info()
    if info is not None and (status in _UNDER_WAY or status is MigrationStatus.COMPLETED):
        said |= _figures(info, migrations)
    error = migrations.error
    if error is not None:
        said["error-desc"] = error


def _figures(info: MigrationInfo, migrations: Migrations) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "total-time": _ms(info.total_s),
        "setup-time": _ms(info.setup_s),
        "ram": _ram(info, migrations.memory, multifd=migrations.capabilities["multifd"]),
    }
    if info.status is MigrationStatus.COMPLETED:
        figures["downtime"] = _ms(info.downtime_s)
    else:
        figures["expected-downtime"] = _expected_ms(info)
        figures["remaining"] = info.remaining
    if info.vfio_devices:
        figures["vfio"] = {"transferred": info.vfio_transferred}
    return figures


def _expected_ms(info: MigrationInfo) -> int:
    """Give the limit before anything was measured, as QEMU does, and then what was."""
    if info.bandwidth is None and info.status is MigrationStatus.ACTIVE:
        return int(info.parameters.downtime_limit_s * MS_PER_SECOND)
    return _NEVER if info.expected_downtime_s is None else _ms(info.expected_downtime_s)


def _ram(info: MigrationInfo, memory: Memory, *, multifd: bool) -> dict[str, Any]:
    """Give the memory's counters; pages that take next to nothing count as duplicates of one another."""
    sent = info.ram.transferred if info.ram is not None else 0
    share = min(1.0, sent / memory.stream_size) if memory.stream_size else 1.0
    zero_pages = int(share * (memory.pages - memory.used // PAGE))
    normal = max(0, sent - zero_pages * 9) // PAGE
    total_s = info.total_s or 0.0
    left = info.ram.remaining if info.ram is not None else 0
    remaining = min(memory.size, int(memory.size * left / memory.stream_size)) if memory.stream_size else 0
    return {
        "total": memory.size,
        "remaining": remaining,
        "transferred": sent + info.vfio_transferred,
        "duplicate": zero_pages,
        "normal": normal,
        "normal-bytes": normal * PAGE,
        "dirty-pages-rate": 0,
        "mbps": 0 if info.bandwidth is None else round(min(info.bandwidth, 1e15) * _BITS / _MILLION, 2),
        "dirty-sync-count": 0 if info.ram is None else info.ram.dirty_sync_count,
        "postcopy-requests": 0,
        "page-size": PAGE,
        "multifd-bytes": info.vfio_transferred if multifd else 0,
        "pages-per-second": 0 if not total_s else int((zero_pages + normal) / total_s),
        "precopy-bytes": sent,
        "downtime-bytes": info.vfio_transferred,
        "postcopy-bytes": 0,
        "dirty-sync-missed-zero-copy": 0,
    }


def _add_destination(migrations: Migrations, said: dict[str, Any]) -> None:
    status = migrations.incoming_status
    if status is MigrationStatus.NONE:
        return
    if "status" in said:  # what it is sending by now counts for more than how it came here
        return
    said["status"] = str(status)
    address = migrations.listening_at
    if address is not None and not status.over:
        said["socket-address"] = [address]
    error = migrations.incoming_error
    if error is not None and status is MigrationStatus.FAILED:
        said["error-desc"] = error


def info_migrate(migrations: Migrations, *, everything: bool = False) -> str:
    """Give what `info migrate` prints, `everything` with `-a`."""
    said = query_migrate(migrations)
    lines: list[str] = []
    if "blocked-reasons" in said:
        lines.append("Outgoing migration blocked:")
        lines += [f"  {each}" for each in said["blocked-reasons"]]
    if "status" in said:
        lines.append(_status_line(said))
    if "total-time" in said:
        lines += _time_lines(said)
    if "ram" in said:
        lines += _ram_lines(said["ram"])
    if "vfio" in said:
        lines += [f"vfio device transferred: {said['vfio']['transferred'] // 1024} kbytes"]
    if "socket-address" in said:
        lines += ["Sockets: [", *(f"\t{shown_address(each)}" for each in said["socket-address"]), "]"]
    if everything:
        lines += _GLOBALS
    return "".join(f"{line}\r\n" for line in lines)


def _status_line(said: dict[str, Any]) -> str:
    error = said.get("error-desc")
    return f"Status: \t\t{said['status']}" + (f" ({error})" if error is not None else "")


def _time_lines(said: dict[str, Any]) -> list[str]:
    times = f"Time (ms): \t\ttotal={said['total-time']}, setup={said['setup-time']}"
    if "downtime" in said:
        times += f", down={said['downtime']}"
    if "expected-downtime" in said:
        times += f", exp_down={said['expected-downtime']}"
    lines = [times]
    if "remaining" in said:
        lines.append(f"Remaining: \t\t{shown_size(said['remaining'])}")
    return lines


def _ram_lines(ram: dict[str, Any]) -> list[str]:
    others = f"dirty_syncs={ram['dirty-sync-count']}"
    if ram["downtime-bytes"]:
        others += f", downtime_bytes={ram['downtime-bytes']}"
    channels = f"precopy={shown_size(ram['precopy-bytes'])}, multifd={shown_size(ram['multifd-bytes'])}"
    return [
        "RAM info:",
        f"  Throughput (Mbps): \t{ram['mbps']:.2f}",
        f"  Sizes: \t\tpagesize={shown_size(ram['page-size'])}, total={shown_size(ram['total'])}",
        f"  Transfers: \t\ttransferred={shown_size(ram['transferred'])}, remain={shown_size(ram['remaining'])}",
        f"    Channels: \t\t{channels}, postcopy={shown_size(ram['postcopy-bytes'])}",
        f"    Page Types: \tnormal={ram['normal']}, zero={ram['duplicate']}",
        f"  Page Rates (pps): \ttransfer={ram['pages-per-second']}",
        f"  Others: \t\t{others}",
    ]


def shown_size(size: int) -> str:
    """Give a size for people, with three digits (QEMU's `size_to_str`)."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"


def _ms(seconds: float | None) -> int:
    return 0 if seconds is None else round(seconds * MS_PER_SECOND)


_GLOBALS = [
    "Globals:",
    "  store-global-state: on",
    "  only-migratable: off",
    "  send-configuration: on",
    "  send-section-footer: on",
    "  send-switchover-start: on",
    "  clear-bitmap-shift: 18",
]
