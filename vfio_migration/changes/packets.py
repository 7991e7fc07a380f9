"""Numbered packets of a device's state, as they travel over channels, and a queue that puts them in order again."""

import threading
from dataclasses import dataclass
from enum import IntEnum

from vfio_migration.errors import StreamError
from vmstate import Clock


class PacketKind(IntEnum):
    """What a packet holds; the numbers are those of the wire."""

    DATA = 1
    COUNTED = 2  # data of which only the size travels
    CONFIG = 3  # the last one: how many bytes of data there were in all


@dataclass(frozen=True)
class Packet:
    """One of a device's packets, `stands_for` bytes of its state."""

    number: int
    kind: PacketKind
    data: bytes
    stands_for: int = 0


class PacketQueue:
    """
    The packets of one device, which arrive over several channels in any order and are taken by their numbers.

    `_lock` guards all fields. Nothing limits how many wait here: the source never waits for a device that loads (QEMU's
    default too).
    """

    def __init__(self, clock: Clock, device: str) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._packets: dict[int, Packet] = {}
        self._next = 0
        self._error: BaseException | None = None
        self._closed = False
        self._arrived = clock.event(f"packet of device {device!r}")

    def put(self, packet: Packet) -> None:
        """
        Add a packet.

        Raises:
            StreamError: one of this number has come before, or the device has all that it needs.

        """
        with self._lock:
            if self._closed:
                raise StreamError(f"device {self.device!r}: data after its configuration")
            if packet.number < self._next or packet.number in self._packets:
                raise StreamError(f"device {self.device!r}: its packet {packet.number} came a second time")
            self._packets[packet.number] = packet
        self._arrived.set()

    def take(self) -> Packet:
        """
        Give the next packet by number, waiting for it; raises what `fail` was told.

        Raises:
            StreamError: it will never come.

        """
        while True:
            with self._lock:
                if self._next in self._packets:
                    self._next += 1
                    return self._packets.pop(self._next - 1)
                if self._error is not None:
                    missing = f"device {self.device!r}: its packet {self._next} did not arrive"
                    raise StreamError(f"{missing}: {self._error}") from self._error
                self._arrived.clear()
            self._arrived.wait()

    def fail(self, error: BaseException) -> None:
        """Have whoever waits for a packet that has not come hear that none comes any more."""
        with self._lock:
            if self._error is None:
                self._error = error
        self._arrived.set()

    def close(self) -> None:
        """
        Take nothing more.

        Raises:
            StreamError: something is here that nobody has taken.

        """
        with self._lock:
            self._closed = True
            if self._packets:
                raise StreamError(f"device {self.device!r}: data after its configuration")
