"""docs/examples/vfio_user_device.py against a server of our own: the protocol, migrations, and what goes wrong."""

import errno
import itertools
import json
import re
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite import ROOT
from suite.machines import LIMIT
from suite.vfio_user_server import (
    DEVICE_FEATURE,
    DEVICE_RESET,
    DMA_READ,
    HEADER,
    MIG_DATA_READ,
    MIG_DATA_WRITE,
    SET,
    VERSION,
    GoneError,
    Request,
    VfioUserServer,
    served,
)

from vfio_migration import (
    DeviceState,
    MigrationFlags,
    MigrationRefusedError,
    VFIODevice,
    VFIOMigration,
    migrate,
)
from vfio_migration.testing import check_backend
from vmstate import Bus, Device, Machine, RealClock, RegistrationError, RunState, VirtualClock

S = DeviceState
STOP_COPY, PRE_COPY = MigrationFlags.STOP_COPY, MigrationFlags.PRE_COPY
CONTENT = bytes(range(256)) * 5
PAGE = ROOT / "docs" / "vfio-user.md"
Serve = Callable[..., VfioUserServer]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs" / "examples")
        yield __import__("vfio_user_device")
        sys.modules.pop("vfio_user_device")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for the address of a socket."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def left() -> Iterator[ExitStack]:
    """What ends with the test: devices before their servers."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(folder: Path, left: ExitStack) -> Serve:
    numbers = itertools.count()

    def start(**settings: Any) -> VfioUserServer:
        path = settings.pop("path", folder / f"device{next(numbers)}")
        return left.enter_context(served(path, **settings))

    return start


@pytest.fixture
def opened(example: ModuleType, left: ExitStack) -> Open:
    def open_device(server: VfioUserServer, name: str = "nvme") -> Any:
        return left.enter_context(closing(example.VfioUserDevice(str(server.path), name=name)))

    return open_device


def machine_with(left: ExitStack, name: str, *devices: Any) -> Machine:
    machine = Machine(name)
    for number, each in enumerate(devices):
        left.enter_context(VFIOMigration(machine, VFIODevice(Device(f"vf{number}", Bus("pcie.0")), each)))
    return machine


def bring(device: Any, *states: DeviceState) -> None:
    for each in states:
        device.set_arc(each)


def failing(number: int, *commands: int) -> Callable[[Request], None]:
    """Have the server refuse commands with an errno."""

    def before(request: Request) -> None:
        if request.command in commands:
            raise OSError(number, "")

    return before


def going_at(holds: Callable[[Request], bool]) -> Callable[[Request], None]:
    def before(request: Request) -> None:
        if holds(request):
            raise GoneError

    return before


@pytest.mark.parametrize(
    "like_libvfio_user", [{}, {"pads": True, "resets_stopped": False}], ids=["as it is written", "as libvfio-user"]
)
@pytest.mark.parametrize("flags", [STOP_COPY, STOP_COPY | PRE_COPY], ids=["without pre-copy", "with pre-copy"])
def test_it_is_a_backend(serve: Serve, opened: Open, flags: MigrationFlags, like_libvfio_user: dict[str, bool]) -> None:
    seeds = itertools.count(1)
    check_backend(lambda: opened(serve(memory=bytes([next(seeds)]) * 1000, flags=flags, **like_libvfio_user)))


@pytest.mark.parametrize("flags", [STOP_COPY, STOP_COPY | PRE_COPY], ids=["without pre-copy", "with pre-copy"])
def test_a_machine_migrates_with_its_device(serve: Serve, opened: Open, left: ExitStack, flags: MigrationFlags) -> None:
    here, there = serve(memory=CONTENT, flags=flags), serve(flags=flags)
    source, destination = (machine_with(left, each.path.name, opened(each)) for each in (here, there))
    source.start()
    report = migrate(source, destination)
    assert report.completed, report.error
    assert there.memory == CONTENT
    assert (here.state, there.state) == (S.STOP, S.RUNNING)
    reads = [each.state for each in here.requests if each.command == MIG_DATA_READ]
    assert set(reads) == ({S.PRE_COPY, S.STOP_COPY} if flags & PRE_COPY else {S.STOP_COPY})
    back = migrate(destination, source)
    assert back.completed, back.error
    assert here.memory == CONTENT
    assert here.state is S.RUNNING


def test_what_is_sent_is_as_the_protocol_lays_it_out(serve: Serve, opened: Open) -> None:
    server = serve(memory=b"0123456789ab")
    device = opened(server)
    bring(device, S.STOP, S.STOP_COPY)
    assert device.read(100) == struct.pack("=I", 12) + b"0123456789ab"
    device.reset()
    bring(device, S.STOP, S.RESUMING)
    device.write(b"abc")

    def number(data: bytes, offset: int, size: int) -> int:
        return int.from_bytes(data[offset : offset + size], sys.byteorder)

    requests = server.requests
    assert [number(each.raw, 0, 2) for each in requests] == list(range(1, len(requests) + 1))
    for each in requests:
        assert number(each.raw, 4, 4) == len(each.raw)
        assert each.raw[8:16] == bytes(8)
    assert [number(each.raw, 2, 2) for each in requests] == [1, 16, 16, 16, 16, 17, 13, 16, 16, 18]
    version, migration, state, stop, *_ = (each.payload for each in requests)
    assert (number(version, 0, 2), number(version, 2, 2), version[-1:]) == (0, 1, b"\0")
    assert json.loads(version[4:-1]) == {"capabilities": {"max_data_xfer_size": 1 << 20}}
    assert [number(migration, at, 4) for at in (0, 4)] == [16, 1 | 1 << 16]
    assert [number(state, at, 4) for at in (0, 4)] == [16, 2 | 1 << 16]
    assert [number(stop, at, 4) for at in (0, 4, 8, 12)] == [16, 2 | 1 << 17, 1, 0xFFFFFFFF]
    read, reset, write = requests[5].payload, requests[6].payload, requests[-1].payload
    assert [number(read, at, 4) for at in (0, 4)] == [108, 100]
    assert len(read) == 8
    assert reset == b""
    assert [number(write, at, 4) for at in (0, 4)] == [11, 3]
    assert write[8:] == b"abc"


@settings(max_examples=20)
@given(memory=st.binary(max_size=200), most=st.integers(1, 90), sizes=st.lists(st.integers(1, 100), min_size=1))
def test_no_message_has_more_than_the_server_takes(
    example: ModuleType, memory: bytes, most: int, sizes: list[int]
) -> None:
    capabilities = json.dumps({"capabilities": {"max_data_xfer_size": most}}).encode() + b"\0"
    with tempfile.TemporaryDirectory() as name, ExitStack() as left:
        servers = [
            left.enter_context(served(Path(name, each), memory=content, capabilities=capabilities))
            for each, content in (("here", memory), ("there", b""))
        ]
        source, target = (left.enter_context(closing(example.VfioUserDevice(str(each.path)))) for each in servers)
        bring(source, S.PRE_COPY)
        pieces = []
        for size in itertools.cycle(sizes):
            if not source.pending():
                break
            pieces.append(source.read(size))
        bring(source, S.STOP_COPY)
        while piece := source.read(1000):
            pieces.append(piece)
        bring(target, S.STOP, S.RESUMING)
        target.write(b"".join(pieces))
        bring(target, S.STOP)
        assert servers[1].memory == memory
        moved = [each for server in servers for each in server.requests if each.command in (17, 18)]
        assert moved
        assert all(struct.unpack_from("=I", each.payload, 4)[0] <= most for each in moved)


def test_no_message_has_more_than_it_has_said_that_it_takes(serve: Serve, opened: Open) -> None:
    capabilities = json.dumps({"capabilities": {"max_data_xfer_size": 4 << 20}}).encode() + b"\0"
    device = opened(serve(memory=bytes(3 << 20), capabilities=capabilities))
    bring(device, S.STOP, S.STOP_COPY)
    assert len(device.read(4 << 20)) == 1 << 20


def test_the_numbers_of_messages_begin_again(serve: Serve, opened: Open) -> None:
    server = serve()
    device = opened(server)
    device._connection._number = 0xFFFE
    bring(device, S.STOP, S.RUNNING)
    assert [HEADER.unpack_from(each.raw)[0] for each in server.requests[-2:]] == [0xFFFF, 0]


def test_what_is_read_ahead_is_not_lost_and_not_kept(serve: Serve, opened: Open) -> None:
    server = serve(memory=CONTENT)
    device = opened(server)
    assert device.pending() == 0
    assert MIG_DATA_READ not in server.commands()
    bring(device, S.PRE_COPY)
    assert device.pending() == (4 + len(CONTENT)) // 2
    bring(device, S.STOP_COPY)
    first, rest = device.read(10), device.read(1 << 20)
    assert (first + rest + device.read(1 << 20))[4:] == CONTENT
    bring(device, S.STOP, S.RUNNING, S.PRE_COPY)
    assert device.pending()
    bring(device, S.RUNNING)
    assert device.pending() == 0
    bring(device, S.PRE_COPY)
    assert device.pending()
    device.reset()
    assert device.pending() == 0
    bring(device, S.STOP, S.STOP_COPY)
    assert device.read(100) == bytes(4)


ASKED: list[tuple[int, tuple[DeviceState, ...], Callable[[Any], object], str]] = [
    (DEVICE_FEATURE, (), lambda device: device.set_arc(S.STOP), "DEVICE_FEATURE, set MIG_DEVICE_STATE to STOP"),
    (DEVICE_FEATURE, (), lambda device: device.state, "DEVICE_FEATURE, get MIG_DEVICE_STATE"),
    (MIG_DATA_READ, (S.PRE_COPY,), lambda device: device.pending(), "MIG_DATA_READ"),
    (MIG_DATA_READ, (S.STOP, S.STOP_COPY), lambda device: device.read(10), "MIG_DATA_READ"),
    (MIG_DATA_WRITE, (S.STOP, S.RESUMING), lambda device: device.write(b"x"), "MIG_DATA_WRITE"),
    (DEVICE_RESET, (), lambda device: device.reset(), "DEVICE_RESET"),
]


@pytest.mark.parametrize(("command", "way", "ask", "shown"), ASKED, ids=[each[-1] for each in ASKED])
@pytest.mark.parametrize(
    ("sent", "raised", "why"),
    [(errno.EBUSY, errno.EBUSY, "Device or resource busy"), (0, errno.EIO, "it failed, without an errno")],
)
def test_a_refusal_comes_through_and_the_connection_stays(
    serve: Serve,
    opened: Open,
    command: int,
    way: tuple[DeviceState, ...],
    ask: Callable[[Any], object],
    shown: str,
    sent: int,
    raised: int,
    why: str,
) -> None:
    server = serve(memory=CONTENT)
    device = opened(server)
    bring(device, *way)
    server.before = failing(sent, command)
    with pytest.raises(OSError, match=re.escape(f"nvme: {shown}: {why}")) as caught:
        ask(device)
    assert caught.value.errno == raised
    server.before = lambda _: None
    assert device.state is server.state
    assert server.commands().count(VERSION) == 1


def test_a_device_that_cannot_load_fails_the_migration_with_its_errno(
    serve: Serve, opened: Open, left: ExitStack
) -> None:
    here, there = serve(memory=CONTENT), serve()
    source, destination = (machine_with(left, each.path.name, opened(each)) for each in (here, there))
    source.start()
    there.before = failing(errno.ENOSPC, MIG_DATA_WRITE)
    report = migrate(source, destination)
    assert report.status == "failed"
    assert "nvme: MIG_DATA_WRITE: No space left on device" in str(report.error)
    assert source.run_state is RunState.RUNNING
    assert (here.state, here.memory) == (S.RUNNING, CONTENT)
    there.before = lambda _: None
    again = migrate(source, destination)
    assert again.completed, again.error
    assert there.memory == CONTENT


def test_a_server_that_goes_away_while_it_loads_and_comes_back(serve: Serve, opened: Open, left: ExitStack) -> None:
    here, there = serve(memory=CONTENT), serve()
    device = opened(there)
    source, destination = machine_with(left, "source", opened(here)), machine_with(left, "destination", device)
    source.start()
    there.before = going_at(lambda request: request.command == MIG_DATA_WRITE and request.state is S.RESUMING)
    report = migrate(source, destination)
    assert report.status == "failed"
    assert "nvme: MIG_DATA_WRITE: the server is gone" in str(report.error)
    assert (here.state, here.memory) == (S.RUNNING, CONTENT)
    assert device.state.name == "ERROR"
    with pytest.raises(OSError, match=r"nvme: connecting: nobody listens at .* \(Connection refused\)") as caught:
        device.reset()
    assert caught.value.errno == errno.ENODEV
    anew = serve(path=there.path)
    device.reset()
    assert device.state is S.RUNNING
    assert anew.commands()[:3] == [VERSION, DEVICE_FEATURE, DEVICE_RESET]


def test_a_source_whose_server_goes_away_has_lost_its_device(serve: Serve, opened: Open, left: ExitStack) -> None:
    here, there = serve(memory=CONTENT), serve()
    device = opened(here)
    source, destination = machine_with(left, "source", device), machine_with(left, "destination", opened(there))
    source.start()
    here.before = going_at(lambda request: request.sets is S.STOP_COPY)
    report = migrate(source, destination)
    assert report.status == "failed"
    assert "the server is gone" in str(report.error)
    assert report.lost_devices == ("vf0",)
    assert device.state.name == "ERROR"
    assert there.memory == b""
    requests: list[Callable[[], object]] = [
        lambda: device.set_arc(S.STOP),
        lambda: device.read(1),
        lambda: device.write(b"x"),
    ]
    for ask in requests:
        with pytest.raises(OSError, match=r"nvme: .*the server is gone") as caught:
            ask()
        assert caught.value.errno == errno.ENODEV


def test_a_server_that_comes_back_as_something_else_is_refused(serve: Serve, opened: Open) -> None:
    server = serve()
    device = opened(server)
    server.close()
    serve(path=server.path, flags=STOP_COPY)
    with pytest.raises(OSError, match=r"nvme: its server has come back with .*STOP_COPY") as caught:
        device.reset()
    assert caught.value.errno == errno.ENODEV
    assert device.state.name == "ERROR"


@pytest.mark.parametrize("version", [(1, 0), (0, 2)])
def test_a_version_that_it_does_not_speak(serve: Serve, opened: Open, version: tuple[int, int]) -> None:
    expected = f"nvme: VERSION: the server speaks {version[0]}.{version[1]}, this 0.1 and lower"
    with pytest.raises(OSError, match=re.escape(expected)) as caught:
        opened(serve(version=version))
    assert caught.value.errno == errno.EPROTONOSUPPORT


def test_a_server_that_does_not_speak_ours(serve: Serve, opened: Open) -> None:
    with pytest.raises(OSError, match="nvme: VERSION: Invalid argument") as refused:
        opened(serve(before=failing(errno.EINVAL, VERSION)))
    assert refused.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="nvme: VERSION: the server is gone") as closed:
        opened(serve(before=going_at(lambda request: request.command == VERSION)))
    assert closed.value.errno == errno.ENODEV


def test_a_lower_version_without_capabilities_will_do(serve: Serve, opened: Open) -> None:
    assert opened(serve(version=(0, 0), capabilities=b"")).state is S.RUNNING


@pytest.mark.parametrize(
    ("capabilities", "why"),
    [
        (b"{", "its capabilities are no JSON object"),
        (b"[]\0", "its capabilities are no JSON object"),
        (b"\xff\0", "its capabilities are no JSON object"),
        (b'{"capabilities": {"max_data_xfer_size": 0}}\0', "max_data_xfer_size is 0"),
        (b'{"capabilities": {"max_data_xfer_size": "1 MiB"}}\0', "max_data_xfer_size is '1 MiB'"),
    ],
)
def test_capabilities_that_are_none_are_named(serve: Serve, opened: Open, capabilities: bytes, why: str) -> None:
    with pytest.raises(OSError, match=re.escape(f"nvme: VERSION: a wrong reply: {why}")) as caught:
        opened(serve(capabilities=capabilities))
    assert caught.value.errno == errno.EPROTO


def test_a_version_that_is_cut_is_named(serve: Serve, opened: Open) -> None:
    with pytest.raises(OSError, match="nvme: VERSION: a wrong reply: 3 bytes, expected a version") as caught:
        opened(serve(altered=lambda _, reply: payload(reply, reply[16:19])))
    assert caught.value.errno == errno.EPROTO


def test_a_server_that_goes_away_before_it_says_what_it_can_do(serve: Serve, opened: Open) -> None:
    with pytest.raises(
        OSError, match=r"^\[Errno \d+\] nvme: DEVICE_FEATURE, get MIGRATION: the server is gone"
    ) as caught:
        opened(serve(before=going_at(lambda request: request.command == DEVICE_FEATURE)))
    assert caught.value.errno == errno.ENODEV


def test_a_device_that_cannot_migrate_is_refused(serve: Serve, opened: Open) -> None:
    with pytest.raises(OSError, match="nvme: it cannot be migrated: nvme: DEVICE_FEATURE, get MIGRATION") as caught:
        opened(serve(before=failing(errno.ENOTTY, DEVICE_FEATURE)))
    assert caught.value.errno == errno.ENOTSUP
    with pytest.raises(OSError, match="nvme: it cannot be migrated: its flags are 0x4, without STOP_COPY") as caught:
        opened(serve(flags=PRE_COPY))
    assert caught.value.errno == errno.ENOTSUP


def test_nobody_listens(folder: Path, example: ModuleType) -> None:
    with pytest.raises(OSError, match=r"connecting: nobody listens at .*none \(No such file") as caught:
        example.VfioUserDevice(str(folder / "none"))
    assert caught.value.errno == errno.ENODEV


def head(reply: bytes, **changes: int) -> bytes:
    """Change fields of a reply's header."""
    names = ("number", "command", "size", "flags", "code")
    fields = dict(zip(names, HEADER.unpack_from(reply), strict=True)) | changes
    return HEADER.pack(*fields.values()) + reply[HEADER.size :]


