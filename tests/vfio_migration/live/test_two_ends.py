"""P1: an `Outgoing` and an `Incoming`, over sockets and, for a virtual clock, within the process."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suite.machines import LIMIT, for_the_test

from vfio_migration import (
    AddressError,
    Incoming,
    IncomingReport,
    Link,
    MigrationParameters,
    MigrationRefusedError,
    MigrationStatus,
    Outgoing,
    OutgoingReport,
    Ram,
    WrongStatusError,
)
from vfio_migration.live.hello import SIZE, Hello
from vfio_migration.testing import PairRig
from vmstate import RealClock, RunState, VirtualClock

Uris = tuple[str, str]


def pair_of(clock: Any = None, *, ram: int = 0, **device: Any) -> PairRig:
    pair = for_the_test(PairRig(clock=clock or RealClock()))
    if ram:
        Ram(pair.source.machine, ram)
        Ram(pair.destination.machine, ram)
    for number in range(3):
        pair.add_device(f"vf{number}", latency=0.002, state_size=3000, seed=number, **device)
    return pair


def migrate(pair: PairRig, uris: Uris, **options: Any) -> tuple[OutgoingReport, IncomingReport]:
    incoming_options = {key: options[key] for key in ("parameters", "takeover", "link") if key in options}
    incoming = Incoming(pair.destination.machine, uris[1], **incoming_options)
    outgoing = Outgoing(pair.source.machine, uris[0], **options)
    with pair.clock.taking_part():
        incoming.start()
        outgoing.start()
        return outgoing.wait(LIMIT), incoming.wait(LIMIT)


def announced(pair: PairRig, side: str) -> list[tuple[str, Any]]:
    return [(event.name, event.data.get("status")) for event in getattr(pair, side).announced]


def unix(tmp_path: Path) -> Uris:
    return (f"unix:{tmp_path / 'm.sock'}",) * 2


def tcp(_: Path) -> Uris:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return (f"tcp:127.0.0.1:{port}",) * 2


def descriptors(_: Path) -> Uris:
    one, other = socket.socketpair()
    return f"fd:{one.detach()}", f"fd:{other.detach()}"


kinds = pytest.mark.parametrize("uris", [unix, tcp, descriptors])


@kinds
@pytest.mark.parametrize("takeover", ["confirmed", "qemu"])
def test_the_same_as_in_one_process(uris: Callable[[Path], Uris], takeover: str, tmp_path: Path) -> None:
    alone = pair_of()
    whole = alone.migrate(takeover=takeover)
    pair = pair_of()
    sent, received = migrate(pair, uris(tmp_path), takeover=takeover)
    assert sent.completed
    assert received.completed
    assert (sent.stream_sha256, sent.bytes_sent) == (whole.stream_sha256, whole.bytes_sent)
    assert received.bytes_received == sent.bytes_sent
    assert pair.source.state_hashes == pair.destination.state_hashes
    for side in ("source", "destination"):
        ours, theirs = (
            [(event.name, event.data.get("status")) for event in getattr(each, side).announced]
            for each in (pair, alone)
        )
        assert ours == theirs
    assert (sent.source_state, received.destination_state) == (RunState.POSTMIGRATE, RunState.RUNNING)
    assert (sent.noted_state, received.noted_state) == (RunState.RUNNING, RunState.RUNNING)


@pytest.mark.parametrize("uris", [unix, tcp])
def test_with_channels_a_link_and_acknowledgements(uris: Callable[[Path], Uris], tmp_path: Path) -> None:
    pair = pair_of(ram=100_000, write_rate=1e8, initial_size=100)
    parameters = MigrationParameters(
        multifd_channels=3, return_path=True, switchover_ack=True, switchover_bandwidth=1e9
    )
    sent, received = migrate(pair, uris(tmp_path), parameters=parameters, link=Link(1e9, 0.001))
    assert sent.completed
    assert received.completed
    assert sent.answered_s is not None
    assert pair.source.state_hashes == pair.destination.state_hashes


def test_in_virtual_time_within_the_process() -> None:
    pair = pair_of(VirtualClock())
    whole = pair_of(VirtualClock()).migrate()
    sent, received = migrate(pair, ("unix:m.sock", "unix:m.sock"))
    assert sent.completed
    assert received.completed
    assert (sent.stream_sha256, sent.source_stop_s, sent.transfer_s) == (
        whole.stream_sha256,
        whole.source_stop_s,
        whole.transfer_s,
    )
    assert received.start_s == whole.destination_start_s
    assert not Path("m.sock").exists()


def test_in_virtual_time_nobody_there_is_refused_and_two_at_one_address_too() -> None:
    pair = pair_of(VirtualClock())
    outgoing = Outgoing(pair.source.machine, "unix:nobody.sock")
    with pair.clock.taking_part():
        outgoing.start()
        assert str(outgoing.wait().error) == "Failed to connect to 'nobody.sock': Connection refused"
    first = Incoming(pair.destination.machine, "unix:one.sock")
    other = for_the_test(PairRig(clock=pair.clock))
    first.start()
    with pytest.raises(OSError, match="Address already in use"):
        Incoming(other.destination.machine, "unix:one.sock").start()
    assert other.destination.machine.run_state is RunState.PRELAUNCH
    assert first.cancel()
    assert first.wait().status is MigrationStatus.FAILED


@pytest.mark.parametrize("kind", ["path", "folder", "port", "name"])
def test_nobody_there_fails_as_qemu_s_does_with_its_statuses(kind: str, tmp_path: Path) -> None:
    uri, text = {
        "path": (f"unix:{tmp_path}/x", f"Failed to connect to '{tmp_path}/x': No such file or directory"),
        "folder": (f"unix:{tmp_path}", f"Failed to connect to '{tmp_path}': Connection refused"),
        "port": ("tcp:127.0.0.1:1", "Failed to connect to '127.0.0.1:1': Connection refused"),
        "name": ("tcp:127.0.0.1:port", "address resolution failed for 127.0.0.1:port: Servname not supported"),
    }[kind]
    pair = pair_of()
    statuses: list[str] = []
    outgoing = Outgoing(pair.source.machine, uri, on_status=lambda _, status: statuses.append(str(status)))
    outgoing.start()
    report = outgoing.wait(LIMIT)
    assert statuses == ["setup", "failing", "failed"]
    assert str(report.error).startswith(text)
    assert report.source_state is RunState.RUNNING
    assert set(pair.source.device_states.values()) == {2}
    assert pair.migrate().completed  # nothing is left of it


def hear(data: bytes, *, wait_for_end: bool = True) -> Callable[[str], None]:
    """Be a stranger who says this."""

    def come(path: str) -> None:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(path)
            stranger.sendall(data)
            if wait_for_end:
                stranger.shutdown(socket.SHUT_WR)
                stranger.settimeout(LIMIT)
                with_answer = stranger.recv(10_000)
                assert with_answer == b"" or with_answer.startswith(b"VSWA")

    return come


GOOD = Hello(0, bytes(16)).packed()


@pytest.mark.parametrize(
    ("came", "text"),
    [
        (b"", "what came is nothing"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000, "what came is b'GET / HTTP/1.1"),
        (GOOD[:-1], "what came is b'VSWCONN1"),
        (GOOD[:-1] + b"x", "what came is b'VSWCONN1"),
        (Hello(1, bytes(16)).packed(), "a multifd channel came before the stream"),
        (GOOD, "header, offset 0: the stream ends here, 8 more bytes were expected"),
        (GOOD + b"QEVM" + bytes(100), "expected a migration stream of version 3, which begins b'VSWMIGR3', got b'QEVM"),
    ],
)
def test_a_stranger_fails_the_migration_as_qemu_s_and_the_error_says_what_came(
    came: bytes, text: str, tmp_path: Path
) -> None:
    pair = pair_of()
    path = str(tmp_path / "m.sock")
    incoming = Incoming(pair.destination.machine, f"unix:{path}")
    incoming.start()
    hear(came, wait_for_end=len(came) < 10_000)(path)
    report = incoming.wait(LIMIT)
    assert report.status is MigrationStatus.FAILED
    assert text in str(report.error)
    assert report.destination_state is RunState.INMIGRATE
    assert not Path(path).exists()
    sent, received = migrate(pair, unix(tmp_path))  # and can try again
    assert sent.completed
    assert received.completed


def test_a_stranger_who_says_nothing_has_his_time(tmp_path: Path) -> None:
    pair = pair_of()
    path = str(tmp_path / "m.sock")
    incoming = Incoming(pair.destination.machine, f"unix:{path}", hello_timeout_s=0.05)
    incoming.start()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(path)
        assert incoming.wait(LIMIT).status is MigrationStatus.FAILED
        assert stranger.recv(1) == b""


def test_a_source_that_falls_silent_has_its_time(tmp_path: Path) -> None:
    pair = pair_of()
    path = str(tmp_path / "m.sock")
    incoming = Incoming(pair.destination.machine, f"unix:{path}", peer_timeout_s=0.05)
    incoming.start()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(path)
        stranger.sendall(GOOD)
        report = incoming.wait(LIMIT)
    assert "nothing came for 0.05 s" in str(report.error)


def test_others_are_turned_away_while_one_migration_goes_on(tmp_path: Path) -> None:
    pair = pair_of()
    uri = unix(tmp_path)[0]
    parameters = MigrationParameters(multifd_channels=1)
    incoming = Incoming(pair.destination.machine, uri, parameters=parameters, hello_timeout_s=1.0)
    incoming.start()
    path = uri.partition(":")[2]
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as stranger:
        first.connect(path)
        first.sendall(Hello(0, b"1" * 16, 1).packed())
        for number, who in enumerate([b"2" * 16, b"1" * 16]):
            with socket.socket(socket.AF_UNIX) as other:  # of another migration; of this one, and a channel too many
                other.connect(path)
                other.sendall(Hello(1 + number, who).packed())
                other.settimeout(LIMIT)
                assert other.recv(1) == b""
        stranger.connect(path)
        stranger.sendall(b"x" * SIZE)
        stranger.settimeout(LIMIT)
        assert stranger.recv(1) == b""
    assert incoming.wait(LIMIT).status is MigrationStatus.FAILED


def test_strangers_who_say_nothing_keep_no_channel_from_being_heard(tmp_path: Path) -> None:
    pair = pair_of()
    uri = unix(tmp_path)[0]
    parameters = MigrationParameters(multifd_channels=2)
    incoming = Incoming(pair.destination.machine, uri, parameters=parameters)
    incoming.start()
    path = uri.partition(":")[2]
    silent: list[socket.socket] = []
    real = Hello.packed

    def come_between(self: Hello) -> bytes:
        if self.number == 0:  # before the source's other connections
            return real(self)
        while len(silent) < 100:
            silent.append(socket.socket(socket.AF_UNIX))
            silent[-1].connect(path)
        return real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hello, "packed", come_between)
        outgoing = Outgoing(pair.source.machine, uri, parameters=parameters)
        outgoing.start()
        assert outgoing.wait(LIMIT).completed
    assert incoming.wait(LIMIT).completed
    for stranger in silent:
        stranger.close()


def test_an_address_that_is_in_use_is_said_so_and_nobody_is_disturbed(tmp_path: Path) -> None:
    pair, other = pair_of(), pair_of()
    uris = unix(tmp_path)
    incoming = Incoming(pair.destination.machine, uris[1])
    incoming.start()
    second = Incoming(other.destination.machine, uris[1])
    with pytest.raises(OSError, match=r"Failed to bind socket to .*m\.sock: Address already in use"):
        second.start()
    assert other.destination.machine.run_state is RunState.PRELAUNCH
    outgoing = Outgoing(pair.source.machine, uris[0])
    outgoing.start()
    assert outgoing.wait(LIMIT).completed
    assert incoming.wait(LIMIT).completed
    second.start()  # now it is free
    assert second.cancel()
    assert second.wait(LIMIT).status is MigrationStatus.FAILED


def test_what_a_process_that_is_gone_has_left_is_no_obstacle(tmp_path: Path) -> None:
    pair = pair_of()
    uris = unix(tmp_path)
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(uris[0].partition(":")[2])
    sent, _ = migrate(pair, uris)
    assert sent.completed


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    incoming = Incoming(pair_of().destination.machine, f"unix:{file}")
    with pytest.raises(OSError, match="Address already in use"):
        incoming.start()
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("", "unknown migration protocol: "),
        ("pigeon:1", "unknown migration protocol: pigeon:1"),
        ("unix", "unknown migration protocol: unix"),
        ("unix:", "invalid Unix socket address"),
        ("tcp:127.0.0.1", "error parsing address '127.0.0.1'"),
        ("tcp:", "error parsing address ''"),
        ("tcp:localhost:", "error parsing port in address 'localhost:'"),
        ("tcp:localhost:99999", "error parsing port in address 'localhost:99999'"),
        ("fd:nobody", "File descriptor named 'nobody' has not been found"),
        ("defer", "unknown migration protocol: defer"),
        (f"unix:{'x' * 200}", "is too long"),
    ],
)
@pytest.mark.parametrize("end", [Outgoing, Incoming])
def test_a_uri_that_says_nothing_is_refused_in_qemu_s_words(end: Any, uri: str, text: str) -> None:
    with pytest.raises(AddressError) as caught:
        end(pair_of().source.machine, uri)
    assert text in str(caught.value)


@pytest.mark.parametrize("end", [Outgoing, Incoming])
def test_a_descriptor_is_one_connection(end: Any) -> None:
    with pytest.raises(AddressError, match="multifd_channels need more connections than fd:3 is"):
        end(pair_of().source.machine, "fd:3", parameters=MigrationParameters(multifd_channels=2))


def test_descriptors_that_are_none_or_no_sockets(tmp_path: Path) -> None:
    pair = pair_of()
    reading, writing = os.pipe()
    os.close(writing)
    for number, text in ((reading, "is no socket"), (writing, "Bad file descriptor")):
        outgoing = Outgoing(pair.source.machine, f"fd:{number}")
        outgoing.start()
        assert text in str(outgoing.wait(LIMIT).error)
        with pytest.raises(OSError, match=text):
            Incoming(pair.destination.machine, f"fd:{number}").start()
    os.close(reading)
    assert pair.destination.machine.run_state is RunState.PRELAUNCH


def test_a_descriptor_that_listens_is_listened_at(tmp_path: Path) -> None:
    pair = pair_of()
    path = str(tmp_path / "m.sock")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    sent, received = migrate(pair, (f"unix:{path}", f"fd:{listening.detach()}"))
    assert sent.completed
    assert received.completed


def test_a_port_that_the_system_chose_is_said() -> None:
    pair = pair_of()
    incoming = Incoming(pair.destination.machine, "tcp:127.0.0.1:0")
    incoming.start()
    outgoing = Outgoing(pair.source.machine, incoming.uri)
    outgoing.start()
    assert outgoing.wait(LIMIT).completed
    assert incoming.wait(LIMIT).completed
    assert outgoing.info().remaining == 0


def test_each_is_started_once_and_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    pair = pair_of()
    uris = unix(tmp_path)
    incoming, outgoing = Incoming(pair.destination.machine, uris[1]), Outgoing(pair.source.machine, uris[0])
    with pytest.raises(MigrationRefusedError, match="not started"):
        incoming.wait()
    with pytest.raises(MigrationRefusedError, match="not started"):
        outgoing.wait()
    assert not incoming.cancel()
    assert not outgoing.cancel()
    incoming.start()
    with pytest.raises(MigrationRefusedError, match="The incoming migration has already been started"):
        incoming.start()
    with pytest.raises(MigrationRefusedError):
        Incoming(pair.destination.machine, f"unix:{tmp_path / 'other.sock'}").start()
    with pytest.raises(WrongStatusError, match="setup"):
        incoming.continue_()
    with pytest.raises(MigrationRefusedError, match="stop it first"):
        Incoming(pair.source.machine, f"unix:{tmp_path / 'other.sock'}").start()
    with pytest.raises(TimeoutError, match="still 'setup'"):
        incoming.wait(0.01)
    outgoing.start()
    with pytest.raises(MigrationRefusedError, match="started once"):
        outgoing.start()
    assert outgoing.wait(LIMIT).completed
    assert incoming.wait(LIMIT).completed
    assert not incoming.cancel()


def test_a_pause_is_continued_and_a_cancel_ends_both(tmp_path: Path) -> None:
    pair = pair_of()
    uris = unix(tmp_path)
    incoming = Incoming(pair.destination.machine, uris[1])
    incoming.start()
    paused = pair.clock.event("the pause", outside=True)
    outgoing = Outgoing(
        pair.source.machine,
        uris[0],
        pause_before_switchover=True,
        on_status=lambda _, status: paused.set() if status is MigrationStatus.PRE_SWITCHOVER else None,
    )
    outgoing.start()
    assert paused.wait(LIMIT)
    assert outgoing.info().status is MigrationStatus.PRE_SWITCHOVER
    assert outgoing.cancel()
    assert outgoing.wait(LIMIT).status is MigrationStatus.CANCELLED
    received = incoming.wait(LIMIT)
    assert received.status is MigrationStatus.FAILED
    assert pair.source.machine.run_state is RunState.RUNNING
    sent, received = migrate(pair, uris)
    assert sent.completed
    assert received.completed


@pytest.mark.parametrize(
    ("ours", "text"),
    [
        ({"takeover": "qemu"}, "takeover is 'qemu' at the source and 'confirmed' here"),
        ({"parameters": MigrationParameters(multifd_channels=1)}, "multifd_channels is 1 at the source and 0 here"),
        (
            {"parameters": MigrationParameters(return_path=True, switchover_ack=True)},
            "switchover_ack is True at the source and False here",
        ),
    ],
)
def test_ends_that_do_not_agree_say_so(ours: dict[str, Any], text: str, tmp_path: Path) -> None:
    pair = pair_of()
    uri = unix(tmp_path)[0]
    incoming = Incoming(pair.destination.machine, uri, hello_timeout_s=1.0)
    outgoing = Outgoing(pair.source.machine, uri, **ours)
    incoming.start()
    outgoing.start()
    sent, received = outgoing.wait(LIMIT), incoming.wait(LIMIT)
    assert not received.completed
    assert sent.source_state is RunState.RUNNING or ours == {"takeover": "qemu"}
    assert text in str(received.error)
    assert text in str(sent.error) or ours == {"takeover": "qemu"}


def test_a_return_path_is_the_source_s_alone(tmp_path: Path) -> None:
    pair = pair_of()
    uri = unix(tmp_path)[0]
    incoming = Incoming(pair.destination.machine, uri, takeover="qemu")
    outgoing = Outgoing(pair.source.machine, uri, takeover="qemu", parameters=MigrationParameters(return_path=True))
    incoming.start()
    outgoing.start()
    assert outgoing.wait(LIMIT).answered_s is not None
    assert incoming.wait(LIMIT).completed
