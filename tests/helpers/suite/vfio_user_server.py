"""A vfio-user server of our own, in a thread: one device that can be migrated, and what a test breaks of it."""

import errno
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from vfio_migration import DeviceState, MigrationFlags, transition_path

S = DeviceState
VERSION, DMA_READ, DEVICE_RESET, DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE = 1, 11, 13, 16, 17, 18
GET, SET = 1 << 16, 1 << 17
HEADER = struct.Struct("=HHIII")
_LENGTH = struct.Struct("=I")  # what the device's state begins with: how long the rest is


class GoneError(Exception):
    """Raised by a hook: the server goes away, as if its process had died."""


@dataclass(frozen=True)
class Request:
    """A command that has arrived, and where the device was."""

    raw: bytes
    state: DeviceState

    @property
    def command(self) -> int:
        return HEADER.unpack_from(self.raw)[1]  # type: ignore[no-any-return]

    @property
    def payload(self) -> bytes:
        return self.raw[HEADER.size :]

    @property
    def sets(self) -> DeviceState | None:
        """The state that it asks for, if that is what it is."""
        if self.command != DEVICE_FEATURE or struct.unpack_from("=I", self.payload, 4) != (SET | 2,):
            return None
        return DeviceState(*struct.unpack_from("=I", self.payload, 8))


def nothing(_: Request) -> None:
    """Let it be."""


def whole(_: Request, reply: bytes) -> bytes:
    """Let the reply be."""
    return reply


@dataclass
class VfioUserServer:
    """
    Serves one client after another at `path`, until it is closed.

    `before` sees each request first: an OSError that it raises is the reply, `GoneError` ends the server. `altered`
    gives the bytes that are sent in place of a reply. Pre-copy gives half of the device's state, STOP_COPY the rest.
    """

    path: Path
    memory: bytes = b""
    flags: MigrationFlags = MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY
    version: tuple[int, int] = (0, 1)
    capabilities: bytes = json.dumps({"capabilities": {"max_msg_fds": 8}}).encode() + b"\0"
    pads: bool = False  # replies with data are as long as was asked, as libvfio-user's are
    resets_stopped: bool = True  # False: it refuses that in STOP and STOP_COPY, as libvfio-user does
    before: Callable[[Request], None] = nothing
    altered: Callable[[Request, bytes], bytes] = whole
    requests: list[Request] = field(default_factory=list)
    foreign: list[bytes] = field(default_factory=list)  # replies that clients have sent, to commands of ours
    state: DeviceState = S.RUNNING

    def __post_init__(self) -> None:
        self._place = 0
        self._loaded = b""
        self._client: socket.socket | None = None
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve, name=f"vfio-user server {self.path.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Go away, whatever is under way."""
        for each in (self._listener, self._client):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def commands(self) -> list[int]:
        """The commands that have arrived, one after another."""
        return [each.command for each in self.requests]

    def _serve(self) -> None:
        with self._listener, suppress(GoneError, OSError):
            while True:
                self._client, _ = self._listener.accept()
                with self._client, suppress(EOFError, ConnectionError):
                    while True:
                        self._handle(self._client)

    def _handle(self, client: socket.socket) -> None:
        head = _received(client, HEADER.size)
        number, command, size, flags, _ = HEADER.unpack(head)
        request = Request(head + _received(client, size - HEADER.size), self.state)
        if flags & 0xF:
            self.foreign.append(request.raw)
            return
        self.requests.append(request)
        try:
            self.before(request)
            payload, flags, code = self._answer(request), 1, 0
        except OSError as error:
            payload, flags, code = b"", 0x21, error.errno or 0
        client.sendall(
            self.altered(request, HEADER.pack(number, command, HEADER.size + len(payload), flags, code) + payload)
        )

    def _answer(self, request: Request) -> bytes:
        payload = request.payload
        if request.command == VERSION:
            return struct.pack("=HH", *self.version) + self.capabilities
        if request.command == DEVICE_RESET:
            _insist(self.resets_stopped or self.state not in (S.STOP, S.STOP_COPY))
            self.state, self.memory = S.RUNNING, b""
            return b""
        if request.command == DEVICE_FEATURE:
            return self._feature(payload, *struct.unpack_from("=II", payload))
        if request.command == MIG_DATA_READ:
            return self._read(*struct.unpack("=II", payload))
        if request.command == MIG_DATA_WRITE:
            return self._write(payload[8:], *struct.unpack_from("=II", payload))
        raise OSError(errno.ENOTSUP, "")

    def _feature(self, payload: bytes, argsz: int, flags: int) -> bytes:
        if flags == GET | 1:
            _insist(argsz == 16 and len(payload) == 8)
            return struct.pack("=IIQ", 16, flags, self.flags)
        if flags == GET | 2:
            _insist(argsz == 16 and len(payload) == 8)
            return struct.pack("=IIIi", 16, flags, self.state, -1)
        _insist(flags == SET | 2 and argsz == len(payload) == 16)
        for step in transition_path(self.state, DeviceState(*struct.unpack_from("=I", payload, 8)), self.flags):
            self._go(step)
        return payload

    def _go(self, target: DeviceState) -> None:
        if self.state is S.RESUMING:
            _insist(self._loaded[:4] == _LENGTH.pack(len(self._loaded) - 4))
            self.memory = self._loaded[4:]
        if self.state is not S.PRE_COPY:
            self._place, self._loaded = 0, b""
        self.state = target

    def _read(self, argsz: int, size: int) -> bytes:
        _insist(self.state in (S.PRE_COPY, S.STOP_COPY) and argsz >= 8 + size)
        content = _LENGTH.pack(len(self.memory)) + self.memory
        end = len(content) if self.state is S.STOP_COPY else len(content) // 2
        data = content[self._place : min(end, self._place + size)]
        self._place += len(data)
        return struct.pack("=II", 8 + len(data), len(data)) + (data.ljust(size, b"\0") if self.pads else data)

    def _write(self, data: bytes, argsz: int, size: int) -> bytes:
        _insist(self.state is S.RESUMING and argsz >= 8 + size and len(data) == size)
        self._loaded += data
        return b""


def _insist(holds: bool) -> None:
    if not holds:
        raise OSError(errno.EINVAL, "")


def _received(client: socket.socket, size: int) -> bytes:
    data = client.recv(size, socket.MSG_WAITALL) if size else b""
    if len(data) < size:
        raise EOFError
    return data


@contextmanager
def served(path: Path, **settings: object) -> Iterator[VfioUserServer]:
    """Have a server for a while."""
    server = VfioUserServer(path, **settings)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.close()