def payload(reply: bytes, new: bytes) -> bytes:
    return head(reply[: HEADER.size] + new, size=HEADER.size + len(new))


WRONG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "shorter than a header": (lambda reply: head(reply, size=15), "a message of 15 bytes, expected 16 to 1048608"),
    "much too long": (lambda reply: head(reply, size=1 << 31), "a message of 2147483648 bytes"),
    "to another message": (lambda reply: head(reply, number=999), "message 999 of type 1 to command 16, expected 4"),
    "to another command": (lambda reply: head(reply, command=DEVICE_RESET), "message 4 of type 1 to command 13"),
    "of no type": (lambda reply: head(reply, flags=2), "message 4 of type 2 to command 16"),
    "too short": (lambda reply: payload(reply, reply[16:31]), "15 bytes, expected 16"),
    "empty": (lambda reply: payload(reply, b""), "0 bytes, expected 16"),
    "of another feature": (
        lambda reply: payload(reply, struct.pack("=IIII", 16, SET | 1, 1, 0)),
        "feature 0x20001, expected 0x20002",
    ),
    "of another state": (
        lambda reply: payload(reply, struct.pack("=IIII", 16, SET | 2, 3, 0)),
        "the reply says STOP_COPY",
    ),
    "of a state that is none": (
        lambda reply: payload(reply, struct.pack("=IIII", 16, SET | 2, 8, 0)),
        "there is no state 8",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_reply_is_named_and_ends_the_connection(serve: Serve, opened: Open, kind: str) -> None:
    change, why = WRONG[kind]
    server = serve()
    device = opened(server)
    server.altered = lambda _, reply: change(reply)
    with pytest.raises(OSError, match=re.escape(f"to STOP: a wrong reply: {why}")) as caught:
        device.set_arc(S.STOP)
    assert caught.value.errno == errno.EPROTO
    assert device.state.name == "ERROR"
    server.altered = lambda _, reply: reply
    device.reset()  # by a new connection
    assert device.state is S.RUNNING


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (b"", "0 bytes, expected 8 and data"),
        (struct.pack("=II", 11, 3) + b"ab", "3 bytes of data in 2, 10 were asked for"),
        (struct.pack("=II", 19, 11) + b"0123456789a", "11 bytes of data in 11, 10 were asked for"),
    ],
)
def test_data_of_a_wrong_length_are_named(serve: Serve, opened: Open, new: bytes, why: str) -> None:
    server = serve(memory=CONTENT)
    device = opened(server)
    bring(device, S.STOP, S.STOP_COPY)
    server.altered = lambda _, reply: payload(reply, new)
    with pytest.raises(OSError, match=f"nvme: MIG_DATA_READ: a wrong reply: {why}") as caught:
        device.read(10)
    assert caught.value.errno == errno.EPROTO


