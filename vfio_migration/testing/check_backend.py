"""
A check of a `DeviceBackend` of one's own: whether it does what the migration code will ask of it, and says why not.

    def test_my_device():
        check_backend(lambda: MyDevice(size=4096))
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from vfio_migration.device import DeviceBackend, DeviceState, MigrationFlags, is_arc, transition_path
from vfio_migration.wording import arc_name
from vmstate import Clock, RealClock

_S = DeviceState
_T = TypeVar("_T")
_CHUNK = 1 << 20
_MOST_READS = 100_000  # then a device that never says that there is no more
_SHORT_READ = 7


class BackendCheckError(AssertionError):
    """A backend does not do what `DeviceBackend` asks for; the message says what was asked and what came of it."""


def check_backend(make: Callable[[], DeviceBackend], *, clock: Clock | None = None) -> None:
    """
    Check a kind of device; `make` gives a new one at each call, in RUNNING and part of no machine.

    It walks every arc that the device's features have, resets it from every state, saves it and loads what was saved
    into another one, from threads that change. Devices get a clock in real time, or `clock`; those that have a `close`
    are closed.

    Raises:
        BackendCheckError: the device did something else than it should; the first such thing is named.

    """
    check = _Check(make, RealClock() if clock is None else clock)
    check.binding()
    check.arcs()
    check.resets()
    check.transfer()
    check.precopy()


class _Check:
    def __init__(self, make: Callable[[], DeviceBackend], clock: Clock) -> None:
        self._make = make
        self._clock = clock

    def binding(self) -> None:
        """See what a device says of itself, and that it is part of one machine at a time."""
        with self._device(bound=False) as device:
            flags = device.flags
            _insist(isinstance(flags, MigrationFlags), f"flags is {flags!r}, expected MigrationFlags")
            _insist(MigrationFlags.STOP_COPY in flags, f"flags is {flags!r}: every device that migrates has STOP_COPY")
            _insist(device.state is _S.RUNNING, f"a new device is in {_shown(device.state)}, expected RUNNING")
            self._call("bind", lambda: device.bind(self._clock))
            try:
                device.bind(self._clock)
            except Exception:  # noqa: BLE001 - whatever it is, it was refused
                self._call("unbind", device.unbind)
            else:
                raise BackendCheckError("bind was accepted a second time, expected an error: a device has one machine")
            self._call("bind, after unbind", lambda: device.bind(self._clock))
            self._call("unbind", device.unbind)
            _insist(device.flags == flags, f"flags changed from {flags!r} to {device.flags!r}")

    def arcs(self) -> None:
        """Walk every arc; that from RESUMING needs a state that was loaded, and comes with the transfer."""
        with self._device() as device:
            for current in DeviceState:
                for target in DeviceState:
                    if current is not _S.RESUMING and is_arc(current, target, device.flags):
                        self._bring(device, current)
                        self._arc(device, target)

    def resets(self) -> None:
        """Reset from every state that the device can be in."""
        for state in DeviceState:
            with self._device() as device:
                if state is not _S.ERROR and _has(device, state):
                    self._bring(device, state)
                    self._reset(device)

    def transfer(self) -> None:
        """Save one device, load another, and save that: what it has must be what was sent."""
        with self._device() as source, self._device() as destination:
            sent = self._saved(source)
            self._load(destination, sent)
            self._arc(destination, _S.STOP)
            for target in transition_path(_S.STOP, _S.RUNNING, destination.flags):
                self._arc(destination, target)
            again = self._saved(destination)
            _insist(
                b"".join(sent) == b"".join(again),
                f"a device that was loaded with {_sizes(sent)} and saved again gave {_sizes(again)}, and not the same",
            )

    def precopy(self) -> None:
        """Save a device that has pre-copy while it runs, to the end of what it has then."""
        with self._device() as device:
            if MigrationFlags.PRE_COPY not in device.flags:
                return
            self._bring(device, _S.PRE_COPY)
            pending = self._call("pending", device.pending)
            _insist(isinstance(pending, int) and pending >= 0, f"pending gave {pending!r}, expected bytes, 0 or more")
            self._read_all(device)
            for target in transition_path(_S.PRE_COPY, _S.STOP_COPY, device.flags):
                self._arc(device, target)
            self._read_all(device)

    @contextmanager
    def _device(self, *, bound: bool = True) -> Iterator[DeviceBackend]:
        device = self._call("making one", self._make)
        try:
            if bound:
                self._call("bind", lambda: device.bind(self._clock))
            yield device
        finally:
            getattr(device, "close", lambda: None)()

    def _bring(self, device: DeviceBackend, state: DeviceState) -> None:
        """Bring a device to a state, by a reset where no way leads there."""
        if device.state in (_S.RESUMING, _S.ERROR):
            self._reset(device)
        try:
            way = transition_path(device.state, state, device.flags)
        except OSError:
            self._reset(device)
            way = transition_path(device.state, state, device.flags)
        for target in way:
            self._arc(device, target)

    def _arc(self, device: DeviceBackend, target: DeviceState) -> None:
        arc = arc_name(device.state, target)
        self._call(f"set_arc, {arc}", lambda: device.set_arc(target))
        _insist(
            device.state is target,
            f"after set_arc, {arc}, the device is in {_shown(device.state)}: set_arc returns when it is there",
        )

    def _reset(self, device: DeviceBackend) -> None:
        before = _shown(device.state)
        self._call(f"reset, in {before}", device.reset)
        _insist(
            device.state is _S.RUNNING,
            f"after a reset in {before} the device is in {_shown(device.state)}, expected RUNNING",
        )

    def _saved(self, device: DeviceBackend) -> list[bytes]:
        self._bring(device, _S.STOP)
        self._arc(device, _S.STOP_COPY)
        return self._read_all(device)

    def _read_all(self, device: DeviceBackend) -> list[bytes]:
        """Read what the device has in its state, first a little of it."""
        where = f"in {_shown(device.state)}"
        pieces: list[bytes] = []
        size = _SHORT_READ
        for _ in range(_MOST_READS):
            piece = self._call(f"read {where}", lambda size=size: device.read(size))  # type: ignore[misc]
            _insist(isinstance(piece, bytes), f"read {where} gave {type(piece).__name__}, expected bytes")
            stands_for = getattr(piece, "stands_for", len(piece))
            _insist(stands_for <= size, f"read({size}) {where} gave {stands_for} bytes, more than was asked for")
            if not piece:
                return pieces
            pieces.append(piece)
            size = _CHUNK
        raise BackendCheckError(f'read {where} has given data {_MOST_READS:,} times, and never b"" for the end')

    def _load(self, device: DeviceBackend, pieces: list[bytes]) -> None:
        self._bring(device, _S.RESUMING)
        for piece in pieces:
            self._call("write in RESUMING", lambda piece=piece: device.write(piece))  # type: ignore[misc]

    def _call(self, what: str, ask: Callable[[], _T]) -> _T:
        """Ask something of the device, from a thread of its own: nobody asks from one thread always."""
        answers: list[_T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                answers.append(ask())
            except Exception as error:  # noqa: BLE001 - told to whoever checks
                errors.append(error)

        with self._clock.taking_part():
            self._clock.join(self._clock.start_thread(run, f"check_backend: {what}"))
        if errors:
            kind = "" if isinstance(errors[0], OSError) else ", which is no OSError, as failures are"
            raise BackendCheckError(f"{what}: raised {errors[0]!r}{kind}") from errors[0]
        return answers[0]


def _insist(holds: Any, why: str) -> None:
    if not holds:
        raise BackendCheckError(why)


def _has(device: DeviceBackend, state: DeviceState) -> bool:
    """Whether the device's features lead to a state."""
    try:
        transition_path(_S.RUNNING, state, device.flags)
    except OSError:
        return False
    return True


def _shown(state: object) -> str:
    return state.name if isinstance(state, DeviceState) else repr(state)


def _sizes(pieces: list[bytes]) -> str:
    return f"{sum(map(len, pieces)):,} bytes"
