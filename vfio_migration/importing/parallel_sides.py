"""The sides of a migration whose devices changed at the same time: who changed in turn, what threads cost."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vfio_migration.importing.attempts import LoggedMigration, Window
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.launch_costs import find_launch_costs
from vfio_migration.importing.logged_changes import Interval, note_overlap
from vfio_migration.importing.logged_handlers import find_logged_handlers
from vfio_migration.importing.walked_stages import in_turn_among, walked_side
from vfio_migration.wording import listed

_MOST = 16


@dataclass(frozen=True)
class ParallelSide:
    """The part of a log in which a machine was told to stop or start, and the changes in it."""

    window: Window
    found: Sequence[Interval]
    running: bool


def changes_in_parallel(findings: Findings, migration: LoggedMigration, found: Sequence[Interval]) -> bool:
    """
    Tell whether a side changed its devices in parallel: some changed at the same time, or the tree says so.

    A single device at a depth overlaps no other, with a thread or without one.
    """
    if note_overlap(findings, migration, found):
        return True
    if not any(device.in_tree for device in findings.devices.values()):
        return False
    findings.overlapping = True
    findings.note("the tree says that parallel changes were on (x-migration-parallel-states), and so they are taken")
    return True


def find_parallel_sides(findings: Findings, sides: Sequence[ParallelSide]) -> None:
    """Find the handlers of these sides, the devices that have parallel changes off, and what threads cost."""
    if sides:
        _find_in_turn(findings, sides)
    walked = []
    for each in sides:
        handlers = find_logged_handlers(findings, each.window, running=each.running)
        walked.append(walked_side(findings, each.window, each.found, handlers, running=each.running))
    find_launch_costs(findings, walked)


def _find_in_turn(findings: Findings, sides: Sequence[ParallelSide]) -> None:
    """Find the devices that change in turn beside others that do not: the tree says so, or the log shows it."""
    devices = findings.devices
    if any(device.in_tree for device in devices.values()):
        in_turn = [name for name, device in devices.items() if device.in_tree is False]
    elif (said := _in_turn_by_handlers(findings, sides)) is not None:
        in_turn = said
    else:
        in_turn = in_turn_among(
            [walked_side(findings, each.window, each.found, running=each.running) for each in sides]
        )
    for name in in_turn:
        devices[name].parallel = False
    if in_turn:
        findings.note(
            f"{listed(list(map(repr, in_turn)), most=_MOST)} change in turn, beside others that do not: parallel "
            "changes are off for them (parallel = false)"
        )


def _in_turn_by_handlers(findings: Findings, sides: Sequence[ParallelSide]) -> list[str] | None:
    """
    Tell it by the lines of the devices' own handlers, which logs of ours have; None: there are none.

    A device that changes in a thread has two in a pass, one that launches and one that joins; any other has one.
    """
    calls = Counter(
        (place, event.fields["handler"], event.fields["kind"])
        for place, side in enumerate(sides)
        for event in side.window.events
        if event.name == "handler_begin" and event.fields["handler"] in findings.devices
    )
    if not calls:
        return None
    in_threads = {name for (_, name, _), count in calls.items() if count > 1}
    return [name for name in findings.devices if name not in in_threads]
