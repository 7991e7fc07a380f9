"""A template: a device as a real QEMU made it, ready to be made again under another id and in another place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vfio_migration.emulator.profile.recorded_devices import PROBE
from vfio_migration.emulator.profile.recorded_objects import Listing
from vfio_migration.emulator.profile.tree_text import DeviceText, read_device

ID = PROBE  # stands in a template wherever the device's id does
PATH = f"/machine/peripheral/{ID}"


@dataclass(frozen=True)
class Template:
    """
    What came of making a device of one type in one setting.

    `given` are the options that it needed, `beside` what appeared elsewhere with it, by bus, `below` the paths of
    such objects; `blockers` is what query-migrate said of it, `pci` its entry of query-pci.
    """

    type: str
    setting: str
    tree: DeviceText | None
    objects: Mapping[str, Listing]
    given: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[tuple[str, DeviceText], ...] = ()
    below: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()
    pci: Mapping[str, Any] | None = None


def template_of(name: str, setting: str, recorded: Mapping[str, Mapping[str, Any]]) -> Template:
    """Make the template of a type in a setting from all that was recorded of the type."""
    first = next(iter(recorded.values()))
    found = recorded[setting]
    objects = {path: each for path, each in {**first["objects"], **found["objects"]}.items() if each is not None}
    return Template(
        name,
        setting,
        read_device(found["tree"]) if "tree" in found else None,
        objects,
        found.get("given", {}),
        tuple((bus, read_device(text)) for bus, text in found.get("beside", ())),
        tuple(found.get("below", ())),
        tuple(found.get("blockers", ())),
        found.get("pci"),
    )
