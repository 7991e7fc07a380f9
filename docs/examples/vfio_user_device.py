"""
A device in another process, driven over the vfio-user protocol: a `DeviceBackend` for what libvfio-user serves.

The protocol is that of QEMU's docs/interop/vfio-user.rst: messages over a Unix socket, in the byte order of the host.
Of its commands this speaks VERSION, DEVICE_FEATURE (MIGRATION, MIG_DEVICE_STATE), MIG_DATA_READ, MIG_DATA_WRITE and
DEVICE_RESET: what a migration needs, and nothing of regions, interrupts or DMA. What the server asks is refused.

Limits:
- P2P states are not used in the protocol, so a machine migrates with one such device, as with any without P2P.
- The server takes real time, so the machine needs a RealClock.
- The protocol does not say how much pre-copy still has: `pending` reads one piece ahead, and says how long that is.
- A server that stalls is waited for; `close` ends the wait.
"""

import errno
import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import TypeVar

from vfio_migration import DeviceState, MigrationFlags
from vmstate import Clock, RealClock, RegistrationError

VERSION = (0, 1)  # of the protocol; libvfio-user's LIB_VFIO_USER_MAJOR and _MINOR
LARGEST_PIECE = 1024 * 1024  # bytes of state in a message, unless the server takes less (max_data_xfer_size)

_HEADER = struct.Struct("=HHIII")  # message id, command, size with this header, flags, errno
_VERSION = struct.Struct("=HH")  # major, minor; then JSON that ends in NUL
_FEATURE = struct.Struct("=II")  # argsz, flags; then what belongs to the feature
_FLAGS = struct.Struct("=Q")  # of MIGRATION
_STATE = struct.Struct("=Ii")  # of MIG_DEVICE_STATE: state, data_fd
_DATA = struct.Struct("=II")  # argsz, size; then the data
_NO_DESCRIPTOR = -1  # data_fd is not used
_LONGEST = _HEADER.size + 16 + LARGEST_PIECE  # the longest message: a DMA_WRITE of the server, with its own 16 bytes

_TYPE, _REPLY, _NO_REPLY, _ERROR = 0xF, 0x1, 0x10, 0x20  # the header's flags
_GET, _SET = 1 << 16, 1 << 17  # a feature's flags
_SAVING = (DeviceState.PRE_COPY, DeviceState.STOP_COPY)
_USABLE = MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY
_T = TypeVar("_T")


class Command(IntEnum):
    """The commands that are spoken."""

    VERSION = 1
    DEVICE_RESET = 13
    DEVICE_FEATURE = 16
    MIG_DATA_READ = 17
    MIG_DATA_WRITE = 18


class Feature(IntEnum):
    """The features that are asked for; the numbers are those of the kernel's uAPI."""

    MIGRATION = 1
    MIG_DEVICE_STATE = 2


