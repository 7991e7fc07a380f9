"""What each device took for each arc in many migrations, put together by the names of devices and arcs."""

from collections.abc import Iterable, Sequence

from vfio_migration.device import is_arc
from vfio_migration.importing.findings import Arc, Findings, FoundDevice
from vfio_migration.wording import arc_name, listed

_MOST = 8
_MISSING = "devices or arcs that are not in all migrations"


def collect_arcs(about: Findings, findings: Findings, all_findings: Sequence[Findings]) -> None:
    """
    Give the devices of `findings`, one of all, the samples of all; `about` is told what some of them lack.

    A device that only others have is left out, and so is an arc that the device, with the features it has here, has
    not.
    """
    number = len(all_findings)
    _note_others(about, findings, all_findings)
    short: dict[tuple[Arc, int, int], list[str]] = {}
    impossible: dict[Arc, list[str]] = {}
    for name, device in findings.devices.items():
        same = [each.devices[name] for each in all_findings if name in each.devices]
        if len(same) < number:
            about.note(f"{name!r} is in {len(same):,} of {number:,} migrations: what it took is of those", _MISSING)
        samples = _samples(same)
        for arc, values in samples.items():
            if not is_arc(*arc, device.flags):
                impossible.setdefault(arc, []).append(name)
            elif len(values) < len(same):
                short.setdefault((arc, len(values), len(same)), []).append(name)
        device.samples = {arc: values for arc, values in samples.items() if is_arc(*arc, device.flags)}
        device.arcs = {arc: values[0] for arc, values in device.samples.items()} | device.arcs
    for (arc, found, of), names in short.items():
        about.note(
            f"{arc_name(*arc)} of {_listed(names)} is in {found:,} of {of:,} migrations: what it took is of those",
            _MISSING,
        )
    for arc, names in impossible.items():
        about.note(
            f"{arc_name(*arc)} of {_listed(names)} is left out: in the median migration no state was asked for that "
            "would say that the device has this arc",
            "arcs that are left out",
        )


def _samples(devices: Iterable[FoundDevice]) -> dict[Arc, list[int]]:
    samples: dict[Arc, list[int]] = {}
    for device in devices:
        for arc, ns in device.arcs.items():
            samples.setdefault(arc, []).append(ns)
    return samples


def _note_others(about: Findings, findings: Findings, all_findings: Sequence[Findings]) -> None:
    """Name the devices that are left out."""
    counts: dict[str, int] = {}
    for each in all_findings:
        for name in each.devices.keys() - findings.devices.keys():
            counts[name] = counts.get(name, 0) + 1
    for name, count in sorted(counts.items()):
        about.note(
            f"{name!r} is left out: it is in {count:,} of {len(all_findings):,} migrations, and not in the median one",
            "devices that are left out",
        )


def _listed(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names], most=_MOST)