def test_a_server_that_goes_away_within_a_reply(serve: Serve, opened: Open) -> None:
    server = serve()
    device = opened(server)

    def cut(_: Request, reply: bytes) -> bytes:
        server._client.sendall(reply[:5])  # type: ignore[union-attr]
        raise GoneError

    server.altered = cut
    with pytest.raises(OSError, match="to STOP: the server is gone, 5 bytes into 16") as caught:
        device.set_arc(S.STOP)
    assert caught.value.errno == errno.ENODEV


@pytest.mark.parametrize("no_reply", [False, True])
def test_what_the_server_asks_meanwhile_is_refused(serve: Serve, opened: Open, *, no_reply: bool) -> None:
    server = serve()
    device = opened(server)
    asked = HEADER.pack(77, DMA_READ, HEADER.size + 16, 0x10 if no_reply else 0, 0) + bytes(16)
    server.altered = lambda _, reply: asked + reply
    device.set_arc(S.STOP)
    server.altered = lambda _, reply: reply
    assert device.state is S.STOP  # for which the server has read what came before
    refusal = HEADER.pack(77, DMA_READ, HEADER.size, 0x21, errno.EOPNOTSUPP)
    assert server.foreign == ([] if no_reply else [refusal])


def test_a_request_that_is_never_replied_to_ends_when_the_device_is_closed(serve: Serve, opened: Open) -> None:
    server = serve()
    device = opened(server)
    arrived, release = threading.Event(), threading.Event()
    caught: list[OSError] = []

    def stall(_: Request) -> None:
        arrived.set()
        assert release.wait(LIMIT)

    def ask() -> None:
        try:
            device.set_arc(S.STOP)
        except OSError as error:
            caught.append(error)

    server.before = stall
    asking = threading.Thread(target=ask)
    asking.start()
    assert arrived.wait(LIMIT)
    device.close()
    asking.join(LIMIT)
    release.set()
    assert [each.errno for each in caught] == [errno.ENODEV]
    with pytest.raises(OSError, match="DEVICE_RESET: the server is gone"):  # a reset does not open it again
        device.reset()


