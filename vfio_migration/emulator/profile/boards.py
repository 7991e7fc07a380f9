"""A board as a real QEMU made it, before any device was added."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vfio_migration.emulator.profile.recorded_objects import Listing
from vfio_migration.emulator.profile.tree_text import BusText, read_tree


@dataclass(frozen=True)
class BoardRecord:
    """A machine's tree, its objects by path, and what `query-pci` returns of it."""

    tree: BusText
    objects: Mapping[str, Listing]
    pci: Sequence[Mapping[str, Any]]
    options: Mapping[str, str]


def board_record(
    variants: Sequence[Mapping[str, Any]], options: Mapping[str, str], arguments: tuple[str, ...], *, defaults: bool
) -> BoardRecord:
    """
    Choose among the recorded variants of a machine the one that is closest to these options, and make it up.

    Options that no variant knows change nothing; with defaults where none was recorded, those without are taken.
    """

    def distance(variant: Mapping[str, Any]) -> tuple[int, ...]:
        wrong = sum(options.get(name, value) != value for name, value in variant["options"].items())
        unasked = sum(name not in options for name in variant["options"])
        met = sum(options.get(name) == value for name, value in variant["options"].items())
        return (variant["defaults"] is not defaults, tuple(variant["arguments"]) != arguments, wrong + unasked, -met)

    chosen = min(variants, key=distance)
    objects = {**variants[0]["objects"], **chosen["objects"]}
    return BoardRecord(
        read_tree(chosen["tree"]),
        {path: each for path, each in objects.items() if each is not None},
        chosen["pci"],
        chosen["options"],
    )
