"""How long the devices' states took to transfer in the switchover, and what else was sent then."""

from collections.abc import Mapping

from vfio_migration.device import DeviceState
from vfio_migration.importing.attempts import SAVE_BEGIN, SAVE_END, SAVE_THREAD_BEGIN, LoggedMigration, Window
from vfio_migration.importing.channels import find_channels
from vfio_migration.importing.covered_times import covered_ns
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.logged_changes import LoggedChanges
from vfio_migration.wording import ms

_Spans = dict[str, tuple[int, int]]
_WORTH_SAYING_NS = 50_000


def find_transfer(findings: Findings, migration: LoggedMigration, changes: LoggedChanges, window: Window) -> None:
    """Find how long each device's state took while the machine was stopped."""
    stop_copy: dict[str, int] = {}
    for each in changes.within(findings, migration.log, window):
        device = findings.devices[each.device]
        if each.target is DeviceState.STOP_COPY and not device.precopy:
            device.take((DeviceState.STOP, DeviceState.STOP_COPY), each.ns)
            stop_copy[each.device] = stop_copy.get(each.device, 0) + each.ns
    saved = _saved(findings, migration, window)
    if saved:
        for name, (first, last) in saved.items():
            if name in findings.devices:
                findings.devices[name].transfer_ns = max(0, last - first - stop_copy.get(name, 0))
        find_channels(findings, migration)
        _note_rest(findings, saved, window)
        return
    share = max(0.0, window.seconds * 1e9 - sum(stop_copy.values())) / len(findings.devices)
    for device in findings.devices.values():
        device.transfer_ns = round(share)
    findings.note(
        "the log does not say how long saving each device took (-trace 'vfio_save_complete_precopy*'): the whole "
        f"transfer, {ms(window.seconds, digits=3)}, is shared equally among the devices"
    )


def _note_rest(findings: Findings, saved: Mapping[str, tuple[int, int]], window: Window) -> None:
    """Take what lies before and between the devices' states for that of all others."""
    covered = _saving_ns(findings, saved)
    first = min(first for first, _ in saved.values())
    query = min(max(0, first - window.begin.time_ns), max(0, round(window.seconds * 1e9) - covered))
    other = max(0, round(window.seconds * 1e9) - covered - query)
    findings.add_phase("final_query_s", query)
    findings.add_phase("other_state_s", other)
    if query + other >= _WORTH_SAYING_NS:
        findings.note(
            f"{ms((query + other) / 1e9, digits=3)} of the transfer ({ms(window.seconds, digits=3)}) belong to no VFIO "
            f"device (memory, other devices): {ms(query / 1e9, digits=3)} before the first, final_query_s of [phases], "
            f"and {ms(other / 1e9, digits=3)} after it, other_state_s"
        )


def _saving_ns(findings: Findings, saved: Mapping[str, tuple[int, int]]) -> int:
    """Give how long the scenario saves devices: threads beside each other and beside the others, these in turn."""
    threads = [name for name in saved if name in findings.devices and findings.devices[name].in_thread]
    others = [saved[name] for name in saved if name not in threads]
    covered = covered_ns(others)
    if sum(last - first for first, last in others) > covered:
        findings.note("states were saved at the same time; in this scenario it is one after another")
    return max([covered, *(saved[name][1] - saved[name][0] for name in threads)])


def _saved(findings: Findings, migration: LoggedMigration, window: Window) -> _Spans:
    """Find when each device was saved; where only the end is logged, it began when the one before had ended."""
    begun: dict[str, tuple[int, int]] = {}
    saved: _Spans = {}
    starts = any(event.name in SAVE_BEGIN for event in window.events)
    before = window.begin.time_ns
    for event in window.events:
        name = event.fields.get("name", "")
        if event.name in SAVE_BEGIN:
            begun.setdefault(name, (event.time_ns, event.line))
            if event.name == SAVE_THREAD_BEGIN and name in findings.devices:
                findings.devices[name].in_thread = True
        elif event.name in SAVE_END and name in begun:
            saved[name] = (begun[name][0], event.time_ns)
        elif event.name in SAVE_END and not starts and name in findings.devices:
            saved[name] = (before, event.time_ns)
            before = event.time_ns
    for name in begun.keys() - saved.keys():
        findings.note(
            f"saving {name!r} has no end in {migration.log} (begun in line {begun[name][1]})",
            "devices whose saving has no end",
        )
    if saved and not starts:
        findings.note(
            f"{migration.log} says only when a device was saved, not since when: each is taken to begin when the one "
            "before was done, the first when the machine had stopped"
        )
    return saved
