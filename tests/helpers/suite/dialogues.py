"""
Plays a recorded dialogue of clients with real QEMUs against the emulator, and says what differs.

The form of a dialogue is said in tests/data/qmp/README.md. Each line of a client is sent once all that QEMU had said
before it has come, or has been waited for; what only measures is left out of the comparison.
"""

import itertools
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_S = 10.0  # a machine may be busy; who was waited for in vain once is not waited for as long again
_LATER_S = 1.0
_END_S = 45.0  # also where what is measured of a process is written to a slow disk at its end
EMULATOR = [sys.executable, "-m", "vfio_migration.emulator.process.main"]
_BASE = "-display none -nodefaults -accel tcg -msg timestamp=on"
_OF_HOST = "... the devices of host.cmdline.txt ..."
_MEASURED = re.compile(
    r"time|remaining|bytes|transferred|total|normal|duplicate|mbps|pages|rate|count|thread-id|port", re.IGNORECASE
)
# Of these only the kind of the answer is compared: a capture leaves out what is long.
_BULK = re.compile(r"schema|list|query-(commands|machines|pci|rx-filter|command-line-options|cpu-definitions)")
_OVER = ("completed", "failed", "cancelled", "pre-switchover")
_SIGNAL = re.compile(r"(\w+): the process gets (SIG\w+)")
_AWAY = re.compile(r"the client of (\w+) is away for (\d+) seconds")

Message = dict[str, Any]


