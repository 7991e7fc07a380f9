"""How long the devices' states took to transfer in the switchover."""

from collections.abc import Iterable, Mapping

from vfio_migration.device import DeviceState
from vfio_migration.importing.attempts import LoggedMigration, Window
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.log_reader import LogEvent
from vfio_migration.importing.logged_changes import SAVE_BEGIN, intervals

_SAVE_END = ("vfio_save_complete_precopy", "vfio_save_complete_precopy_thread_end")
_WORTH_SAYING_NS = 1_000_000


def find_transfer(findings: Findings, migration: LoggedMigration, window: Window) -> None:
    """Find how long each device's state took while the machine was stopped."""
    stop_copy: dict[str, int] = {}
    for each in intervals(findings, migration, window.events, quietly=True):
        device = findings.devices[each.device]
        if each.target is DeviceState.STOP_COPY and not device.precopy:
            device.take((DeviceState.STOP, DeviceState.STOP_COPY), each.ns)
            stop_copy[each.device] = stop_copy.get(each.device, 0) + each.ns
    saved = _saved(findings, migration, window)
    if saved:
        _each_transfer(findings, saved, stop_copy, window)
        return
    share = max(0.0, window.seconds * 1e9 - sum(stop_copy.values())) / len(findings.devices)
    for device in findings.devices.values():
        device.transfer_ns = round(share)
    findings.note(
        "the log does not say how long saving each device took (-trace 'vfio_save_complete_precopy*'): the whole "
        f"transfer, {window.seconds * 1000:.3f} ms, is shared equally among the devices"
    )


def _each_transfer(
    findings: Findings, saved: Mapping[str, tuple[int, int]], stop_copy: Mapping[str, int], window: Window
) -> None:
    """Take the times that were logged for each device."""
    for name, (first, last) in saved.items():
        if name in findings.devices:
            findings.devices[name].transfer_ns = max(0, last - first - stop_copy.get(name, 0))
    covered = _covered((first, last) for first, last in saved.values())
    rest = window.seconds * 1e9 - covered
    if sum(last - first for first, last in saved.values()) > covered:
        findings.note("states were saved at the same time (multifd); in this scenario it is one after another")
    if rest >= _WORTH_SAYING_NS:
        findings.note(
            f"{rest / 1e6:.3f} ms of the transfer ({window.seconds * 1000:.3f} ms) belong to no VFIO device "
            "(memory, other devices): they are not in this scenario, add them to forecasts"
        )


def _saved(findings: Findings, migration: LoggedMigration, window: Window) -> dict[str, tuple[int, int]]:
    """Find when each device was saved."""
    begun: dict[str, LogEvent] = {}
    saved: dict[str, tuple[int, int]] = {}
    for event in window.events:
        name = event.fields.get("name", "")
        if event.name in SAVE_BEGIN:
            begun.setdefault(name, event)
        elif event.name in _SAVE_END and name in begun:
            saved[name] = (begun[name].time_ns, event.time_ns)
    for name in begun.keys() - saved.keys():
        findings.note(f"saving {name!r} has no end in {migration.log} (begun in line {begun[name].line})")
    return saved


def _covered(spans: Iterable[tuple[int, int]]) -> int:
    """Give how much time at least one of the spans covers."""
    covered, reached = 0, -1
    for first, last in sorted(spans):
        covered += max(0, last - max(first, reached))
        reached = max(reached, last)
    return covered
