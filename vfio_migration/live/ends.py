"""What both ends of a migration ask of their machine, before it and after."""

from vfio_migration.device import DeviceState
from vfio_migration.errors import MigrationRefusedError
from vfio_migration.registered import VFIOMigration, devices_of
from vmstate import NS_PER_SECOND, Machine, VmStateError


def refuse_thread(machine: Machine, what: str) -> None:
    """Raise MigrationRefusedError in a thread for which the migration would wait."""
    try:
        machine.big_lock.refuse_barred(what)
    except VmStateError as error:
        raise MigrationRefusedError(str(error)) from error
    if machine.big_lock.held:
        raise MigrationRefusedError(
            f"the calling thread holds the big lock of machine {machine.name!r}, for which the migration "
            "would wait: release it first; a handler cannot migrate its machine"
        )


def refuse_devices(machine: Machine) -> None:
    """Raise MigrationRefusedError if its devices cannot migrate together."""
    devices = [each.vfio_device for each in devices_of(machine)]
    without = {device.id for device in devices if not device.p2p}
    if len(devices) > 1 and without:
        raise MigrationRefusedError(
            f"machine {machine.name!r} has {len(devices)} VFIO devices, which can only migrate together if all of "
            f"them have P2P; without it: {', '.join(sorted(without))}"
        )


def lost_devices(machine: Machine) -> tuple[str, ...]:
    """Name the devices that are lost."""
    return tuple(each.id for each in devices_of(machine) if each.device_state is DeviceState.ERROR)


def recoveries(machine: Machine) -> dict[str, int]:
    """Say how often each device was recovered by a reset so far."""
    return {each.id: each.recoveries for each in devices_of(machine)}


def reset_since(machine: Machine, before: dict[str, int]) -> tuple[str, ...]:
    """Name the devices that were recovered by a reset since then."""
    return tuple(device for device, times in recoveries(machine).items() if times > before.get(device, 0))


def loads_slowly(machine: Machine) -> bool:
    """Whether a device takes its time to load what arrives, so that every piece is to be sent at once."""
    return any(map(_loads_slowly, devices_of(machine)))


def _loads_slowly(device: VFIOMigration) -> bool:
    return bool(getattr(device.vfio_device.backend, "loads_slowly", False))


def seconds(start_ns: int | None, end_ns: int | None) -> float | None:
    """Give the seconds between two moments; None if one was not reached."""
    return None if start_ns is None or end_ns is None else (end_ns - start_ns) / NS_PER_SECOND
