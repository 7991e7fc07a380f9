"""P1: two ends where threads, room and addresses are wanting, and those that are started twice at once."""

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from suite.machines import LIMIT, for_the_test

from vfio_migration import AddressError, Incoming, MigrationParameters, MigrationRefusedError, MigrationStatus, Outgoing
from vfio_migration.live.channel_pool import ChannelPool
from vfio_migration.live.socket_acceptor import SocketAcceptor
from vfio_migration.testing import PairRig
from vmstate import RealClock, RunState


def pair_of() -> PairRig:
    pair = for_the_test(PairRig(clock=RealClock()))
    pair.add_device("vf0", state_size=3000)
    return pair


def with_channels(number: int) -> MigrationParameters:
    return MigrationParameters(multifd_channels=number)


@pytest.mark.parametrize("end", ["to", "from"])
@pytest.mark.parametrize("nth", [2, 3])
def test_an_end_without_threads_for_all_its_channels_leaves_nobody_waiting(
    end: str, nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, uri, parameters = pair_of(), f"unix:{tmp_path / 'm'}", MigrationParameters(multifd_channels=2)
    start, asked = threading.Thread.start, 0

    def scarce(thread: threading.Thread) -> None:
        nonlocal asked
        if thread.name.startswith(f"migration {end} "):
            asked += 1
            if asked == nth:
                raise RuntimeError("can't start new thread")
        start(thread)

    before = set(Path("/proc/self/fd").iterdir())
    incoming = Incoming(pair.destination.machine, uri, parameters=parameters)
    outgoing = Outgoing(pair.source.machine, uri, parameters=parameters)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", scarce)
        incoming.start()
        outgoing.start()
        reports = outgoing.wait(LIMIT), incoming.wait(LIMIT)
    assert [report.status for report in reports] == [MigrationStatus.FAILED] * 2
    assert pair.source.machine.run_state is RunState.RUNNING
    assert not [each.name for each in threading.enumerate() if each.name.endswith("receiving")]
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_more_channels_come_at_once_than_may_wait_at_a_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, uri, parameters = pair_of(), f"unix:{tmp_path / 'm'}", MigrationParameters(multifd_channels=64)
    listen = socket.socket.listen
    monkeypatch.setattr(socket.socket, "listen", lambda sock, _: listen(sock, 2))
    incoming = Incoming(pair.destination.machine, uri, parameters=parameters)
    outgoing = Outgoing(pair.source.machine, uri, parameters=parameters)
    incoming.start()
    outgoing.start()
    assert outgoing.wait(LIMIT).error is None
    assert incoming.wait(LIMIT).status is MigrationStatus.COMPLETED


def test_nobody_waits_longer_for_room_than_connecting_may_take(tmp_path: Path) -> None:
    pair, path = pair_of(), str(tmp_path / "m")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(path)
        listening.listen(0)
        first.connect(path)
        outgoing = Outgoing(pair.source.machine, f"unix:{path}", connect_timeout_s=0.2)
        outgoing.start()
        assert "Resource temporarily unavailable" in str(outgoing.wait(LIMIT).error)
        again = Outgoing(pair.source.machine, f"unix:{path}")
        again.start()
        with pytest.raises(TimeoutError):
            again.wait(0.2)
        assert again.cancel()
        assert again.wait(LIMIT).status is MigrationStatus.CANCELLED


def test_an_address_in_use_leaves_a_machine_in_a_state_that_has_no_way_back(tmp_path: Path) -> None:
    pair = pair_of()
    machine = pair.source.machine
    machine.stop(RunState.DEBUG)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "m"))
        taken.listen()
        with pytest.raises(OSError, match="Address already in use"):
            Incoming(machine, f"unix:{tmp_path / 'm'}").start()
    assert machine.run_state is RunState.DEBUG
    machine.start()


