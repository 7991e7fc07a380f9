"""Walks a QEMU's objects and writes down what they are made of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vfio_migration.emulator.profile.recorded_qemu import RecordedQemu

Listing = list[list[Any]]  # [name, type, value] of each property, in the order of qom-list; no value: it cannot be read
Objects = dict[str, Listing]  # by path

PLAIN = ("memory-region", "irq")  # hundreds of them, all alike: they are noted by name, in the listing of their parent
_CHANGING = ("rtc-time", "date")  # what a clock says is no part of a record


def record_objects(qemu: RecordedQemu, path: str) -> Objects:
    """Write down an object and all below it, but for plain ones, by `qom-list-get`."""
    found: Objects = {}
    waiting = [path]
    while waiting:
        for at, listing in zip(waiting, read_listings(qemu, waiting), strict=True):
            found[at] = listing
        waiting = [
            f"{at.rstrip('/')}/{name}"
            for at in waiting
            for name, kind, *_ in found[at]
            if kind.startswith("child<") and kind[6:-1] not in PLAIN
        ]
    return found


def read_listings(qemu: RecordedQemu, paths: Sequence[str]) -> list[Listing]:
    """Read what some objects list, in one question."""
    return [[_noted(each) for each in found["properties"]] for found in qemu.ask("qom-list-get", paths=list(paths))]


def differing(objects: Mapping[str, Listing], base: Mapping[str, Listing]) -> dict[str, Listing | None]:
    """Give what must be put in place of a base's objects to have these; None: it is not there."""
    changes: dict[str, Listing | None] = {path: None for path in base if path not in objects}
    changes.update({path: listing for path, listing in objects.items() if base.get(path) != listing})
    return changes


def renamed(value: Any, rename: Callable[[str], str]) -> Any:
    """Give a value with every text in it renamed, however deep."""
    if isinstance(value, str):
        return rename(value)
    if isinstance(value, list):
        return [renamed(each, rename) for each in value]
    if isinstance(value, dict):
        return {rename(key): renamed(each, rename) for key, each in value.items()}
    return value


def _noted(each: Mapping[str, Any]) -> list[Any]:
    name, kind = each["name"], each["type"]
    if "value" not in each or name in _CHANGING or kind.startswith("child<"):
        return [name, kind]
    return [name, kind, each["value"]]
