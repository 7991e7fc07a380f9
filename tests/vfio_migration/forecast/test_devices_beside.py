"""Devices beside each other, with others in the places of some, worked out by hand."""

from vfio_migration.forecast.devices_beside import Alone, DevicesBeside
from vfio_migration.plan import Loader

LONG_AGO = -(10**9)


def alone(sending: int, following: int, loading: int = 0, config: int = 0, size: int = 1) -> Alone:
    return Alone(sending, Loader(following, loading, config), size)


DEVICES = DevicesBeside({0: alone(10, 12, 5, 3, 100), 2: alone(30, 31, 20, 4, 200), 5: alone(20, 40, 8, 0, 400)})


def test_as_they_are() -> None:
    assert DEVICES.sent({}) == (30, 700)
    assert DEVICES.loaded({}, LONG_AGO) == (40, 12, 7)
    assert DEVICES.loaded({}, 25) == (45, 12, 7)  # the second begins late, and loads for 20


def test_without_the_one_that_counts_and_with_another_in_its_place() -> None:
    assert DEVICES.sent({2: None}) == (20, 500)
    assert DEVICES.sent({2: alone(25, 0, size=1)}) == (25, 501)
    assert DEVICES.loaded({5: None}, LONG_AGO) == (31, 12, 7)
    assert DEVICES.loaded({0: alone(1, 99, 1, 10)}, LONG_AGO) == (99, 31, 14)


def test_with_none_there_is_nothing_to_wait_for() -> None:
    none = dict.fromkeys((0, 2, 5))
    assert DEVICES.sent(none) == (0, 0)
    assert DEVICES.loaded(none, LONG_AGO) == (0, 0, 0)