def test_a_device_that_was_left_in_another_state_is_reset(serve: Serve, opened: Open) -> None:
    server = serve(state=S.STOP)
    assert opened(server).state is S.RUNNING
    assert server.commands() == [VERSION, DEVICE_FEATURE, DEVICE_FEATURE, DEVICE_RESET, DEVICE_FEATURE]


def test_one_that_cannot_be_reset_then_is_given_up(serve: Serve, opened: Open) -> None:
    with pytest.raises(OSError, match="nvme: DEVICE_RESET: Input/output error"):
        opened(serve(state=S.STOP, before=failing(errno.EIO, DEVICE_RESET)))


def test_a_stopped_device_whose_server_does_not_reset_it_then_runs_first(serve: Serve, opened: Open) -> None:
    server = serve(memory=CONTENT, resets_stopped=False)
    device = opened(server)
    bring(device, S.STOP, S.STOP_COPY)
    device.reset()
    assert [each.sets or each.command for each in server.requests[-4:]] == [13, 16, S.RUNNING, 13]
    assert (server.state, server.memory) == (S.RUNNING, b"")
    server.before = failing(errno.EINVAL, DEVICE_RESET)
    with pytest.raises(OSError, match="nvme: DEVICE_RESET: Invalid argument"):
        device.reset()


