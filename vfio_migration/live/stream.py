"""
The migration stream: a header, sections with a device's state each, and an end, all under checksums.

The format is this project's own, version 3; numbers are big-endian:

    header    8 bytes "VSWMIGR3"; a byte: 1 if the switchover is acknowledged, plus 2 if the takeover is confirmed, plus
              4 if the source waits at the end for an answer, plus 8 if configurations come next; the number of multifd
              channels, 1 byte
    configurations
              byte 4; how many, 1 byte; of each the id of what it is of, as 2 bytes of length and UTF-8, and 2 bytes of
              length and what it says
    section   byte 1; index of the device, 4 bytes; its id, as 2 bytes of length and UTF-8; the device's
              part, which says itself where it ends (see `vfio_migration.registered` for QEMU's markers)
    run state byte 2, once, after the source has stopped: the run state that it had then, as a length byte and
              ASCII; a byte that is 1 if it goes back to `suspended` when started, else 0
    threads   byte 3, once, after the source has stopped, if there are multifd channels: the number of devices whose
              states come over these, 4 bytes; of each its index, 4 bytes, and its id as above
    end       byte 0; the number of sections, 8 bytes

Header, configurations, each section, the run state, the threads and the end are each followed by 4 bytes of CRC-32 over
all bytes of the stream before them, so nothing can be altered, left out or put elsewhere without being seen where it
happens.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from vfio_migration.device import CHUNK
from vfio_migration.errors import StreamError
from vfio_migration.live.parameters import MigrationParameters
from vfio_migration.live.wire import Wire
from vmstate import Channel, ChannelClosedError, Migratable, RunState

T = TypeVar("T")

_MAGIC = b"VSWMIGR3"
_END, _SECTION, _RUN_STATE, _THREADS, _CONFIGURATIONS = 0, 1, 2, 3, 4
_CAPABILITIES = struct.Struct(">BB")
_ACK, _CONFIRMED, _RETURN_PATH, _CONFIGURED = 1, 2, 4, 8
_LENGTH = struct.Struct(">H")
_INDEX = struct.Struct(">BIH")  # kind, index, length of the id
_COUNT = struct.Struct(">BQ")  # kind, number of sections
_DEVICES = struct.Struct(">BI")  # kind, number of devices
_DEVICE = struct.Struct(">IH")  # index, length of the id
_CHECKSUM = struct.Struct(">I")
_MAX_ID = 255
_MAX_COUNT, _MAX_SIZE = 255, 0xFFFF  # of configurations
_FLUSH_SIZE = 16 * 1024


@dataclass(frozen=True)
class NotedState:
    """The run state that the source's machine had when it was stopped (QEMU's `migration_stop_vm`)."""

    run_state: RunState
    was_suspended: bool


class StreamWriter:
    """
    Writes the stream; what `vmstate.Migratable` calls a `SaveStream`.

    Raises:
        ChannelClosedError: (all methods) the destination is gone.

    """

    def __init__(self, channel: Channel, wire: Wire, *, eager: bool) -> None:
        self._channel = channel
        self._wire = wire
        self._eager = eager  # what is written is sent at once, as somebody may wait for it
        self.budget: int | None = None
        self.shares_link = False  # with others, who get their turns between pieces
        self._buffer = bytearray()
        self._checksum = 0
        self._sections = 0
        self._seals = hashlib.sha256()
        self.bytes_sent = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of all checksums sent so far: the same for the same bytes, which are not hashed once more for it."""
        return self._seals.hexdigest()

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._checksum = zlib.crc32(data, self._checksum)
        if len(data) >= _FLUSH_SIZE:  # of a device's state: not copied once more
            self._flush()
            self._send(data)
            return
        self._buffer += data
        if self._eager or len(self._buffer) >= _FLUSH_SIZE:
            self._flush()

    def carry(self, size: int) -> None:
        """Wait as long as so many bytes take on the link."""
        rest = size
        while self.shares_link and rest > CHUNK:
            self._wire.carry(CHUNK)
            rest -= CHUNK
        self._wire.carry(rest)
        if self.budget is not None:
            self.budget = max(0, self.budget - size)

    def stand_for(self, size: int) -> None:
        """Count so many bytes as sent of which something stands in the stream."""
        self.bytes_sent += size

    @property
    def checksum(self) -> int:
        """The checksum over all bytes so far."""
        return self._checksum

    def header(
        self,
        parameters: MigrationParameters,
        *,
        confirmed: bool,
        configurations: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Begin the stream; says what both sides have to agree on."""
        flags = parameters.switchover_ack * _ACK | confirmed * _CONFIRMED | parameters.return_path * _RETURN_PATH
        flags |= bool(configurations) * _CONFIGURED
        self.write(_MAGIC + _CAPABILITIES.pack(flags, parameters.multifd_channels))
        self._seal()
        if configurations:
            if len(configurations) > _MAX_COUNT:
                raise StreamError(f"{len(configurations)} configurations; at most {_MAX_COUNT} can be sent")
            self.write(bytes([_CONFIGURATIONS, len(configurations)]))
            for name, data in configurations.items():
                id_ = name.encode()
                if len(id_) > _MAX_ID or len(data) > _MAX_SIZE:
                    raise StreamError(
                        f"the configuration of {name[:_MAX_ID]!r} has {len(data)} bytes: at most {_MAX_SIZE} can be "
                        f"sent, with an id of at most {_MAX_ID}"
                    )
                self.write(_LENGTH.pack(len(id_)) + id_ + _LENGTH.pack(len(data)) + data)
            self._seal()

    def section(self, index: int, migratable: Migratable, save: Callable[["StreamWriter"], T]) -> T:
        """Write a section of this device; `save` writes its part, and what it returns is returned."""
        name = migratable.id.encode()
        self.write(_INDEX.pack(_SECTION, index, len(name)) + name)
        result = save(self)
        self._sections += 1
        self._seal()
        return result

    def threads(self, devices: Mapping[int, Migratable]) -> None:
        """Write which devices' states come over channels, by their indices."""
        self.write(_DEVICES.pack(_THREADS, len(devices)))
        for index, device in devices.items():
            name = device.id.encode()
            self.write(_DEVICE.pack(index, len(name)) + name)
        self._seal()

    def run_state(self, noted: NotedState) -> None:
        """Write the run state."""
        state = noted.run_state.encode("ascii")
        self.write(bytes([_RUN_STATE, len(state)]) + state + bytes([noted.was_suspended]))
        self._seal()

    def end(self) -> None:
        """End the stream."""
        self.write(_COUNT.pack(_END, self._sections))
        self._seal()

    def _seal(self) -> None:
        seal = _CHECKSUM.pack(self._checksum)
        self._seals.update(seal)
        self.write(seal)
        self._flush()

    def _flush(self) -> None:
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._send(data)

    def _send(self, data: bytes) -> None:
        self.bytes_sent += len(data)
        self._channel.send(data)


class StreamReader:
    """
    Reads the stream; what `vmstate.Migratable` calls a `LoadStream`.

    Raises:
        StreamError: (all methods) the stream is cut short, out of order or altered.

    """

    def __init__(
        self,
        channel: Channel,
        acknowledge: Callable[[str], object] | None = None,
        *,
        idle_timeout_s: float | None = None,
        beside: Callable[[], int] | None = None,
    ) -> None:
        self._channel = channel
        self._idle_timeout_s = idle_timeout_s
        self._beside = beside  # how much has come over other channels
        self._acknowledge = acknowledge
        self._ahead, self._at = b"", 0  # received last, and how much of it was read
        self._checksum = 0
        self._sections = 0
        self._where = "header"
        self._configured = False
        self._indices: dict[str, int] = {}
        self._offset = 0

    @property
    def offset(self) -> int:
        """How many bytes of the stream were read so far."""
        return self._offset

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        data = self._ahead[self._at : self._at + size]
        self._at += len(data)
        missing = size - len(data)
        if missing:  # joined once: a device's state comes in pieces of the connection's window
            parts = [data]
            while missing > 0:
                parts.append(self._receive(missing))
                missing -= len(parts[-1])
            if missing < 0:
                self._ahead, self._at = parts[-1], len(parts[-1]) + missing
                parts[-1] = parts[-1][:missing]
            data = b"".join(parts)
        self._checksum = zlib.crc32(data, self._checksum)
        self._offset += size
        return data

    def _receive(self, missing: int) -> bytes:
        while True:
            before = self._came_beside()
            try:
                data = self._channel.receive(max(_FLUSH_SIZE, missing), self._idle_timeout_s)
            except ChannelClosedError as error:
                raise self._error("the stream was cut off") from error
            except TimeoutError as error:
                if self._came_beside() == before:
                    raise self._error(f"nothing came for {self._idle_timeout_s:g} s") from error
                continue
            if not data:
                raise self._error(f"the stream ends here, {missing} more bytes were expected")
            return data

    def _came_beside(self) -> int:
        return 0 if self._beside is None else self._beside()

    @property
    def checksum(self) -> int:
        """The checksum over all bytes so far."""
        return self._checksum

    def acknowledge(self, name: str) -> None:
        """Tell the source that what it sent of this before its stop has arrived."""
        if self._acknowledge is None:
            raise self._error("an acknowledgement is asked for, and `switchover_ack` is off on this side")
        self._acknowledge(name)

    def header(self, parameters: MigrationParameters, *, confirmed: bool) -> bool:
        """
        Read the beginning of the stream, of a source that has to agree with this side.

        Says whether the source waits for an answer at the end: for that, its return path is enough. `configurations`
        has what comes next.
        """
        magic = self.read(len(_MAGIC))
        if magic != _MAGIC:
            raise self._error(f"expected a migration stream of version 3, which begins {_MAGIC!r}, got {magic!r}")
        flags, channels = _CAPABILITIES.unpack(self.read(_CAPABILITIES.size))
        self._check_seal()
        for name, theirs, ours in (
            ("takeover", _takeover(bool(flags & _CONFIRMED)), _takeover(confirmed)),
            ("switchover_ack", bool(flags & _ACK), parameters.switchover_ack),
            ("multifd_channels", channels, parameters.multifd_channels),
        ):
            if theirs != ours:
                raise self._error(f"{name} is {theirs!r} at the source and {ours!r} here: give both sides the same")
        self._configured = bool(flags & _CONFIGURED)
        return bool(flags & _RETURN_PATH)

    def configurations(self) -> dict[str, bytes]:
        """Read what the source has said of itself, by ids; nothing if it has said nothing."""
        if not self._configured:
            return {}
        self._where = "configurations"
        kind, count = self.read(2)
        if kind != _CONFIGURATIONS:
            raise self._error(f"expected configurations ({_CONFIGURATIONS}), got {kind}")
        said: dict[str, bytes] = {}
        for _ in range(count):
            (length,) = _LENGTH.unpack(self.read(_LENGTH.size))
            if length > _MAX_ID:
                raise self._error(f"an id of {length} bytes; at most {_MAX_ID} are allowed")
            name = self.read(length).decode(errors="replace")
            if name in said:
                raise self._error(f"a second configuration of {name!r}")
            said[name] = self.read(*_LENGTH.unpack(self.read(_LENGTH.size)))
        self._check_seal()
        return said

    def load_sections(
        self,
        migratables: tuple[Migratable, ...],
        begin_threads: Callable[[Mapping[int, Migratable]], object] | None = None,
    ) -> NotedState:
        """
        Read all sections up to the end of the stream, each loaded by what it names; gives the run state.

        `begin_threads` is told which devices' states come over channels, None if there are none.
        """
        noted: NotedState | None = None
        by_id = {migratable.id: migratable for migratable in migratables}
        while True:
            self._where = "between devices"
            kind = self.read(1)[0]
            if kind == _END and noted is not None:
                self._end()
                return noted
            if kind == _RUN_STATE and noted is None:
                noted = self._run_state()
                continue
            if kind == _THREADS and noted is None and begin_threads is not None:
                begin_threads(self._threads(by_id))
                begin_threads = None
                continue
            if kind != _SECTION or noted is not None:
                raise self._error(f"expected sections (1), then the run state (2) and the end (0), got {kind}")
            _, index, length = _INDEX.unpack(bytes([kind]) + self.read(_INDEX.size - 1))
            migratable = self._named(length, by_id)
            self._where = f"device {migratable.id!r} (index {index})"
            if self._indices.setdefault(migratable.id, index) != index:
                raise self._error(f"had the index {self._indices[migratable.id]} before")
            migratable.load(self)
            self._sections += 1
            self._check_seal()

    def _named(self, length: int, by_id: Mapping[str, Migratable]) -> Migratable:
        if length > _MAX_ID:
            raise self._error(f"an id of {length} bytes; at most {_MAX_ID} are allowed")
        name = self.read(length)
        try:
            return by_id[name.decode()]
        except (KeyError, UnicodeDecodeError):
            raise self._error(f"a section for {name!r}, which this machine does not have") from None

    def _threads(self, by_id: Mapping[str, Migratable]) -> dict[int, Migratable]:
        self._where = "devices in threads"
        _, count = _DEVICES.unpack(bytes([_THREADS]) + self.read(_DEVICES.size - 1))
        if count > len(by_id):
            raise self._error(f"{count} devices, and this machine has {len(by_id)}")
        devices: dict[int, Migratable] = {}
        for _ in range(count):
            index, length = _DEVICE.unpack(self.read(_DEVICE.size))
            devices[index] = self._named(length, by_id)
        if len({each.id for each in devices.values()}) != count:
            raise self._error("a device is named twice")
        self._check_seal()
        return devices

    def _run_state(self) -> NotedState:
        self._where = "run state"
        state = self.read(self.read(1)[0])
        was_suspended = self.read(1)[0]
        self._check_seal()
        try:
            return NotedState(RunState(state.decode("ascii")), was_suspended == 1)
        except ValueError:
            raise self._error(f"{state!r} is no run state") from None

    def _end(self) -> None:
        (count,) = struct.unpack(">Q", self.read(8))
        if count != self._sections:
            raise self._error(f"{self._sections} sections arrived, {count} were sent")
        self._check_seal()

    def _check_seal(self) -> None:
        expected = self._checksum
        (found,) = _CHECKSUM.unpack(self.read(_CHECKSUM.size))
        if found != expected:
            raise self._error(f"checksum 0x{found:08x} does not fit what arrived (0x{expected:08x}): altered")

    def _error(self, what: str) -> StreamError:
        return StreamError(f"{self._where}, offset {self._offset}: {what}")


def _takeover(confirmed: bool) -> str:
    return "confirmed" if confirmed else "qemu"
