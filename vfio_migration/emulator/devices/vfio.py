"""Making a device of the tree a VFIO device: its mock backend, and its properties of QEMU's."""

import zlib
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from vfio_migration.changes import Watchdog
from vfio_migration.device import ALL_FLAGS, MigrationFlags, MockDevice, VFIODevice
from vfio_migration.emulator.board import Property
from vfio_migration.emulator.command_line.keyvals import parse_switch
from vfio_migration.emulator.devices.fault_properties import FaultProperty, fault_properties, set_fault_property
from vfio_migration.emulator.errors import QmpError
from vfio_migration.registered import VFIOMigration
from vfio_migration.scenarios import DeviceSpec
from vmstate import Device, Machine

TYPES = ("vfio-pci", "vfio-pci-nohotplug")
PARALLEL = "x-migration-parallel-states"  # the patch's property, which no released QEMU has
_EVENTS = "migration-events"
_MULTIFD = "x-migration-multifd-transfer"
_ENABLED = "enable-migration"
_OF_FEATURES = {"x-p2p": MigrationFlags.P2P, "x-precopy": MigrationFlags.PRE_COPY}
OWN_PROPERTIES = (PARALLEL, *_OF_FEATURES, *(each.name for each in fault_properties()))


class Placed(Protocol):
    """A device that has a place in the tree."""

    id: str
    type: str
    device: Device


def make_vfio(
    machine: Machine,
    device: Placed,
    options: Mapping[str, Any],
    spec: DeviceSpec | None,
    watchdog: Watchdog | None = None,
) -> tuple[VFIOMigration, MockDevice]:
    """
    Register a device of the tree as a VFIO device: what a scenario says of it, and above that what its options say.

    Raises:
        QmpError: an option makes no sense.

    """
    mock = _new_mock(device, options, spec)
    for each in fault_properties():
        if each.name in options:
            set_fault_property(mock, device.type, each.name, options[each.name])
    entry = None if spec is None else spec.entry
    vfio_device = VFIODevice(
        device.device,
        mock,
        migration_parallel_states=_switch(options, PARALLEL, default=entry is None or entry.parallel),
        migration_events=_switch(options, _EVENTS, default=entry is not None and entry.events),
        migration_multifd_transfer=_multifd(options, "auto" if entry is None else entry.multifd),
    )
    threads = "per-change" if entry is None else entry.threads
    migration = VFIOMigration(machine, vfio_device, threads=threads, watchdog=watchdog)
    return migration, mock


def blocks_migration(options: Mapping[str, Any]) -> bool:
    """Whether `enable-migration=off` keeps the machine from being migrated."""
    return options.get(_ENABLED) in ("off", False)


def add_fault_properties(type_: str, mock: MockDevice, properties: dict[str, Property]) -> None:
    """Have the properties of faults among those of a device's QOM object."""
    for each in fault_properties():
        properties[each.name] = _as_property(type_, mock, each)


def _as_property(type_: str, mock: MockDevice, each: FaultProperty) -> Property:
    return Property(
        each.type,
        get=lambda: each.get(mock),
        set=lambda value: set_fault_property(mock, type_, each.name, value),
    )


def _new_mock(device: Placed, options: Mapping[str, Any], spec: DeviceSpec | None) -> MockDevice:
    flags = ALL_FLAGS if spec is None else spec.flags
    for name, flag in _OF_FEATURES.items():
        if name in options:
            flags = flags | flag if parse_switch(options[name], name) else flags & ~flag
    if spec is None:
        # Each process has a state of its own, so that equal ones can only come from a transfer.
        return MockDevice(flags=flags, contents="sizes", seed=zlib.crc32(device.id.encode()) ^ id(device))
    return MockDevice(flags=flags, latency=dict(spec.latency), seed=spec.seed, **spec.of_mock)


def _switch(options: Mapping[str, Any], name: str, *, default: bool) -> bool:
    return parse_switch(options[name], name) if name in options else default


def _multifd(options: Mapping[str, Any], default: bool | Literal["auto"]) -> bool | Literal["auto"]:
    value = options.get(_MULTIFD, default)
    if value == "auto":
        return "auto"
    try:
        return parse_switch(value, _MULTIFD)
    except QmpError:
        raise QmpError(f"Property 'vfio-pci.{_MULTIFD}' expects 'on', 'off' or 'auto', got {value!r}") from None
