"""A device without hardware: it waits for each arc, has state of a given size, and fails when told to."""

import errno as errno_codes
import os
import random
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from vfio_migration.device.backend import Counted, StateBytes
from vfio_migration.device.mock_faults import DataFault, Fault, FaultPlan
from vfio_migration.device.mock_state import MockState, Piece
from vfio_migration.device.mock_transfer import Inbox, Outbox
from vfio_migration.device.state_machine import ALL_FLAGS, SAVING, DeviceState, MigrationFlags, is_arc, transition_path
from vfio_migration.errors import BlockedTransitionError
from vfio_migration.wording import arc_name
from vmstate import (
    NS_PER_SECOND,
    Clock,
    Event,
    RealClock,
    RegistrationError,
    begin_ns,
    seconds_to_ns,
    wait_until,
)

Arc = tuple[DeviceState, DeviceState]
_S = DeviceState
_SHORT_READ = 10  # bytes


class MockDevice:
    """
    A `DeviceBackend` that waits through its machine's clock where hardware would work.

    `latency` is what every arc takes, in seconds, or a table of them by (from, to), other arcs taking none.
    `state_size` bytes of state are left when pre-copy is over; a device with pre-copy has `precopy_size`
    more, which it sends before, and dirties `precopy_dirty` bytes of them, one number for each round.
    Reading takes size / `rate` (bytes per second; None: no time), writing size / `write_rate`, and loading the
    configuration `config_load` seconds. The first `initial_size` bytes of pre-copy are its initial bytes, on which
    `switchover_ack` waits; pre-copy has that many at least. The state's bytes follow from `seed`; with
    `contents="sizes"` only their number travels.

    Raises:
        ValueError: a size, a rate or a latency is negative or no number, or an arc is none that a device takes.

    """

    def __init__(
        self,
        *,
        flags: MigrationFlags = ALL_FLAGS,
        latency: float | Mapping[Arc, float] = 0.0,
        state_size: int = 65536,
        rate: float | None = None,
        seed: int = 0,
        precopy_size: int = 4096,
        precopy_dirty: Sequence[int] = (2048, 1024),
        contents: Literal["bytes", "sizes"] = "bytes",
        write_rate: float | None = None,
        config_load: float = 0.0,
        initial_size: int = 0,
    ) -> None:
        self._flags = MigrationFlags(flags) | MigrationFlags.STOP_COPY
        self._latency_ns, self._other_latency_ns = _checked_latency(latency, self._flags)
        if min(state_size, precopy_size, initial_size, *precopy_dirty, 0) < 0:
            raise ValueError("sizes of state are in bytes and not negative")
        for name, value in (("rate", rate), ("write_rate", write_rate)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is in bytes per second and more than 0, or None; got {value!r}")
        self._write_rate = write_rate
        self._config_load = seconds_to_ns(config_load) / NS_PER_SECOND
        if contents not in ("bytes", "sizes"):
            raise ValueError(f"contents are 'bytes', or 'sizes' of which only the number travels; got {contents!r}")
        self._rate = rate
        self._random = random.Random(seed)  # noqa: S311 - test data
        self._warm_size = max(precopy_size, initial_size) if MigrationFlags.PRE_COPY in self._flags else 0
        self._initial_size = min(initial_size, self._warm_size)
        self._memory = MockState(self._warm_size + state_size, self._new_key())
        self._precopy_dirty = tuple(min(size, self._warm_size) for size in precopy_dirty)
        self._bound = False
        self._clock: Clock = RealClock()
        # The thread that drives the device and those that arrange faults or look at it share what follows.
        self._lock = threading.Lock()
        self._state = DeviceState.RUNNING
        self._outbox = Outbox(counted=contents == "sizes")
        self._initial_left = 0
        self._dirty_rounds: deque[int] = deque()
        self._bytes_read = 0  # since reading began anew, which says how long a read waits
        self._inbox: Inbox | None = None  # made by the first write
        self._stalled: Event | None = None  # raised by release()
        self._resets = 0  # an arc that a reset has overtaken changes nothing any more
        self._faults = FaultPlan()

    @property
    def flags(self) -> MigrationFlags:
        """What the device can do."""
        return self._flags

    @property
    def state(self) -> DeviceState:
        """The state that the device is in."""
        return self._state

    @property
    def state_hash(self) -> str:
        """SHA-256 that is equal for equal states, for comparing source and destination."""
        with self._lock:
            return self._memory.sha256

    def set_latency(self, latency: float | Mapping[Arc, float]) -> None:
        """
        Have other latencies from the next arc on: seconds of all arcs, or of each.

        Raises:
            ValueError: a time makes no sense, or no device has such an arc.

        """
        table, other = _checked_latency(latency, self._flags)
        with self._lock:
            self._latency_ns, self._other_latency_ns = table, other

    def set_rate(self, rate: float | None) -> None:
        """Give the state at another rate from now on, in bytes per second; None: in no time. Raises ValueError."""
        if rate is not None and not rate > 0:
            raise ValueError(f"rate is in bytes per second and more than 0, or None; got {rate!r}")
        with self._lock:
            self._rate = rate
            self._start_reading()

    @property
    def rate(self) -> float | None:
        """How fast the state is read, in bytes per second; None: in no time."""
        with self._lock:
            return self._rate

    @property
    def state_size(self) -> int:
        """How many bytes of state pre-copy leaves to be sent."""
        with self._lock:
            return self._memory.size - self._warm_size

    def set_state_size(self, size: int) -> None:
        """
        Have a state of so many bytes, beside what pre-copy sends.

        Raises:
            ValueError: that is no size, or the state is being sent or received.

        """
        if size < 0:
            raise ValueError(f"state_size is in bytes and not negative; got {size!r}")
        with self._lock:
            if self._state in SAVING or self._state is _S.RESUMING:
                raise ValueError(f"state_size cannot be changed in {self._state.name}: a transfer is under way")
            self._memory = MockState(self._warm_size + size, self._new_key())

    def arc_latency(self, current: DeviceState, target: DeviceState) -> float:
        """Give the seconds that an arc takes."""
        with self._lock:
            return self._latency_ns.get((current, target), self._other_latency_ns) / NS_PER_SECOND

    def fail(
        self,
        current: DeviceState,
        target: DeviceState,
        *,
        errno: int = errno_codes.EIO,
        times: int = 1,
        probability: float | None = None,
        seed: int = 0,
        into_error: bool = False,
    ) -> None:
        """
        Have an arc fail the next `times` times, after its latency; the device stays where it was.

        With a `probability` it fails each time with that probability instead, as `seed` says. `into_error`: the
        device is left in ERROR, from which only a reset leads.

        Raises:
            ValueError: it is not an arc of this device, or it is to fail less than once.

        """
        arc = self._checked_arc(current, target)
        self._faults.arrange(arc, Fault(errno, times, probability, seed, into_error=into_error))

    def stall(self, current: DeviceState, target: DeviceState, *, seconds: float | None = None, times: int = 1) -> None:
        """
        Have an arc take longer the next `times` times: by so many seconds, or until `release`.

        Raises:
            ValueError: it is not an arc of this device, or no time.

        """
        arc = self._checked_arc(current, target)
        if seconds is not None:
            seconds_to_ns(seconds)
        self._faults.arrange(arc, Fault(None, times, stall=True, stall_s=seconds))

    def release(self) -> None:
        """Let an arc go on that stalls now; does nothing if none does."""
        with self._lock:
            stalled = self._stalled
        if stalled is not None:
            stalled.set()

    @property
    def stalled(self) -> bool:
        """Whether an arc stalls now until it is released."""
        with self._lock:
            return self._stalled is not None

    def fail_reset(self, *, times: int = 1, errno: int = errno_codes.EIO) -> None:
        """Have the next resets fail: the device is lost then."""
        self._faults.arrange("reset", Fault(errno, times))

    def fail_read(
        self,
        fault: DataFault = DataFault.ERROR,
        *,
        errno: int = errno_codes.EIO,
        times: int = 1,
        probability: float | None = None,
        seed: int = 0,
    ) -> None:
        """Have the next reads in STOP_COPY go wrong: fail, be short, be altered, or be the last, too early."""
        self._faults.arrange("read", Fault(errno, times, probability, seed, data=fault))

    def fail_write(
        self,
        fault: DataFault = DataFault.ERROR,
        *,
        errno: int = errno_codes.EIO,
        times: int = 1,
        probability: float | None = None,
        seed: int = 0,
    ) -> None:
        """
        Have the next writes of state go wrong: fail, be altered, or be lost (CUT).

        Raises:
            ValueError: a write cannot be short.

        """
        if fault is DataFault.SHORT:
            raise ValueError("a write takes all bytes or fails: choose ERROR, ALTERED or CUT")
        self._faults.arrange("write", Fault(errno, times, probability, seed, data=fault))

    @property
    def unmet_faults(self) -> tuple[str, ...]:
        """What was told to go wrong and never came to it, in words."""
        return tuple(_fault_in_words(what, fault) for what, fault in self._faults.unmet())

    def heal(self) -> None:
        """Forget all faults that were not met yet; an arc that stalls goes on stalling."""
        self._faults.clear()

    # What the migration code calls (`DeviceBackend`):

    def bind(self, clock: Clock) -> None:
        """Wait through this clock from now on."""
        with self._lock:
            if self._bound:
                raise RegistrationError("this backend drives a device of a machine already: make one for each")
            self._bound = True
        self._clock = clock

    def unbind(self) -> None:
        """Be free for another machine; an arc that is under way then changes nothing any more."""
        with self._lock:
            self._resets += 1
            self._bound = False

    def set_arc(self, target: DeviceState) -> None:
        """Work for as long as the arc takes, then be there, or fail as arranged; EINVAL if it is not one arc."""
        with self._lock:
            arc = (self._state, target)
            if len(transition_path(*arc, self._flags)) != 1:
                raise OSError(errno_codes.EINVAL, f"{arc[0].name} to {target.name} is not one arc")
            until = self._clock.now() + self._latency_ns.get(arc, self._other_latency_ns)
            resets = self._resets
            refusal = self._inbox.refusal if arc[0] is _S.RESUMING and self._inbox is not None else None
        wait_until(self._clock, until)
        fault = self._faults.meet(arc)
        while fault is not None and fault.stall:
            self._stall(fault, arc)
            fault = self._faults.meet(arc)
        with self._lock:
            if self._resets != resets:
                raise OSError(errno_codes.ENODEV, f"{arc[0].name} to {target.name}: the device was reset meanwhile")
            if fault is not None:
                if fault.into_error:
                    self._state = _S.ERROR
                raise _os_error(fault.errno, f"{arc[0].name} to {target.name}")
            if refusal is not None:
                raise OSError(errno_codes.EINVAL, refusal)
            self._enter(*arc)
            self._state = target

    def pending(self) -> int:
        """Count the bytes that pre-copy could read now."""
        with self._lock:
            return self._outbox.pending

    def initial_pending(self) -> int:
        """Count the initial bytes that pre-copy has still to give."""
        with self._lock:
            return self._initial_left

    def ask_again(self, size: int) -> None:
        """
        Have so many initial bytes anew, as a device whose configuration has changed (uAPI `VFIO_PRECOPY_INFO_REINIT`).

        In pre-copy they are sent and acknowledged once more. Later that fails the migration, if it was to be
        acknowledged.

        Raises:
            ValueError: no bytes, or more than pre-copy has.

        """
        with self._lock:
            if not 0 < size <= self._warm_size:
                raise ValueError(f"size: expected 1 to {self._warm_size} bytes, which pre-copy has; got {size!r}")
            if self._state in (_S.PRE_COPY, _S.PRE_COPY_P2P):
                self._outbox.add(self._memory, 0, size)
            self._initial_left = max(size, self._outbox.pending)  # they come behind all that was to be sent before

    def read(self, size: int) -> bytes:
        """Give the next bytes, after the time that they take; ENODEV if there is no transfer (any more)."""
        with self._lock:
            if self._state not in SAVING:
                raise OSError(errno_codes.ENODEV, f"no state to read in {self._state.name}: the transfer has ended")
            if self._outbox.empty:
                return b""
            data, carried = self._next_read(size)
            self._bytes_read += carried
            self._initial_left = max(0, self._initial_left - carried)
            # From the sum of all that was read, so that rounding does not add up.
            took = self._reading_ns(self._bytes_read) - self._reading_ns(self._bytes_read - carried)
            until = begin_ns(self._clock) + took
        wait_until(self._clock, until)
        with self._lock:
            if self._outbox.empty and self._dirty_rounds and self._state is not _S.STOP_COPY:
                self._dirty(self._dirty_rounds.popleft())
        return data if isinstance(data, Counted) else StateBytes(data, carried)

    def write(self, data: bytes) -> None:
        """Take bytes; a malformed record is EINVAL."""
        with self._lock:
            if self._state is not _S.RESUMING:
                raise OSError(errno_codes.EINVAL, f"no state to write in {self._state.name}")
            if self._inbox is None:  # from now on, what is loaded must be complete
                self._inbox = Inbox()
            fault = self._faults.meet("write")
            if fault is not None:
                if fault.data is DataFault.ERROR:
                    raise _os_error(fault.errno, "writing the state")
                data = b"" if fault.data is DataFault.CUT else _altered(data)
            before = self._inbox.loaded
            try:
                self._inbox.write(data)
            except ValueError as error:
                raise OSError(errno_codes.EINVAL, str(error)) from error
            took = self._writing_ns(self._inbox.loaded) - self._writing_ns(before)
        if took:
            wait_until(self._clock, begin_ns(self._clock) + took)

    def stop_size(self) -> int:
        """Say how many bytes would have to be read if the device were stopped now."""
        with self._lock:
            return self._memory.size - self._warm_size + self._outbox.pending

    def load_config(self) -> None:
        """Take as long as the configuration takes to load."""
        if self._config_load:
            self._clock.sleep(self._config_load)

    @property
    def loads_slowly(self) -> bool:
        """Whether writing takes time."""
        return self._write_rate is not None

    def _stall(self, fault: Fault, arc: Arc) -> None:
        if fault.stall_s is not None:
            self._clock.sleep(fault.stall_s)
            return
        name = f"the release of a device that stalls in {arc[0].name} to {arc[1].name}"
        released = self._clock.event(name, outside=True)
        with self._lock:
            self._stalled = released
        try:
            released.wait()
        finally:
            with self._lock:
                if self._stalled is released:  # and not that of the machine that it was given to since
                    self._stalled = None

    def reset(self) -> None:
        """Be RUNNING, with an empty state."""
        fault = self._faults.meet("reset")
        if fault is not None:
            raise _os_error(fault.errno, "resetting the device")
        with self._lock:
            self._resets += 1
            self._state = DeviceState.RUNNING
            self._memory = MockState(self._memory.size)
            self._forget_transfer()

    # Below, the lock is held.

    def _enter(self, current: DeviceState, target: DeviceState) -> None:
        if target in (_S.PRE_COPY, _S.PRE_COPY_P2P) and current not in SAVING:
            self._forget_transfer()
            self._outbox.add(self._memory, 0, self._warm_size)
            self._dirty_rounds.extend(self._precopy_dirty)
            self._initial_left = self._initial_size
            self._start_reading()
        elif target is _S.STOP_COPY:
            if current not in SAVING:
                self._forget_transfer()
                self._outbox.add(self._memory, 0, self._memory.size)
            else:
                self._outbox.add(self._memory, self._warm_size, self._memory.size)
            self._outbox.close(self._memory)
            self._dirty_rounds.clear()
            self._start_reading()
        elif current is _S.RESUMING and self._inbox is not None:
            self._memory = self._inbox.state
            self._warm_size = min(self._warm_size, self._memory.size)
            self._forget_transfer()
        elif target is _S.RESUMING or (current in SAVING and target not in SAVING):
            self._forget_transfer()

    def _dirty(self, size: int) -> None:
        """Change the first bytes, as a guest does that goes on running, so that they must be sent again."""
        size = min(size, self._memory.size)
        self._memory.write(Piece(0, size, self._new_key()))
        self._outbox.add(self._memory, 0, size)
        self._start_reading()

    def _new_key(self) -> int:
        return self._random.getrandbits(63) + 1

    def _next_read(self, size: int) -> tuple[bytes, int]:
        """Give the next bytes to be read and how many of the state's they carry, as far as no fault is met."""
        fault = self._faults.meet("read")
        wrong = fault.data if fault is not None else None
        if fault is not None and wrong is DataFault.ERROR:
            raise _os_error(fault.errno, "reading the state")
        if wrong is DataFault.SHORT:
            size = max(1, min(size, _SHORT_READ))
        data, carried = self._outbox.read(size)
        if wrong is DataFault.CUT:
            self._outbox.clear()
            return data[: len(data) // 2], carried
        return (_altered(data) if wrong is DataFault.ALTERED else data), carried

    def _start_reading(self) -> None:
        """Have the time that reading takes begin with the next read."""
        self._bytes_read = 0

    def _reading_ns(self, size: int) -> int:
        return 0 if self._rate is None else seconds_to_ns(size / self._rate)

    def _writing_ns(self, size: int) -> int:
        return 0 if self._write_rate is None else seconds_to_ns(size / self._write_rate)

    def _forget_transfer(self) -> None:
        self._outbox.clear()
        self._dirty_rounds.clear()
        self._initial_left = 0
        self._inbox = None

    def _checked_arc(self, current: DeviceState, target: DeviceState) -> Arc:
        try:
            path = transition_path(current, target, self._flags)
        except BlockedTransitionError as error:
            raise ValueError(f"no arc of this device: {error.strerror}") from error
        if len(path) != 1:
            states = [DeviceState(current).name, *(state.name for state in path)]
            arcs = " or ".join(f"'{one} -> {other}'" for one, other in pairwise(states)) or "another one: it stays"
            raise ValueError(
                f"{states[0]} to {DeviceState(target).name} is not one arc of this device, but {len(path)}: take {arcs}"
            )
        return DeviceState(current), DeviceState(target)


def _checked_latency(latency: float | Mapping[Arc, float], flags: MigrationFlags) -> tuple[dict[Arc, int], int]:
    """Give the nanoseconds of each arc that has its own latency, and of all others."""
    if not isinstance(latency, Mapping):
        return {}, seconds_to_ns(latency)
    table = {(DeviceState(arc[0]), DeviceState(arc[1])): seconds_to_ns(seconds) for arc, seconds in latency.items()}
    for current, target in table:
        if not any(is_arc(current, target, each) for each in (ALL_FLAGS, flags)):
            raise ValueError(f"latency: no device has an arc {arc_name(current, target)}")
    return table, 0


def _fault_in_words(what: object, fault: Fault) -> str:
    if isinstance(what, tuple):
        return f"{'stall' if fault.stall else 'failure'} of {arc_name(*what)}"
    return f"fault of {what}" if what == "reset" else f"{fault.data.value} of {what}"


def _os_error(code: int | None, what: str) -> OSError:
    code = errno_codes.EIO if code is None else code
    return OSError(code, f"{what}: {os.strerror(code)}")


def _altered(data: bytes) -> bytes:
    """Change one byte in the middle."""
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :] if data else data