def test_p2p_is_not_of_the_protocol_so_a_machine_migrates_with_one_device(
    serve: Serve, opened: Open, left: ExitStack
) -> None:
    flags = STOP_COPY | PRE_COPY | MigrationFlags.P2P
    devices = [opened(serve(flags=flags)) for _ in range(4)]
    assert devices[0].flags == STOP_COPY | PRE_COPY
    source, destination = machine_with(left, "source", *devices[:2]), machine_with(left, "there", *devices[2:])
    source.start()
    with pytest.raises(MigrationRefusedError, match="if all of them have P2P; without it: vf0, vf1"):
        migrate(source, destination)


def test_it_takes_real_time_and_has_one_machine(serve: Serve, opened: Open) -> None:
    device = opened(serve())
    with pytest.raises(RegistrationError, match="takes real time"):
        device.bind(VirtualClock())
    device.bind(RealClock())
    with pytest.raises(RegistrationError, match="part of a machine already"):
        device.bind(RealClock())


def test_what_the_page_shows_runs(
    serve: Serve, example: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    here, there = serve(path=folder / "here.sock", memory=CONTENT), serve(path=folder / "there.sock")
    assert shown.count("/run/vm/") == 2
    exec(compile(shown.replace("/run/vm/", f"{folder}/"), PAGE.name, "exec"), {})
    assert capsys.readouterr().out.startswith("completed")
    assert (here.state, there.state, there.memory) == (S.STOP, S.RUNNING, CONTENT)
