"""What a monitor has to say to its client, in order, and as fast as that reads."""

import socket
import threading
from collections import deque
from contextlib import suppress

from vmstate import get_logger

_MOST = 16 * 1024 * 1024  # bytes that wait for a client
_FLUSH_S = 1.0  # how long a client may take to read the last words


class Outbox:
    """
    Sends texts to a client, in a thread of its own; `_changed` guards the fields.

    Guarantees:
    - Texts arrive in the order of `say` and `announce`, whole.
    - Neither the machine nor anybody who steers it waits for a client: an event is kept, or the client is given up.
      Answers wait for room, so a client that asks and never reads is asked nothing more of.
    - Not more than a few bytes beyond `_MOST` are kept.
    """

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._socket = sock
        self._name = name
        self._changed = threading.Condition()
        self._texts: deque[bytes] = deque()
        self._size = 0
        self._sending = False
        self._closed = False  # nothing more is taken
        self._thread = threading.Thread(target=self._send_all, name=f"{name}, sending", daemon=True)
        self._thread.start()

    def say(self, text: bytes) -> None:
        """Send an answer; waits for room. Nothing happens once the client is gone."""
        with self._changed:
            while self._size >= _MOST and not self._closed:
                self._changed.wait()
            self._put(text)

    def announce(self, text: bytes) -> None:
        """Send an event; a client for whom too much is waiting is given up."""
        with self._changed:
            if self._size >= _MOST and not self._closed:
                _log.warning("a client that does not read is given up", monitor=self._name, waiting=self._size)
                self._give_up()
            self._put(text)

    def flush(self) -> None:
        """Wait until everything is sent, for a moment at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not (self._texts or self._sending), _FLUSH_S)

    def close(self) -> None:
        """Send nothing more, and end the thread; the socket stays its owner's."""
        with self._changed:
            self._give_up()
        self._thread.join()

    def _put(self, text: bytes) -> None:
        if not self._closed:
            self._texts.append(text)
            self._size += len(text)
            self._changed.notify_all()

    def _give_up(self) -> None:
        self._closed = True
        self._texts.clear()
        self._size = 0
        self._changed.notify_all()
        with suppress(OSError):  # the client was first
            self._socket.shutdown(socket.SHUT_RDWR)

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._texts)
                if self._closed:
                    return
                text = self._texts.popleft()
                self._sending = True
            try:
                self._socket.sendall(text)
            except OSError:  # gone; whoever reads from it sees that too
                with self._changed:
                    self._give_up()
            with self._changed:
                self._sending = False
                self._size = max(0, self._size - len(text))
                self._changed.notify_all()


_log = get_logger("vfio_migration.emulator.monitor")
