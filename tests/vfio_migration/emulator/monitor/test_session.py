"""P3: one client at a socket: order, out of band, floods, half messages, and a client that never reads."""

import json
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.monitor import outbox as outbox_module
from vfio_migration.emulator.monitor.outbox import Outbox
from vfio_migration.emulator.monitor.request import Request
from vfio_migration.emulator.monitor.session import Session
from vmstate import MonitorEvent

LIMIT_S = 20.0


class Recorded:
    """Commands that are told what to do by their names, and say in which order they were carried out."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.descriptors: list[int] = []

    def greeting(self) -> Mapping[str, Any]:
        return {"QMP": {"version": {}, "capabilities": ["oob"]}}

    def epoch_ns(self) -> int:
        return 0

    def check(self, request: Request) -> Mapping[str, Any]:
        if request.command == "unknown":
            raise QmpError("The command unknown has not been found", "CommandNotFound")
        return request.arguments

    def run(self, session: Session, request: Request, arguments: Mapping[str, Any]) -> Any:
        if request.command == "wait":
            self.begun.set()
            assert self.gate.wait(LIMIT_S)
        if request.command == "raise":
            raise RuntimeError("a defect")
        if request.command == "big":
            return "x" * int(arguments["size"])
        if request.command == "descriptor":
            descriptor = session.take_descriptor()
            if descriptor is not None:
                self.descriptors.append(descriptor)
            return descriptor is not None
        self.done.append(request.command)
        return {}


class Client:
    def __init__(self, commands: Recorded, *, oob: bool = True) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(LIMIT_S)
        self.socket = ours
        self.session = Session(theirs, commands, "test")
        self.thread = threading.Thread(target=self.session.serve, daemon=True)
        self.thread.start()
        self.lines = ours.makefile("rb")
        assert self.hear()["QMP"]
        self.say({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"] if oob else []}})
        assert self.hear() == {"return": {}}

    def say(self, *messages: Any) -> None:
        self.socket.sendall(b"".join(json.dumps(each).encode() for each in messages))

    def hear(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.lines.readline())
        return value

    def leave(self) -> None:
        self.lines.close()
        self.socket.close()
        self.thread.join(LIMIT_S)
        assert not self.thread.is_alive()


def test_commands_are_answered_in_their_order_without_any_line_ends() -> None:
    commands = Recorded()
    client = Client(commands)
    client.say(*({"execute": f"c{number}", "id": number} for number in range(30)))
    assert [client.hear()["id"] for _ in range(30)] == list(range(30))
    assert commands.done == [f"c{number}" for number in range(30)]
    client.leave()


def test_out_of_band_overtakes_what_waits() -> None:
    commands = Recorded()
    client = Client(commands)
    client.say({"execute": "wait", "id": 1}, {"execute": "after", "id": 2})
    assert commands.begun.wait(LIMIT_S)
    client.say({"exec-oob": "now", "id": 3})
    assert client.hear() == {"return": {}, "id": 3}
    commands.gate.set()
    assert [client.hear()["id"] for _ in range(2)] == [1, 2]
    assert commands.done == ["now", "wait", "after"]
    client.leave()


def test_without_out_of_band_there_is_no_such_member() -> None:
    client = Client(Recorded(), oob=False)
    client.say({"exec-oob": "now"})
    assert client.hear()["error"]["desc"] == "QMP input member 'exec-oob' is unexpected"
    client.leave()


def test_a_defect_is_an_answer_and_the_session_goes_on() -> None:
    client = Client(Recorded())
    client.say({"execute": "raise", "id": 1}, {"execute": "unknown", "id": 2}, {"execute": "fine", "id": 3})
    answers = [client.hear() for _ in range(3)]
    assert "internal error" in answers[0]["error"]["desc"]
    assert answers[1]["error"]["class"] == "CommandNotFound"
    assert answers[2] == {"return": {}, "id": 3}
    client.leave()


def test_a_message_in_pieces_is_one_message() -> None:
    client = Client(Recorded())
    for byte in b'{"execute": "c", "id": "\\u00e4"}':
        client.socket.sendall(bytes([byte]))
    assert client.hear() == {"return": {}, "id": "ä"}
    client.leave()


def test_an_id_as_deep_as_input_may_be_is_echoed() -> None:
    client = Client(Recorded())
    deep = b"[" * 1020 + b"]" * 1020
    client.socket.sendall(b'{"execute": "c", "id": ' + deep + b"}")
    assert client.lines.readline().endswith(b'"id": ' + deep + b"}\r\n")
    client.leave()


def test_a_client_that_ends_its_half_hears_all_answers() -> None:
    client = Client(Recorded())
    client.say(*({"execute": "c", "id": number} for number in range(20)))
    client.socket.shutdown(socket.SHUT_WR)
    assert [json.loads(line)["id"] for line in client.lines] == list(range(20))
    client.leave()


def test_who_asks_and_never_reads_is_read_no_more_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_MOST", 100_000)
    commands = Recorded()
    client = Client(commands)
    client.socket.settimeout(0.5)
    some = b'{"execute": "big", "arguments": {"size": 10000}}' * 100
    with pytest.raises(TimeoutError):  # the system's buffers are full, and so is ours
        deque(map(client.socket.sendall, repeat(some, 1000)), maxlen=0)
    client.leave()


def test_a_client_that_reads_no_events_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_MOST", 100_000)
    client = Client(Recorded())
    for number in range(100_000):
        client.session.announce(MonitorEvent("NOISE", {"number": number, "text": "x" * 1000}))
        if not client.thread.is_alive():
            break
    client.leave()


def test_descriptors_come_with_their_command_and_the_rest_is_closed() -> None:
    commands = Recorded()
    client = Client(commands)
    read, write = os.pipe()
    socket.send_fds(client.socket, [b'{"execute": "descriptor", "id": 1}'], [read, write])
    assert client.hear() == {"return": True, "id": 1}
    client.leave()
    os.close(read)
    assert os.fstat(commands.descriptors[0])
    os.close(commands.descriptors[0])
    with pytest.raises(BrokenPipeError):  # what nobody took was closed with the session
        os.write(write, b"x")
    os.close(write)


@settings(max_examples=40)
@given(st.binary(max_size=300))
def test_whatever_bytes_come_the_next_command_is_answered(noise: bytes) -> None:
    client = Client(Recorded())
    client.socket.sendall(noise + b'\xff\n{"execute": "c", "id": "last"}\n')
    while client.hear().get("id") != "last":
        pass
    client.leave()


def test_nothing_is_kept_of_texts_that_were_sent() -> None:
    ours, theirs = socket.socketpair()
    outbox = Outbox(theirs, "test")
    reader: Callable[[int], bytes] = ours.makefile("rb").read
    for _ in range(50):
        outbox.say(b"x" * 100_000)
        assert len(reader(100_000)) == 100_000
    outbox.close()
    ours.close()
    theirs.close()
