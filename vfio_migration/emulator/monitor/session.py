"""One client of a monitor: negotiation, its commands in their order, and those that are not to wait."""

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.monitor.outbox import Outbox
from vfio_migration.emulator.monitor.request import Request, id_of, read_request
from vfio_migration.emulator.monitor.wording import answer, error_answer, event_message, message
from vfio_migration.emulator.wire import JsonError, JsonReader
from vmstate import MonitorEvent, get_logger

_RECEIVE = 64 * 1024
_MOST_WAITING = 8  # commands that wait for their turn; then nothing more is read (QEMU's `QMP_REQ_QUEUE_LEN_MAX`)
_LAST_WORDS_S = 1.0  # how long a command that is being carried out may take when the end has come
_MOST_DESCRIPTORS = 16  # that come with one piece of input
_NEGOTIATION = "qmp_capabilities"


class Commands(Protocol):
    """What carries commands out: one for all sessions."""

    def greeting(self) -> Mapping[str, Any]:
        """Give what is said to whoever connects."""
        ...

    def check(self, request: Request) -> Mapping[str, Any]:
        """Give the arguments, checked; raises QmpError if there is no such command, or not now, or not like this."""
        ...

    def run(self, session: "Session", request: Request, arguments: Mapping[str, Any]) -> Any:
        """Carry a command out, and give what it returns; raises QmpError."""
        ...

    def epoch_ns(self) -> int:
        """Give what the clock's zero is, in nanoseconds of the epoch."""
        ...


class Session:
    """
    Serves one client, until that leaves or `close`.

    Guarantees:
    - Commands are carried out one after another, in their order, and answered in that order.
    - Those out of band are carried out as soon as they are read, whatever the others wait for.
    - Every message is answered, whatever is in it; whatever a command raises is an answer, and the session goes on.
    - Not more than `_MOST_WAITING` commands are kept; who sends more is not read from meanwhile.

    `_changed` guards what is waiting and whether it is over; descriptors belong to whoever carries a command out.
    """

    def __init__(self, sock: socket.socket, commands: Commands, name: str, *, pretty: bool = False) -> None:
        self._socket = sock
        self._commands = commands
        self._name = name
        self._pretty = pretty
        self._outbox = Outbox(sock, name)
        self._reader = JsonReader()
        self._changed = threading.Condition()
        self._waiting: deque[Request | QmpError] = deque()
        self._ids: deque[Any] = deque()
        self._busy = False
        self._over = False
        self._ready = threading.Event()  # negotiated: events are for this client from now on
        self._oob = False  # written by the thread that carries commands out, before `_ready`
        self._descriptors: deque[int] = deque()
        self._runner = threading.Thread(target=self._run_all, name=f"{name}, commands", daemon=True)

    @property
    def negotiated(self) -> bool:
        """Whether the client is in command mode, and so hears of events."""
        return self._ready.is_set()

    def serve(self) -> None:
        """Greet, and serve until the client is gone; in the calling thread, with one more for the commands."""
        self._outbox.say(self._text(self._commands.greeting()))
        self._runner.start()
        try:
            self._read_all()
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            self._outbox.close()
            self._socket.close()
            for descriptor in self._take_descriptors():
                os.close(descriptor)

    def announce(self, event: MonitorEvent) -> None:
        """Tell the client of an event, if it has got as far as that."""
        if self.negotiated:
            self._outbox.announce(self._text(event_message(event, self._commands.epoch_ns())))

    def close(self, *, flush: bool = True) -> None:
        """Say what is to be said still, and leave the client; the thread in `serve` ends by that."""
        if flush:
            with self._changed:  # whoever has asked for the end is to hear the answer
                self._changed.wait_for(lambda: self._over or not self._busy, _LAST_WORDS_S)
            self._outbox.flush()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._changed:  # the reader may wait for a command that never ends: a device stalls, or no machine came
            self._over = True
            self._changed.notify_all()

    def take_descriptor(self) -> int | None:
        """Give the descriptor that came with the command, to whom it belongs from now on."""
        with self._changed:
            return self._descriptors.popleft() if self._descriptors else None

    def _read_all(self) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, _RECEIVE, _MOST_DESCRIPTORS)
            except OSError:
                return
            if descriptors:
                self._keep(descriptors)
            if not data:
                self._finish_reading()
                return
            for value in self._reader.feed(data):
                if not self._take(value):
                    return

    def _finish_reading(self) -> None:
        """Carry out what has come before the client ended its half: it may listen still."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or not (self._waiting or self._busy))
        self._outbox.flush()

    def _take(self, value: object) -> bool:
        """Take one message, once there is room for it; says whether to go on."""
        request_id = id_of(value)
        what: Request | QmpError
        if isinstance(value, JsonError):
            what = QmpError(value.text)
        else:
            try:
                what = read_request(value, oob_allowed=self._oob)
            except QmpError as error:
                what = error
        if isinstance(what, Request) and what.oob:
            self._reply(request_id, lambda: self._carry_out(what))
            return True
        with self._changed:
            # Without out-of-band commands there is nothing to be read before this one is answered.
            limit = _MOST_WAITING if self._oob else 1
            self._changed.wait_for(lambda: self._over or len(self._waiting) + self._busy < limit)
            if self._over:
                return False
            self._waiting.append(what)
            self._ids.append(request_id)
            self._changed.notify_all()
            if not self._oob:
                self._changed.wait_for(lambda: self._over or not (self._waiting or self._busy))
        return not self._over

    def _run_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._over or self._waiting)
                if self._over:
                    return
                what, request_id = self._waiting.popleft(), self._ids.popleft()
                self._busy = True
            self._reply(request_id, lambda what=what: self._carry_out(what))  # type: ignore[misc]
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _reply(self, request_id: Any, work: Callable[[], Any]) -> None:
        try:
            said = answer(request_id, work(), pretty=self._pretty)
        except QmpError as error:
            said = error_answer(request_id, error, pretty=self._pretty)
        except Exception as error:  # noqa: BLE001 - a defect of ours; the client has to hear of it, and go on
            _log.exception("a command failed", monitor=self._name)
            said = error_answer(request_id, QmpError(f"internal error: {error!r}"), pretty=self._pretty)
        self._outbox.say(said)

    def _carry_out(self, what: Request | QmpError) -> Any:
        if isinstance(what, QmpError):
            raise what
        if not self.negotiated:
            return self._negotiate(what)
        if what.command == _NEGOTIATION:
            raise QmpError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
        return self._commands.run(self, what, self._commands.check(what))

    def _negotiate(self, request: Request) -> Any:
        if request.command != _NEGOTIATION:
            raise QmpError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound")
        enabled = self._commands.check(request).get("enable", [])
        self._oob = "oob" in enabled
        self._ready.set()
        return {}

    def _keep(self, descriptors: list[int]) -> None:
        """Keep what came last: nobody asked for what came before."""
        with self._changed:
            old, self._descriptors = list(self._descriptors), deque(descriptors)
        for descriptor in old:
            os.close(descriptor)

    def _take_descriptors(self) -> list[int]:
        with self._changed:
            taken, self._descriptors = list(self._descriptors), deque()
        return taken

    def _text(self, value: Mapping[str, Any]) -> bytes:
        return message(value, pretty=self._pretty)


_log = get_logger("vfio_migration.emulator.monitor")