def test_a_second_start_while_the_first_is_under_way_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, uri = pair_of(), f"unix:{tmp_path / 'm'}"
    incoming = Incoming(pair.destination.machine, uri)
    opened = SocketAcceptor.open
    refused: list[MigrationRefusedError] = []

    def open_slowly(acceptor: SocketAcceptor) -> None:
        if not refused:
            with pytest.raises(MigrationRefusedError) as caught:
                incoming.start()
            refused.append(caught.value)
        opened(acceptor)

    monkeypatch.setattr(SocketAcceptor, "open", open_slowly)
    incoming.start()
    assert "already been started" in str(refused[0])
    outgoing = Outgoing(pair.source.machine, uri)
    outgoing.start()
    assert outgoing.wait(LIMIT).completed
    assert incoming.wait(LIMIT).status is MigrationStatus.COMPLETED
    assert incoming.status is MigrationStatus.COMPLETED


def test_a_source_that_sends_over_channels_alone_is_not_silent(tmp_path: Path) -> None:
    pair, uri, parameters = for_the_test(PairRig(clock=RealClock())), f"unix:{tmp_path / 'm'}", with_channels(2)
    pair.add_device("vf0", contents="sizes", state_size=32 << 20, rate=32 << 20)  # a second, in pieces of 30 ms
    incoming = Incoming(pair.destination.machine, uri, parameters=parameters, peer_timeout_s=0.4)
    outgoing = Outgoing(pair.source.machine, uri, parameters=parameters)
    incoming.start()
    outgoing.start()
    assert outgoing.wait(LIMIT).completed
    assert incoming.wait(LIMIT).status is MigrationStatus.COMPLETED


def test_channels_that_fall_silent_have_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, uri, parameters = pair_of(), f"unix:{tmp_path / 'm'}", with_channels(2)
    monkeypatch.setattr(ChannelPool, "end", lambda _: None)
    incoming = Incoming(pair.destination.machine, uri, parameters=parameters, peer_timeout_s=0.2)
    outgoing = Outgoing(pair.source.machine, uri, parameters=parameters)
    incoming.start()
    outgoing.start()
    assert "nothing came over the multifd channels for 0.2 s" in str(incoming.wait(LIMIT).error)
    assert outgoing.wait(LIMIT).status is MigrationStatus.FAILED
    assert pair.source.machine.run_state is RunState.RUNNING


def full() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            ours.send(bytes(1 << 16))
    return ours, theirs


def test_a_descriptor_whose_other_side_takes_nothing_has_its_time_and_can_be_cancelled() -> None:
    pair = pair_of()
    ours, theirs = full()
    outgoing = Outgoing(pair.source.machine, f"fd:{ours.detach()}", peer_timeout_s=0.2)
    outgoing.start()
    assert "has taken nothing for 0.2 s" in str(outgoing.wait(LIMIT).error)
    theirs.close()
    ours, theirs = full()
    outgoing = Outgoing(pair.source.machine, f"fd:{ours.detach()}")
    outgoing.start()
    with pytest.raises(TimeoutError):
        outgoing.wait(0.2)
    assert outgoing.cancel()
    assert outgoing.wait(LIMIT).status is MigrationStatus.CANCELLED
    theirs.close()


@pytest.mark.parametrize("end", [Outgoing, Incoming])
@pytest.mark.parametrize("path", ["a\0b", "\0abstract", "\ud800"])
def test_a_path_that_can_be_none_is_refused_at_once(end: type[Outgoing | Incoming], path: str) -> None:
    with pytest.raises(AddressError, match="invalid Unix socket address"):
        end(pair_of().source.machine, f"unix:{path}")


def test_a_path_that_is_no_text_can_be_one(tmp_path: Path) -> None:
    pair, uri = pair_of(), f"unix:{tmp_path}/{os.fsdecode(bytes([0xFF]))}"
    incoming, outgoing = Incoming(pair.destination.machine, uri), Outgoing(pair.source.machine, uri)
    incoming.start()
    outgoing.start()
    assert outgoing.wait(LIMIT).completed
    assert incoming.wait(LIMIT).status is MigrationStatus.COMPLETED
