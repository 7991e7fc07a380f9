"""
Many devices beside each other, each by itself: what all of them take with others in the places of a few.

Asked thousands of times of a machine of a thousand unlike devices, so that nothing is gone through anew.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vfio_migration.plan import Loader


@dataclass(frozen=True)
class Alone:
    """A device that has channels and link to itself: when it is sent, what loads it, and its bytes."""

    sending: int
    loader: Loader
    bytes: int


class DevicesBeside:
    """
    Their ends, in order, and what they come to in sum; nanoseconds.

    Configurations are loaded in turn: they take at least all of it from when the first device is there, and the last
    one's from when that is. Which of them waits for which is not gone through.
    """

    def __init__(self, devices: Mapping[int, Alone]) -> None:
        self._devices = devices
        self._by_sending = self._sorted(lambda each: each.sending)
        self._by_following = self._sorted(lambda each: each.loader.following)
        self._by_loading = self._sorted(lambda each: each.loader.loading)
        self._bytes = sum(each.bytes for each in devices.values())
        self._config = sum(each.loader.config for each in devices.values())

    def _sorted(self, key: Callable[[Alone], int]) -> list[tuple[int, int]]:
        return sorted(((key(each), place) for place, each in self._devices.items()), reverse=True)

    def sent(self, new: Mapping[int, Alone | None]) -> tuple[int, int]:
        """Give when the last is sent, and how many bytes that are of all, with these in their places (None: none)."""
        there = [each for each in new.values() if each is not None]
        away = [self._devices[place] for place in new]
        size = self._bytes + sum(each.bytes for each in there) - sum(each.bytes for each in away)
        return max([_first(self._by_sending, new), *(each.sending for each in there)]), size

    def loaded(self, new: Mapping[int, Alone | None], lag_ns: int) -> tuple[int, int, int]:
        """Give when the last has all its data, when the first has, and how long all their configurations take."""
        there = [each.loader for each in new.values() if each is not None]
        following = [_first(self._by_following, new), *(each.following for each in there)]
        loading = [_first(self._by_loading, new), *(each.loading for each in there)]
        soonest = [_last(self._by_following, new), *(each.done(lag_ns) for each in there)]
        config = self._config + sum(each.config for each in there)
        config -= sum(self._devices[place].loader.config for place in new)
        return max(*following, lag_ns + max(loading)), min(soonest), config


def _first(ordered: Sequence[tuple[int, int]], but: Mapping[int, object]) -> int:
    return next((value for value, place in ordered if place not in but), 0)


def _last(ordered: Sequence[tuple[int, int]], but: Mapping[int, object]) -> int:
    return next((value for value, place in reversed(ordered) if place not in but), 0)
