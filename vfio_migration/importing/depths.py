"""How deep the devices of a log are: from a device tree, or from the handlers that the log shows."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vfio_migration.errors import LogImportError
from vfio_migration.importing.attempts import LoggedMigration
from vfio_migration.importing.findings import UNKNOWN_DEPTH, Findings
from vmstate import QtreeError, depth_of_priority, parse_qtree


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
        places = _places(qtree)
        for device in findings.devices.values():
            if device.name not in places:
                ids = ", ".join(sorted(map(repr, places))) or "none"
                raise LogImportError(
                    f"{qtree}: the device {device.name!r} of {migrations[0].log} is not in this tree, neither as "
                    f"an id nor as a property `host` or `sysfsdev`; there are {ids}"
                )
            device.depth, device.type = places[device.name]
        return
    for device in findings.devices.values():
        device.depth = known.get(device.name, UNKNOWN_DEPTH)
    if any(name not in known for name in findings.devices):
        findings.note(
            "without a device tree (--qtree), depths are unknown: all devices are at one depth, "
            "where parallel changes gain most"
        )


_DEV = re.compile(r"\s*dev: ")
# VFIO's events name a device by its address on the host, or by the name of its mediated device.
_HOST = re.compile(r'\s*(?:host = "?(?P<host>[^"]+?)"?|sysfsdev = "(?:.*/)?(?P<sysfsdev>[^"/]+)/?")\s*')


def _places(qtree: str | Path) -> dict[str, tuple[int, str]]:
    """Read a device tree: depth and type of each device, by its id and by what VFIO's events would call it."""
    try:
        text = Path(qtree).read_text(encoding="utf-8")
        tree = parse_qtree(text)
    except (OSError, ValueError, QtreeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LogImportError(
            f"{qtree}: expected what QEMU's monitor prints for `info qtree`, it cannot be read ({reason})"
        ) from error
    devices = list(tree)
    places = {device.id: (device.depth, device.type) for device in devices if device.id}
    place = -1
    for line in text.removeprefix("\ufeff").splitlines():
        if _DEV.match(line):
            place += 1
            continue
        match = _HOST.fullmatch(line)
        if match is not None and 0 <= place < len(devices):
            name = match["host"] or match["sysfsdev"]
            places.setdefault(name, (devices[place].depth, devices[place].type))
    return places
