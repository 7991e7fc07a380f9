"""What migrates with a machine is read by threads that hold no lock, while others register and take away."""

from vfio_migration import MockDevice, VFIODevice, VFIOMigration
from vmstate import Bus, Device, Machine


def test_who_is_in_the_middle_of_reading_sees_what_was_there_when_he_began() -> None:
    """Whether or not an interpreter has a lock of its own: the dict that is read is never changed."""
    machine, bus = Machine("source"), Bus("main-system-bus")
    first, second = (VFIOMigration(machine, VFIODevice(Device(name, bus), MockDevice())) for name in ("vf0", "vf1"))
    reading = iter(machine._migratables.values())
    assert next(reading) is first
    third = VFIOMigration(machine, VFIODevice(Device("vf2", bus), MockDevice()))
    second.close()
    assert list(reading) == [second]
    assert machine.migratables == (first, third)
