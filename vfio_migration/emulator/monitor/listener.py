"""A monitor's socket: one client at a time, others wait for their turn (QEMU's chardev with `server=on`)."""

import socket
import threading
from contextlib import suppress
from pathlib import Path

from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.monitor.session import Commands, Session
from vfio_migration.live import make_way
from vmstate import MonitorEvent, get_logger

_BACKLOG = 4  # clients that wait for their turn


class Listener:
    """
    Serves whoever connects to a listening socket, one after another; of a connected one, its one client.

    `filename` is what `query-chardev` calls it. `close` leaves the client, and takes the socket's file, `path`, away
    if the socket was made here. `_lock` guards the fields.
    """

    def __init__(
        self,
        sock: socket.socket,
        commands: Commands,
        label: str,
        *,
        filename: str = "",
        path: str = "",
        pretty: bool = False,
    ) -> None:
        self.label = label
        self._filename = filename
        self._path = path
        self._greeted = threading.Event()
        self._socket = sock
        self._commands = commands
        self._pretty = pretty
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._serve_all, name=f"monitor {label}", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    @property
    def filename(self) -> str:
        """What it is called; who is not there is disconnected."""
        return self._filename if self.connected else f"disconnected:{self._filename}"

    def wait_for_client(self) -> None:
        """Wait until somebody has connected."""
        self._greeted.wait()

    @property
    def connected(self) -> bool:
        """Whether there is a client."""
        with self._lock:
            return self._session is not None

    def announce(self, event: MonitorEvent) -> None:
        """Tell the client, if there is one, of an event."""
        with self._lock:
            session = self._session
        if session is not None:
            session.announce(event)

    def disconnect(self) -> None:
        """Leave the client; others may come (`yank` of a chardev)."""
        with self._lock:
            session = self._session
        if session is not None:
            session.close(flush=False)

    def close(self, *, flush: bool = True) -> None:
        """Listen no more, say what is to be said still (`flush`), and leave the client; waits for that."""
        with self._lock:
            already, self._closed = self._closed, True
            session = self._session
        if already:
            return
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        if session is not None:
            session.close(flush=flush)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        self._socket.close()
        if self._path:
            with suppress(OSError):
                Path(self._path).unlink()

    def _serve_all(self) -> None:
        if not self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._serve(self._socket)
            return
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                if self._is_closed():
                    return
                continue
            self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        session = Session(sock, self._commands, f"monitor {self.label}", pretty=self._pretty)
        with self._lock:
            self._session = session
            closed = self._closed
        self._greeted.set()
        if closed:
            session.close(flush=False)
        session.serve()
        with self._lock:
            self._session = None
        _log.debug("a client has left", monitor=self.label)

    def _is_closed(self) -> bool:
        with self._lock:
            return self._closed


def listen_at(path: str) -> socket.socket:
    """
    Listen at a Unix socket; a file that a process has left that is gone is taken away.

    Raises:
        QmpError: that cannot be listened at, as when somebody listens there; the text says so.

    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        make_way(path)
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise QmpError(f"Failed to bind socket to {path}: {error.strerror or error}") from error
    return sock


def listen_at_port(host: str, port: str) -> socket.socket:
    """Listen at a TCP port; raises as `listen_at`."""
    try:
        family, _, _, _, target = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(target[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise QmpError(f"Failed to bind socket to {host}:{port}: {error.strerror or error}") from error


def given_socket(descriptor: int) -> socket.socket:
    """
    Take over a socket that this process was given: one that listens, or one that is connected.

    Raises:
        QmpError: it is none.

    """
    try:
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(True)
        sock.set_inheritable(False)
    except OSError as error:
        raise QmpError(f"File descriptor {descriptor} is no socket: {error.strerror}") from error
    return sock


_log = get_logger("vfio_migration.emulator.monitor")
