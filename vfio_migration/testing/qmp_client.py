"""A client of a monitor for tests: one that blocks, over a plain socket."""

import json
import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

_TIMEOUT_S = 30.0
_LOOK_AGAIN_S = 0.01


class QmpClientError(AssertionError):
    """A command was answered with an error; `kind` is its class, the text what QEMU says."""

    def __init__(self, command: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{command}: {error['desc']}")
        self.kind = str(error["class"])
        self.desc = str(error["desc"])


class QmpClient:
    """
    Talks to a QMP monitor at a Unix socket, with out-of-band commands where the monitor has them.

    `events` are those that have come so far, in their order. An answer or an event that does not come within
    `timeout_s` is a `TimeoutError`.
    """

    def __init__(self, path: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self.greeting = self._next()
        self.execute("qmp_capabilities", enable=self.greeting["QMP"]["capabilities"])

    @classmethod
    def when_there(cls, path: str, *, timeout_s: float = _TIMEOUT_S) -> Self:
        """Connect once somebody listens there, as when a process is about to; raises as connecting does otherwise."""
        until = time.monotonic() + timeout_s
        while True:
            try:
                return cls(path, timeout_s=timeout_s)
            except (FileNotFoundError, ConnectionError):
                if time.monotonic() > until:
                    raise
                time.sleep(_LOOK_AGAIN_S)

    def execute(self, command: str, *, oob: bool = False, **arguments: Any) -> Any:
        """
        Have a command carried out, and give what it returns; underscores in names of arguments stand for dashes.

        Raises:
            QmpClientError: it is answered with an error.

        """
        number = self.send(command, oob=oob, **arguments)
        answer = self.answer(number)
        if "error" in answer:
            raise QmpClientError(command, answer["error"])
        return answer["return"]

    def send(self, command: str, *, oob: bool = False, **arguments: Any) -> int:
        """Send a command, and give the number under which `answer` has what comes of it."""
        self._number += 1
        message = {
            "exec-oob" if oob else "execute": command,
            "arguments": {name.replace("_", "-"): value for name, value in arguments.items()},
            "id": self._number,
        }
        self._socket.sendall(json.dumps(message).encode())
        return self._number

    def answer(self, number: int) -> dict[str, Any]:
        """Wait for the answer to the command of this number."""
        while number not in self._answers:
            self._take(self._next())
        return self._answers.pop(number)

    def wait_for(self, event: str, **data: Any) -> dict[str, Any]:
        """Wait until an event has come with these among its data, and give it; one that has come before counts."""
        seen = 0
        while True:
            for each in self.events[seen:]:
                seen += 1
                if each["event"] == event and data.items() <= each.get("data", {}).items():
                    return each
            self._take(self._next())

    def next_event(self) -> dict[str, Any]:
        """Wait for another event, and give it."""
        seen = len(self.events)
        while len(self.events) == seen:
            self._take(self._next())
        return self.events[-1]

    def statuses(self) -> list[str]:
        """Give the statuses of migrations that events have told of so far."""
        return [each["data"]["status"] for each in self.events if each["event"] == "MIGRATION"]

    def close(self) -> None:
        """Leave."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self.events.append(message)
        else:
            self._answers[message["id"]] = message

    def _next(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError("the monitor has closed the connection")
        message: dict[str, Any] = json.loads(line)
        return message
