"""How deep the devices of a log are: from a device tree, or from the handlers that the log shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vfio_migration.errors import LogImportError
from vfio_migration.importing.attempts import LoggedMigration
from vfio_migration.importing.findings import UNKNOWN_DEPTH, Findings
from vfio_migration.importing.logged_changes import Interval, together
from vfio_migration.inputs import read_input, reason
from vfio_migration.wording import in_order, listed
from vmstate import Device, QtreeError, depth_of_priority, parse_qtree

_MOST = 20
_LONGEST_SIZE = 18  # digits


def find_stages(findings: Findings, stop: Sequence[Interval]) -> None:
    """
    Tell depths apart by the changes of a source that stops, if nothing else has: what changes together is at one depth.

    At the stop all of a depth are done before the next begin, the deepest first. A log of changes in turn says nothing.
    """
    if not findings.depths_unknown:
        return
    depth_of: dict[str, int] = {}
    for prepares in (True, False):
        stages = together([each for each in stop if each.prepares == prepares])
        if findings.overlapping and any(len(stage) > 1 for stage in stages):
            for number, stage in enumerate(reversed(stages)):
                depth_of |= {each.device: UNKNOWN_DEPTH + number for each in stage}
    for device in findings.devices.values():
        device.depth = depth_of.get(device.name, device.depth)
    if len(set(depth_of.values())) > 1:
        findings.note(
            "without a device tree (--qtree), depths are told by which devices changed together: how many there are, "
            "and in which order"
        )
    else:
        findings.note(
            "without a device tree (--qtree), depths are unknown: all devices are at one depth, where parallel changes "
            "gain most"
        )


def find_depths(
    findings: Findings, qtree: str | Path | None, migrations: Sequence[LoggedMigration], names: Mapping[str, str]
) -> None:
    """
    Find the depth of each device: in the source's tree, else in the handlers of the logs, the source's first.

    `names` gives the name on the source for each on the destination.

    Raises:
        LogImportError: the tree cannot be read, or a device is not in it.

    """
    known: dict[str, int] = {}
    for each in migrations:
        for event in each.events:
            if event.name == "handler_begin":
                depth = depth_of_priority(event.fields["priority"])
                if depth:
                    name = event.fields["handler"]
                    known.setdefault(names.get(name, name) if each.role == "destination" else name, depth)
    if qtree is not None:
        _take_places(findings, qtree, migrations[0].log)
        return
    for device in findings.devices.values():
        device.depth = known.get(device.name, UNKNOWN_DEPTH)
    findings.depths_unknown = any(name not in known for name in findings.devices)


def _take_places(findings: Findings, qtree: str | Path, log: str) -> None:
    """Take each device's depth and type from a tree, by its id or by what VFIO's events call it."""
    try:
        tree = parse_qtree(read_input(qtree))
    except (OSError, ValueError, QtreeError) as error:
        raise LogImportError(
            f"{qtree}: expected what QEMU's monitor prints for `info qtree`, it cannot be read ({reason(error)})"
        ) from error
    for note in tree.notes:
        findings.note(f"{qtree}: {note}")
    devices = list(tree)
    findings.ram_size = _memory(devices)
    places = {device.id: device for device in devices if device.id}
    for device in devices:
        for name in (*device.host_names, device.place):
            places.setdefault(name, device)
    for found in findings.devices.values():
        if found.name not in places:
            names = in_order({device.name for device in devices if device.name})
            raise LogImportError(
                f"{qtree}: the device {found.name!r} of {log} is not in this tree, neither as an id nor by a property "
                f"`host`, `sysfsdev` or `fd`; there are {listed(list(map(repr, names)), most=_MOST) or 'none'}"
            )
        place = places[found.name]
        found.depth, found.type = place.depth, place.type
        found.in_tree = {"true": True, "false": False}.get(place.properties.get("x-migration-parallel-states", ""))


def _memory(devices: Sequence[Device]) -> int | None:
    """Give how much memory the host bridge has below and above 4 GiB, in bytes; None: it does not say."""
    for device in devices:
        sizes = [device.properties.get(f"{where}-4g-mem-size", "").partition(" ")[0] for where in ("below", "above")]
        if all(size.isascii() and size.isdecimal() and len(size) <= _LONGEST_SIZE for size in sizes):
            return sum(map(int, sizes)) or None
    return None
