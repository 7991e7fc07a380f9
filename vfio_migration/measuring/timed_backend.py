"""A backend that notes what is asked of the one behind it, and how long that takes."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from vfio_migration.device import DeviceBackend, DeviceState, MigrationFlags
from vmstate import Clock

_Given = TypeVar("_Given")
SOURCE = "source"
DESTINATION = "destination"


@dataclass(frozen=True)
class Request:
    """
    One thing that was asked of a device, from `start_ns` to `end_ns` of the clock; `size`: bytes read or written.

    `what` is "arc", "read", "write", "config" or "reset"; of an arc `arc` says which, and of a read which state the
    device was in.
    """

    device: str
    side: str
    what: str
    start_ns: int
    end_ns: int
    size: int = 0
    arc: tuple[DeviceState, DeviceState] | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9


class Requests:
    """What was asked of all devices, in the order in which it ended. Its lock guards the list."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._list: list[Request] = []

    def add(self, request: Request) -> None:
        """Note one."""
        with self._lock:
            self._list.append(request)

    def take(self) -> tuple[Request, ...]:
        """Give all so far, and forget them."""
        with self._lock:
            taken, self._list = tuple(self._list), []
        return taken


class TimedBackend:
    """
    Passes everything on to a backend, and notes requests that take time.

    What a backend may leave out is there if it is there behind it (`DeviceBackend`). A request that fails is noted too.
    """

    def __init__(self, backend: DeviceBackend, device: str, side: str, requests: Requests) -> None:
        self._backend = backend
        self._device = device
        self._side = side
        self._requests = requests
        self._clock: Clock | None = None
        self._current = DeviceState.RUNNING  # as far as it was asked for; asking the device would take time

    def __getattr__(self, name: str) -> Any:
        """Give what a backend may leave out, or fail as the one behind it does."""
        found = getattr(self._backend, name)
        if name == "load_config":
            return lambda: self._timed("config", found)
        return found

    @property
    def flags(self) -> MigrationFlags:
        """What the device can do."""
        return self._backend.flags

    @property
    def state(self) -> DeviceState:
        """The state that the device is in."""
        return self._backend.state

    def bind(self, clock: Clock) -> None:
        """Become part of a machine."""
        self._backend.bind(clock)
        self._clock, self._current = clock, self._backend.state

    def unbind(self) -> None:
        """Be taken away from the machine."""
        self._backend.unbind()

    def set_arc(self, target: DeviceState) -> None:
        """Go to a state that is one arc away."""
        self._timed("arc", lambda: self._backend.set_arc(target), arc=(self._current, target))
        self._current = target

    def pending(self) -> int:
        """Say how many bytes pre-copy could read now."""
        return self._backend.pending()

    def read(self, size: int) -> bytes:
        """Give up to `size` bytes of state."""
        state = self._current
        return self._timed("read", lambda: self._backend.read(size), arc=(state, state), sized=_size)

    def write(self, data: bytes) -> None:
        """Take bytes of state."""
        self._timed("write", lambda: self._backend.write(data), sized=lambda _: _size(data))

    def reset(self) -> None:
        """Bring the device to RUNNING."""
        self._timed("reset", self._backend.reset)
        self._current = DeviceState.RUNNING

    def _timed(
        self,
        what: str,
        do: Callable[[], _Given],
        *,
        arc: tuple[DeviceState, DeviceState] | None = None,
        sized: Callable[[_Given], int] = lambda _: 0,
    ) -> _Given:
        now = self._now
        start_ns, size = now(), 0
        try:
            given = do()
            size = sized(given)
            return given
        finally:
            self._requests.add(Request(self._device, self._side, what, start_ns, now(), size, arc))

    def _now(self) -> int:
        return 0 if self._clock is None else self._clock.now()


def _size(data: bytes) -> int:
    """Give how many bytes of state these are: they may only stand for them."""
    stands_for: int = getattr(data, "stands_for", len(data))
    return stands_for