@dataclass
class Connection:
    """A client's connection: what came over it, what QEMU said in its place, and what was asked."""

    path: Path
    library: bool
    messages: list[Message] = field(default_factory=list)
    wanted: list[Message] = field(default_factory=list)
    asked: dict[str, Message] = field(default_factory=dict)
    closed: bool = False

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._patience_s = PATIENCE_S
        self._socket = socket.socket(socket.AF_UNIX)
        until = time.monotonic() + 3 * PATIENCE_S
        while self._socket.connect_ex(str(self.path)):
            if time.monotonic() > until:
                raise ConnectionError(f"nobody listens at {self.path}")
            time.sleep(0.01)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, message: Message) -> None:
        self.asked[json.dumps(message.get("id"))] = message
        self._write(json.dumps(message) + ("" if self.library else "\n"))

    def wait_for_wanted(self) -> None:
        with self._changed:
            if not self._changed.wait_for(
                lambda: self.closed or len(self.counted) >= len(self.wanted), self._patience_s
            ):
                self._patience_s = _LATER_S

    def wait_until(self, come: Callable[[str | None], bool]) -> None:
        """Ask until the status is such a one: dialogues leave such waiting out."""
        for number in itertools.count():
            self._write(json.dumps({"execute": "query-migrate", "id": f"wait-{number}"}))
            with self._changed:
                self._changed.wait_for(lambda number=number: self.closed or self._heard(number), PATIENCE_S)  # type: ignore[misc]
                found = self._heard(number)
            if self.closed or found is None or come(found.get("return", {}).get("status")):
                return
            time.sleep(0.02)

    @property
    def counted(self) -> list[Message]:
        return [
            each
            for each in self.messages
            if each.get("event") != "MIGRATION_PASS" and not str(each.get("id", "")).startswith("wait-")
        ]

    def leave(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def _heard(self, number: int) -> Message | None:
        return next((each for each in self.messages if each.get("id") == f"wait-{number}"), None)

    def _write(self, text: str) -> None:
        try:
            self._socket.sendall(text.encode())
        except OSError:  # the process is gone, which the dialogue may well say
            self.closed = True

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    with self._changed:
                        self.messages.append(json.loads(line))
                        self._changed.notify_all()
        except OSError:
            pass
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Player:
    """Plays one dialogue in a folder of its own; `play` gives how much agrees, of how much, and what does not."""

    def __init__(self, dialogue: Path, folder: Path, host_devices: str) -> None:
        self._lines = [json.loads(line) for line in dialogue.read_text(encoding="utf-8").splitlines()][1:]
        self._library = any("__qmp#" in str(line.get("C", {}).get("id", "")) for line in self._lines)
        self._folder = folder
        self._host_devices = host_devices
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._connections: dict[str, Connection] = {}
        self._ended: list[Connection] = []
        self._port = ""
        self._at = 0
        self._agreed, self._all = 0, 0
        self._different: list[str] = []

    def play(self) -> tuple[int, int, list[str]]:
        try:
            before: float | None = None
            for at, line in enumerate(self._lines):
                self._at = at
                gap = 0.0 if before is None else line["t"] - before
                before = line["t"]
                self._take(line, gap)
            self._wait_for_all()
        finally:
            for process in self._processes.values():
                process.kill()
                process.wait()
            for connection in [*self._connections.values(), *self._ended]:
                connection.leave()
        for connection in [*self._connections.values(), *self._ended]:
            self._compare(connection)
        return self._agreed, self._all, self._different

    def _take(self, line: dict[str, Any], gap: float) -> None:
        on = line.get("on", "")
        if "start" in line:
            self._start(on, line)
        elif "S" in line:
            if line["S"].get("event") != "MIGRATION_PASS":
                self._connection(on).wanted.append(line["S"])
            self._note_port(on, line["S"])
        elif "C" in line:
            self._wait_for_all()
            if gap > 0.15:
                time.sleep(min(gap, 1.0))
            self._send(on, line["C"])
        elif "silence" in line:
            time.sleep(min(line["silence"], 0.5))
        elif "note" in line:
            self._wait_for_all()
            self._note(line["note"])
        elif "exit" in line:
            self._count([self._processes[on].wait(_END_S)], [line["exit"]["status"]], f"{on}: exit")

    def _start(self, name: str, line: dict[str, Any]) -> None:
        if name in self._processes:
            self._processes[name].kill()
            self._processes[name].wait()
        if name in self._connections:
            self._ended.append(self._connections.pop(name))
        (self._folder / f"{name}.qmp").unlink(missing_ok=True)
        options = line["start"].replace(_OF_HOST, self._host_devices)
        words = ["-machine", line.get("machine", "q35"), "-m", str(line.get("m", 64)), *_BASE.split()]
        words += ["-qmp", f"unix:{name}.qmp,server=on,wait=off", *shlex.split(options)]
        self._processes[name] = subprocess.Popen(
            [*EMULATOR, *words], cwd=self._folder, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _connection(self, name: str) -> Connection:
        if name not in self._connections:
            socket_name = name if name in self._processes else name.split("-", 1)[-1]
            self._connections[name] = Connection(self._folder / f"{socket_name}.qmp", self._library)
        return self._connections[name]

    def _send(self, name: str, message: Message) -> None:
        connection = self._connection(name)
        if message.get("execute") == "query-migrate":
            said = (each["S"] for each in self._lines[self._at :] if each.get("on") == name and "S" in each)
            none: Message = {}
            expected = next((each for each in said if each.get("id") == message.get("id") and "return" in each), none)
            status = expected.get("return", {}).get("status")
            if status in _OVER:
                connection.wait_until(lambda met: met == status)
            elif status == "active":  # of which QEMU's set-up is over sooner than ours
                connection.wait_until(lambda met: met != "setup")
        text = json.dumps(message)
        if self._port:
            text = re.sub(r'(tcp:127\.0\.0\.1:|"port": ")\d{4,5}', rf"\g<1>{self._port}", text)
        connection.send(json.loads(text))

    def _note_port(self, name: str, wanted: Message) -> None:
        """Take a port that was chosen by the system from the answer that tells of it."""
        if "socket-address" not in json.dumps(wanted):
            return
        connection = self._connection(name)
        connection.wait_for_wanted()
        for found in re.findall(r'"port": "(\d+)"', json.dumps(connection.messages)):
            self._port = found

    def _note(self, note: str) -> None:
        if match := _SIGNAL.match(note):
            self._processes[match[1]].send_signal(getattr(signal, match[2]))
        elif match := _AWAY.match(note):
            connection = self._connections.pop(match[1])
            connection.leave()
            self._ended.append(connection)
            time.sleep(float(match[2]))

    def _wait_for_all(self) -> None:
        for connection in self._connections.values():
            connection.wait_for_wanted()

    def _compare(self, connection: Connection) -> None:
        name = connection.path.stem
        ours, theirs = connection.counted, connection.wanted
        for what, pick in (("greeting", _greeting), ("events", _event)):
            mine, wanted = ([picked for each in side if (picked := pick(each)) is not None] for side in (ours, theirs))
            if "SHUTDOWN" in str(mine) and "SHUTDOWN" in str(wanted):
                # What a process that ends still gets out, after it has said so, is a race in QEMU itself.
                least = min(len(mine), len(wanted))
                mine, wanted = (side[: max(least, _names(side).index("SHUTDOWN") + 1)] for side in (mine, wanted))
            self._count(mine, wanted, f"{name}: {what}")
        answers = {json.dumps(each.get("id")): each for each in ours if "return" in each or "error" in each}
        for each in theirs:
            if "return" in each or "error" in each:
                asked = connection.asked.get(json.dumps(each.get("id")), {})
                answer = answers.get(json.dumps(each.get("id")), {})
                self._count([_answer(asked, answer)], [_answer(asked, each)], f"{name}: {json.dumps(asked)[:120]}")

    def _count(self, ours: list[Any], theirs: list[Any], what: str) -> None:
        agreed = sum(1 for a, b in zip(ours, theirs, strict=False) if a == b)
        self._agreed += agreed
        self._all += max(len(ours), len(theirs))
        if ours != theirs:
            self._different.append(f"{what}\n  ours   {str(ours)[:600]}\n  QEMU's {str(theirs)[:600]}")


def _greeting(message: Message) -> Any:
    return message["QMP"]["capabilities"] if "QMP" in message else None


def _event(message: Message) -> Any:
    return (message["event"], _plain(message.get("data"))) if "event" in message else None


def _names(events: list[Any]) -> list[str]:
    return [name for name, _ in events]


def _answer(asked: Message, answer: Message) -> Any:
    if "error" in answer:
        return _plain(answer["error"])
    name = asked.get("execute") or asked.get("exec-oob") or ""
    value = answer.get("return", "nothing")
    line = asked.get("arguments", {}).get("command-line", "")
    if (
        _BULK.search(name)
        or (line.startswith("info") and line not in ("info status", "info version"))
        or "help" in line
    ):
        return "return" in answer
    if name == "query-migrate" and isinstance(value, dict):
        return {
            "status": value.get("status"),
            "error-desc": value.get("error-desc"),
            "keys": sorted(set(value) - {"expected-downtime"}),
        }
    return _plain(value)


def _plain(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _plain(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, key) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and _MEASURED.search(key):
        return "a number"
    return value


def host_devices(command_line: Path) -> str:
    """Give the options of devices, and what they are connected to, of a command line that is kept in a file."""
    words = shlex.split(command_line.read_text(encoding="utf-8").replace("\\\n", " "))
    return shlex.join(itertools.chain.from_iterable(_pairs(words)))


def _pairs(words: list[str]) -> Iterator[list[str]]:
    for name, value in itertools.pairwise(words):
        if name in ("-device", "-netdev", "-blockdev", "-object"):
            yield [name, value]
