"""A VFIO device of a machine: where it sits, what drives it, and how it is to be migrated."""

from dataclasses import dataclass
from typing import Literal

from vfio_migration.device.backend import DeviceBackend
from vfio_migration.device.state_machine import MigrationFlags
from vmstate import Device


@dataclass(frozen=True, eq=False)
class VFIODevice:
    """
    A device in the tree together with its backend.

    `migration_parallel_states` is QEMU's property `x-migration-parallel-states`; `migration_events` is its
    `migration-events`. Both are settled when the device is registered. `migration_multifd_transfer` is its
    `x-migration-multifd-transfer`: whether the device is saved and loaded by threads of its own, over the migration's
    multifd channels; "auto": if there are any; True: a migration without them fails.

    Raises:
        ValueError: the device has no id, by which it would be paired with its counterpart; or
            `migration_multifd_transfer` is none of the three.
        TypeError: the backend lacks something of `DeviceBackend`.

    """

    device: Device
    backend: DeviceBackend
    migration_parallel_states: bool = True
    migration_events: bool = False
    migration_multifd_transfer: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.migration_multifd_transfer not in (True, False, "auto"):
            raise ValueError(
                f"migration_multifd_transfer is True, False or 'auto'; got {self.migration_multifd_transfer!r}"
            )
        if not self.device.id:
            raise ValueError("a VFIO device needs an id: devices of source and destination are paired by it")
        lacking = [name for name in _BACKEND if not hasattr(self.backend, name)]
        if lacking:
            raise TypeError(
                f"the backend of device {self.device.id!r} lacks {', '.join(lacking)}: it has to be as "
                f"vfio_migration.DeviceBackend says; got {self.backend!r}"
            )

    @property
    def id(self) -> str:
        """The device's id."""
        return self.device.id

    @property
    def p2p(self) -> bool:
        """Whether the device can be kept from reaching its peers while it still answers them."""
        return MigrationFlags.P2P in self.backend.flags

    @property
    def precopy(self) -> bool:
        """Whether the device can be read while it runs."""
        return MigrationFlags.PRE_COPY in self.backend.flags


_BACKEND = ("flags", "state", "bind", "unbind", "set_arc", "pending", "read", "write", "reset")
