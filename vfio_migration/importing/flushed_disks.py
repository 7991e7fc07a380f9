"""Flushing disks at the end of the source's stop: `flush_block_s` of `[phases]`, as far as a log tells it."""

from vfio_migration.importing.attempts import Window
from vfio_migration.importing.event_forms import DONE, MARK
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.logged_changes import CHANGES
from vfio_migration.wording import ms

_WORTH_SAYING_NS = 50_000
_OF_HANDLERS = (MARK, DONE, *CHANGES, "vfio_migration_set_device_state")


def flush_ns(stop: Window) -> int:
    """Give what passed from the last line of a device or handler to the machine's having stopped."""
    last_ns = max((event.time_ns for event in stop.events if event.name in _OF_HANDLERS), default=stop.end.time_ns)
    return max(0, stop.end.time_ns - last_ns)


def find_flush(findings: Findings, ns: int) -> None:
    """Take so much for flushing disks."""
    findings.add_phase("flush_block_s", ns)
    if ns >= _WORTH_SAYING_NS:
        findings.note(
            f"{ms(ns / 1e9, digits=3)} from the last line of a handler to the machine's having stopped are "
            "flush_block_s of [phases]: a guess, as handlers that leave no line would be in it too"
        )
