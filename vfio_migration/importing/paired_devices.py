"""Which VFIO devices migrate, what they are called on both sides, and what they can do."""

from collections.abc import Mapping

from vfio_migration.device import DeviceState, MigrationFlags
from vfio_migration.errors import LogImportError
from vfio_migration.importing.attempts import LoggedMigration, Window
from vfio_migration.importing.choice import Arrival
from vfio_migration.importing.findings import Findings, FoundDevice
from vfio_migration.importing.log_reader import LogEvent
from vfio_migration.importing.logged_changes import P2P_STATES, asked, names_in
from vfio_migration.wording import listed

_MOST = 16


def paired_names(
    findings: Findings, migration: LoggedMigration, stop: Window, arrival: Arrival | None
) -> dict[str, str]:
    """
    Give the name on the source for each name on the destination.

    Raises:
        LogImportError: no VFIO device migrates, or the destination has other ones.

    """
    here = names_in(migration.events, stop.begin.line)
    if not here:
        raise LogImportError(
            f"{migration.log}, line {stop.begin.line}: no VFIO device changes its state in the switchover of "
            f"migration {migration.number}: the machine has none that can migrate, or these were not switched "
            "on: -trace 'vfio_migration_set_*' -trace 'vfio_vmstate_change*'"
        )
    if arrival is None:
        return {}
    there = names_in(arrival.migration.events, arrival.start.begin.line)
    same = {name: name for name in there if name in here}
    ours = [name for name in here if name not in same]
    theirs = [name for name in there if name not in same]
    if ours and len(ours) == len(theirs):
        pairs = listed([f"{b!r} = {a!r}" for a, b in zip(ours, theirs, strict=True)], most=_MOST)
        findings.note(f"the destination's names of devices are others; in their order they are taken to be: {pairs}")
        return same | dict(zip(theirs, ours, strict=True))
    if theirs:
        raise LogImportError(
            f"{arrival.migration.log}, line {arrival.start.begin.line}: devices that the source's log does not have: "
            f"{listed(list(map(repr, theirs)))}; it has {listed(list(map(repr, here)))}"
        )
    if ours:
        findings.note(
            f"the destination's log does not show {listed(list(map(repr, ours)))}: 0 stands for what they took there"
        )
    return same


def find_devices(
    findings: Findings, migration: LoggedMigration, stop: Window, arrival: Arrival | None, names: Mapping[str, str]
) -> None:
    """Infer the devices' features from the states that were asked."""
    findings.devices = {name: FoundDevice(name) for name in names_in(migration.events, stop.begin.line)}
    for name, state, event in asked(migration.events):
        if name in findings.devices:
            # Handlers take a device to STOP_COPY only from pre-copy; any other goes there when it is saved.
            saving = state is DeviceState.STOP_COPY and stop.begin.line <= event.line <= stop.end.line
            _infer(findings.devices[name], state, event)
            if saving:
                findings.devices[name].flags |= MigrationFlags.PRE_COPY
    for name, state, event in asked(arrival.migration.events if arrival is not None else ()):
        if names.get(name) in findings.devices:
            _infer(findings.devices[names[name]], state, event)
    without = [each for each in findings.devices.values() if MigrationFlags.P2P not in each.flags]
    if without and len(findings.devices) > 1:
        for each in without:
            each.flags |= MigrationFlags.P2P
        findings.note(
            f"no *_P2P state was logged of {listed([repr(each.name) for each in without])}; they are taken to "
            "have P2P, as more than one device cannot migrate without"
        )


def _infer(device: FoundDevice, state: DeviceState, event: LogEvent) -> None:
    """Infer features from a state that was asked for."""
    if state in P2P_STATES or event.name == "vfio_vmstate_change_prepare":
        device.flags |= MigrationFlags.P2P
    if state in (DeviceState.PRE_COPY, DeviceState.PRE_COPY_P2P):
        device.flags |= MigrationFlags.PRE_COPY
