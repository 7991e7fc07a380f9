"""The stream: nothing that is cut short, altered or out of order ever runs, and the error says where."""

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.machines import make_pair

from vfio_migration import MigrationParameters, MigrationStatus, StreamError
from vfio_migration.live.connection import Connection
from vfio_migration.live.destination import Destination
from vfio_migration.live.stream import NotedState, StreamReader, StreamWriter
from vfio_migration.live.wire import Wire
from vfio_migration.testing import PairRig
from vmstate import (
    CallbackErrors,
    LoadStream,
    LocalChannel,
    MigrationEvent,
    RunState,
    SaveStream,
    VirtualClock,
    channel_pair,
)

IDS = ("vf0", "vf1")


def small_pair() -> PairRig:
    return make_pair(IDS, latency=0.0, rate=None, state_size=40)


def sent_by_a_migration() -> bytes:
    """Give the bytes of a real stream, as the source sent them."""
    sent = bytearray()
    real_send = LocalChannel.send

    def send(channel: LocalChannel, data: bytes) -> None:
        if not data.startswith((b"VSWA", b"VSWR")):  # answers on the way back, and requests for them
            sent.extend(data)
        real_send(channel, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalChannel, "send", send)
        report = small_pair().migrate()
    assert report.completed
    assert report.bytes_sent == len(sent)
    return bytes(sent)


STREAM = sent_by_a_migration()


def received(data: bytes) -> tuple[PairRig, Destination]:
    """Let a destination receive these bytes, whoever sent them."""
    pair = small_pair()
    machine = pair.destination.machine
    there, here = channel_pair(pair.clock, "test")
    destination = Destination(machine, CallbackErrors(), "confirmed", parameters=MigrationParameters())
    machine.begin_attempt(destination)
    machine.prepare_incoming()
    with pair.clock.taking_part():
        thread = pair.clock.start_thread(lambda: destination.run(Connection(here)), "destination")
        with suppress(ConnectionError):  # it may have seen enough
            there.send(data)
        there.end()
        pair.clock.join(thread)
        there.close()
    return pair, destination


def assert_refused(data: bytes, what: str) -> BaseException:
    pair, destination = received(data)
    assert destination.status is MigrationStatus.FAILED, what
    assert pair.destination.machine.run_state is RunState.INMIGRATE, what
    assert {state.name for state in pair.destination.device_states.values()} == {"RUNNING"}, what
    assert destination.error is not None
    assert isinstance(destination.error, StreamError), (what, destination.error)
    assert re.search(r"offset \d+", str(destination.error)) or "ended before" in str(destination.error), what
    return destination.error


def test_the_stream_of_a_migration_is_accepted_whoever_sends_it() -> None:
    pair, destination = received(STREAM)
    assert destination.status is MigrationStatus.COMPLETED
    assert pair.destination.machine.run_state is RunState.RUNNING


def test_a_stream_cut_short_anywhere_is_refused() -> None:
    for size in range(0, len(STREAM), 19):
        assert_refused(STREAM[:size], f"cut at {size}")
    assert_refused(STREAM[:-1], "cut at the last byte")


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_a_stream_with_any_byte_altered_is_refused(place: int, change: int) -> None:
    altered = bytearray(STREAM)
    altered[place] ^= change
    assert_refused(bytes(altered), f"byte {place}")


@given(st.binary(max_size=400))
def test_bytes_that_are_no_stream_are_refused(data: bytes) -> None:
    assert_refused(data, "random")
    assert_refused(STREAM[:20] + data, "random after the beginning")


def test_an_error_names_the_device_and_the_offset() -> None:
    place = STREAM.index(b"vf1") + 20  # within a section of vf1
    altered = bytearray(STREAM)
    altered[place] ^= 0xFF
    error = str(assert_refused(bytes(altered), "vf1"))
    assert "'vf1'" in error
    offset = int(re.findall(r"offset (\d+)", error)[0])
    assert place - 20 < offset < place + 200


def sections(data: bytes) -> list[int]:
    """Find where the sections of a stream begin."""
    return [match.start() - 7 for match in re.finditer(rb"vf[01]", data)]


@pytest.mark.parametrize(
    "rearrange",
    [
        lambda s, at: s[: at[1]] + s[at[2] :],  # one left out
        lambda s, at: s[: at[1]] + s[at[0] : at[1]] + s[at[1] :],  # one twice
        lambda s, at: s[: at[0]] + s[at[1] : at[2]] + s[at[0] : at[1]] + s[at[2] :],  # two exchanged
        lambda s, at: s[: at[0]] + s[at[-1] :],  # straight to the end
    ],
    ids=["left out", "twice", "exchanged", "skipped"],
)
def test_sections_out_of_order_are_refused(rearrange: Callable[[bytes, list[int]], bytes]) -> None:
    starts = sections(STREAM)
    assert len(starts) > 6
    assert_refused(rearrange(STREAM, starts), "rearranged")


class Blob:
    """Something else that migrates: the protocol is not only for VFIO devices."""

    id = "blob"

    def __init__(self, content: bytes) -> None:
        self.content = content

    def save_setup(self, stream: SaveStream) -> None:
        pass

    def pending(self) -> int:
        return 0

    def save_iterate(self, stream: SaveStream) -> int:
        raise AssertionError("nothing is pending")

    def save_complete(self, stream: SaveStream) -> None:
        pass

    def save_state(self, stream: SaveStream) -> None:
        stream.write(self.content)

    def save_cleanup(self) -> None:
        pass

    def load_setup(self) -> None:
        self.sections = 0

    def load(self, stream: LoadStream) -> None:
        self.sections += 1
        if self.sections == 3:  # after those of setup and save_complete
            self.content = stream.read(len(self.content))

    def load_complete(self) -> None:
        pass

    def load_cleanup(self) -> None:
        pass

    def notify(self, event: MigrationEvent) -> None:
        self.last_event = event

    def reset(self) -> None:
        pass


def test_anything_that_keeps_the_protocol_migrates_with_the_machine() -> None:
    pair = make_pair()
    blobs = Blob(b"source"), Blob(b"nobody")
    pair.source.machine.register(blobs[0])
    pair.destination.machine.register(blobs[1])
    assert pair.migrate().completed
    assert blobs[1].content == b"source"
    assert blobs[0].last_event is MigrationEvent.DONE


@given(st.sampled_from(list(RunState)), st.booleans())
def test_the_run_state_travels_after_the_sections(state: RunState, was_suspended: bool) -> None:
    there, here = channel_pair(VirtualClock(), "test")
    writer, reader = StreamWriter(there, Wire(VirtualClock(), None), eager=False), StreamReader(here)
    writer.header(MigrationParameters(), confirmed=True)
    writer.run_state(NotedState(state, was_suspended))
    writer.end()
    there.close()
    reader.header(MigrationParameters(), confirmed=True)
    assert reader.load_sections(()) == NotedState(state, was_suspended)
    assert reader.checksum == writer.checksum
    here.close()


def test_a_stream_without_a_run_state_is_refused() -> None:
    there, here = channel_pair(VirtualClock(), "test")
    writer, reader = StreamWriter(there, Wire(VirtualClock(), None), eager=False), StreamReader(here)
    writer.header(MigrationParameters(), confirmed=True)
    writer.end()
    reader.header(MigrationParameters(), confirmed=True)
    with pytest.raises(StreamError, match="expected sections"):
        reader.load_sections(())
    there.close()
    here.close()