class VfioUserDevice:
    """
    Drives the device behind a server's socket. `name` is what errors call it: the path unless given.

    It is reset if it is not RUNNING when it is opened: a server keeps what it was when its client goes. A reset also
    connects anew if the server has gone and come back.

    All errors are OSErrors that name the device and the request. A refusal has the errno of the reply (EIO where that
    has none); ENODEV: the server is gone, or nobody listens; EPROTO: its reply is none, after which the connection is
    given up; EPROTONOSUPPORT: it speaks another version; ENOTSUP: it cannot migrate the device.
    """

    def __init__(self, path: str, *, name: str = "") -> None:
        self._path = path
        self.name = name or path
        self._bound = self._closed = False
        self._known_flags: MigrationFlags | None = None
        self._ahead = b""  # read by `pending`, and by nobody else yet
        self._at = DeviceState.RUNNING
        self._connection = self._connected()
        try:
            if self.state is not DeviceState.RUNNING:
                self.reset()
        except OSError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Leave the server; what is asked of the device from then on, or is under way, fails with ENODEV."""
        self._closed = True
        self._connection.close()

    @property
    def flags(self) -> MigrationFlags:
        """What the device can do, without P2P."""
        return self._known_flags or MigrationFlags.STOP_COPY

    @property
    def state(self) -> DeviceState:
        """The state that the server says; ERROR if there is no server."""
        try:
            return _ask_feature(self._connection, Feature.MIG_DEVICE_STATE, _GET, b"", _state_in)
        except OSError:
            if self._connection.gone:
                return DeviceState.ERROR
            raise

    def bind(self, clock: Clock) -> None:
        """Become part of a machine, in real time."""
        if self._bound:
            raise RegistrationError(f"{self.name} is part of a machine already")
        if not isinstance(clock, RealClock):
            raise RegistrationError(f"{self.name} is in another process and takes real time: give its machine that")
        self._bound = True

    def unbind(self) -> None:
        """Be taken away."""
        self._bound = False

    def set_arc(self, target: DeviceState) -> None:
        """Go one arc; the server replies when the device is there."""

        def arrived(data: bytes) -> None:
            if (state := _state_in(data)) is not target:
                raise _wrong(f"the reply says {state.name}")

        argument = _STATE.pack(target, _NO_DESCRIPTOR)
        _ask_feature(self._connection, Feature.MIG_DEVICE_STATE, _SET, argument, arrived, f" to {target.name}")
        self._at = target
        if target not in _SAVING:
            self._ahead = b""

    def pending(self) -> int:
        """Say what pre-copy could read, as far as it is read ahead: a piece at most, 0 at the end for now."""
        if self._at is DeviceState.PRE_COPY and not self._ahead:
            self._ahead = self._read(LARGEST_PIECE)
        return len(self._ahead)

    def read(self, size: int) -> bytes:
        """Read state, in PRE_COPY or STOP_COPY, as much as a message may hold; what was read ahead comes first."""
        if not self._ahead:
            return self._read(size)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def write(self, data: bytes) -> None:
        """Write state, in RESUMING, in as many messages as it takes."""
        most = self._connection.largest_piece
        for start in range(0, len(data), most):
            piece = data[start : start + most]
            request = _DATA.pack(_DATA.size + len(piece), len(piece)) + piece
            self._connection.ask(Command.MIG_DATA_WRITE, request, _ignored)

    def reset(self) -> None:
        """Bring the device to RUNNING, with its state lost; if the server has gone, by a new connection."""
        self._ahead = b""
        try:
            self._reset()
        except OSError:
            if self._closed or not self._connection.gone:
                raise
            self._connection = self._connected()
            self._reset()
        self._at = DeviceState.RUNNING

    def _reset(self) -> None:
        """Reset; where the server refuses that of a stopped device, as libvfio-user does, have it run first."""
        try:
            self._connection.ask(Command.DEVICE_RESET, b"", _ignored)
        except OSError as error:
            stopped = (DeviceState.STOP, DeviceState.STOP_COPY)
            if error.errno != errno.EINVAL or self.state not in stopped:
                raise
            self.set_arc(DeviceState.RUNNING)
            self._connection.ask(Command.DEVICE_RESET, b"", _ignored)

    def _connected(self) -> "_Connection":
        connection = _Connection(self._path, self.name)
        try:
            self._known_flags = self._unchanged(_migration_flags(connection, self.name))
        except OSError:
            connection.close()
            raise
        return connection

    def _unchanged(self, flags: MigrationFlags) -> MigrationFlags:
        if self._known_flags not in (None, flags):
            raise OSError(errno.ENODEV, f"{self.name}: its server has come back with {flags!r}")
        return flags

    def _read(self, size: int) -> bytes:
        size = min(size, self._connection.largest_piece)
        request = _DATA.pack(_DATA.size + size, size)
        return self._connection.ask(Command.MIG_DATA_READ, request, lambda reply: _data_in(reply, size))


class _Connection:
    """A connection on which a version has been agreed upon. One request at a time, whoever asks; each has a reply."""

    def __init__(self, path: str, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._number = 0
        self.gone = False
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._drop()
            raise OSError(errno.ENODEV, f"{name}: connecting: nobody listens at {path} ({error.strerror})") from error
        try:
            self.largest_piece = self.ask(Command.VERSION, _proposal(), _agreed_piece)
        except OSError:
            self._drop()
            raise

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for a reply
        with self._lock:
            self._drop()

    def ask(self, command: Command, payload: bytes, take: Callable[[bytes], _T], about: str = "") -> _T:
        """Ask, wait for the reply, and give what `take` makes of its payload."""
        with self._lock:
            try:
                self._number = (self._number + 1) & 0xFFFF
                self._send(self._number, command, payload)
                return take(self._reply(self._number, command))
            except _RefusedError as error:
                code, why = error.args
            except OSError as error:
                self._drop()  # nobody knows what comes next on it
                code, why = errno.ENODEV, "the server is gone"
                if isinstance(error, _BrokenError):
                    code, why = error.args
        raise OSError(code, f"{self._name}: {command.name}{about}: {why}")

    def _drop(self) -> None:
        self.gone = True
        self._socket.close()

    def _send(self, number: int, command: int, payload: bytes, flags: int = 0, code: int = 0) -> None:
        self._socket.sendall(_HEADER.pack(number, command, _HEADER.size + len(payload), flags, code) + payload)

    def _reply(self, number: int, command: Command) -> bytes:
        while True:
            its_number, its_command, size, flags, code = _HEADER.unpack(self._receive(_HEADER.size))
            if not _HEADER.size <= size <= _LONGEST:
                raise _wrong(f"a message of {size} bytes, expected {_HEADER.size} to {_LONGEST}")
            payload = self._receive(size - _HEADER.size)
            if not flags & _TYPE:  # a command: there is no memory here that it could reach
                if not flags & _NO_REPLY:
                    self._send(its_number, its_command, b"", _REPLY | _ERROR, errno.EOPNOTSUPP)
                continue
            if (flags & _TYPE, its_number, its_command) != (_REPLY, number, command):
                raise _wrong(
                    f"message {its_number} of type {flags & _TYPE} to command {its_command}, expected {number}"
                )
            if flags & _ERROR:
                raise _RefusedError(code or errno.EIO, os.strerror(code) if code else "it failed, without an errno")
            return payload

    def _receive(self, size: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < size:
            if not (some := self._socket.recv(size - len(pieces))):
                where = f", {len(pieces)} bytes into {size}" if pieces else ""
                raise _BrokenError(errno.ENODEV, f"the server is gone{where}")
            pieces += some
        return bytes(pieces)


class _RefusedError(OSError):
    """The server has replied with an error."""


class _BrokenError(OSError):
    """There is no reply, or one that is none."""


def _wrong(why: str) -> _BrokenError:
    return _BrokenError(errno.EPROTO, f"a wrong reply: {why}")


def _ignored(_: bytes) -> None:
    """Take a reply that says all by being there."""


def _proposal() -> bytes:
    capabilities = {"capabilities": {"max_data_xfer_size": LARGEST_PIECE}}
    return _VERSION.pack(*VERSION) + json.dumps(capabilities).encode() + b"\0"


def _agreed_piece(reply: bytes) -> int:
    """Give the largest piece that both sides take; raises if they have no version in common."""
    if len(reply) < _VERSION.size:
        raise _wrong(f"{len(reply)} bytes, expected a version")
    major, minor = _VERSION.unpack_from(reply)
    if major != VERSION[0] or minor > VERSION[1]:
        why = f"the server speaks {major}.{minor}, this {VERSION[0]}.{VERSION[1]} and lower"
        raise _BrokenError(errno.EPROTONOSUPPORT, why)
    try:
        said = json.loads(reply[_VERSION.size :].rstrip(b"\0") or b"{}")
        size = said.get("capabilities", {}).get("max_data_xfer_size", LARGEST_PIECE)
    except (ValueError, AttributeError) as error:
        raise _wrong("its capabilities are no JSON object") from error
    if type(size) is not int or size < 1:
        raise _wrong(f"max_data_xfer_size is {size!r}")
    return min(size, LARGEST_PIECE)


def _ask_feature(
    connection: _Connection, feature: Feature, how: int, argument: bytes, take: Callable[[bytes], _T], about: str = ""
) -> _T:
    """Get or set a feature; `take` has the data of the reply."""

    def checked(reply: bytes) -> _T:
        if len(reply) < _FEATURE.size + length:
            raise _wrong(f"{len(reply)} bytes, expected {_FEATURE.size + length}")
        _, flags = _FEATURE.unpack_from(reply)
        if flags != feature | how:
            raise _wrong(f"feature 0x{flags:x}, expected 0x{feature | how:x}")
        return take(reply[_FEATURE.size : _FEATURE.size + length])

    length = _STATE.size if feature is Feature.MIG_DEVICE_STATE else _FLAGS.size
    request = _FEATURE.pack(_FEATURE.size + length, feature | how) + argument
    what = f", {'set' if how == _SET else 'get'} {feature.name}{about}"
    return connection.ask(Command.DEVICE_FEATURE, request, checked, what)


def _migration_flags(connection: _Connection, name: str) -> MigrationFlags:
    """Ask what the device can do; a server that migrates by a region of the device, as older ones do, refuses."""
    try:
        (number,) = _ask_feature(connection, Feature.MIGRATION, _GET, b"", _FLAGS.unpack)
    except OSError as error:
        if connection.gone:
            raise
        raise OSError(errno.ENOTSUP, f"{name}: it cannot be migrated: {error.strerror}") from error
    flags = MigrationFlags(number & int(_USABLE))
    if MigrationFlags.STOP_COPY not in flags:
        raise OSError(errno.ENOTSUP, f"{name}: it cannot be migrated: its flags are 0x{number:x}, without STOP_COPY")
    return flags


def _state_in(data: bytes) -> DeviceState:
    number, _ = _STATE.unpack(data)
    try:
        return DeviceState(number)
    except ValueError:
        raise _wrong(f"there is no state {number}") from None


def _data_in(reply: bytes, most: int) -> bytes:
    """Give the data of a reply, which may be padded, as libvfio-user does to the size that was asked for."""
    if len(reply) < _DATA.size:
        raise _wrong(f"{len(reply)} bytes, expected {_DATA.size} and data")
    _, size = _DATA.unpack_from(reply)
    if size > most or len(reply) < _DATA.size + size:
        raise _wrong(f"{size} bytes of data in {len(reply) - _DATA.size}, {most} were asked for")
    return reply[_DATA.size : _DATA.size + size]
