"""The way back is on the wire, under checksums: nothing that happens to it makes both sides run, or none."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.machines import make_pair

from vfio_migration import DeviceState, Migration, MigrationStatus, TakeoverUnknownError
from vfio_migration.errors import StreamError
from vfio_migration.live.answers import (
    ANSWER_SIZE,
    Answer,
    AnswerKind,
    AnswerReader,
    AnswerSender,
    await_answer,
    last_words,
)
from vmstate import RunState, VirtualClock, channel_pair

S = DeviceState


class Altering(socket.socket):
    """The source's end of a connection; alters the bytes that it receives at these places."""

    def __init__(self, fileno: int, changes: dict[int, int]) -> None:
        super().__init__(fileno=fileno)
        self.changes = changes
        self.seen = 0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = bytearray(super().recv(size, flags))
        for place, change in self.changes.items():
            if self.seen <= place < self.seen + len(data):
                data[place - self.seen] ^= change
        self.seen += len(data)
        return bytes(data)


def altering(changes: dict[int, int]) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    return Altering(ours.detach(), changes), theirs


places = st.dictionaries(st.integers(0, 4 * ANSWER_SIZE), st.integers(1, 255), max_size=8)


@given(places, st.booleans())
def test_whatever_is_altered_on_the_way_back_one_side_runs(changes: dict[int, int], fails: bool) -> None:
    pair = make_pair(("vf0",))
    if fails:
        pair.destination.mocks["vf0"].fail(S.RESUMING, S.STOP)
    report = pair.migrate(sockets=altering(changes))
    assert report.completed != fails
    running = [rig.machine.run_state is RunState.RUNNING for rig in (pair.source, pair.destination)]
    assert running == [fails, not fails]


def test_an_answer_that_is_altered_every_time_leaves_the_source_not_knowing_and_stopped() -> None:
    pair = make_pair(("vf0",))
    report = pair.migrate(sockets=altering(dict.fromkeys(range(ANSWER_SIZE, 40 * ANSWER_SIZE, ANSWER_SIZE), 1)))
    assert isinstance(report.error, TakeoverUnknownError)
    assert "ask it" in str(report.error)
    assert report.source_state is RunState.POSTMIGRATE
    assert pair.source.device_states == {"vf0": S.STOP_COPY}
    assert report.destination_state is RunState.RUNNING
    pair.destination.machine.stop()  # whoever was told to ask it does
    pair.source.machine.start()
    assert pair.source.machine.run_state is RunState.RUNNING
    assert pair.source.device_states == {"vf0": S.RUNNING}


def between(source: "list[bytes]", answer: Answer) -> Answer:
    """Let a destination give an answer, under the number 100, that arrives behind these bytes."""
    clock = VirtualClock()
    here, there = channel_pair(clock, "test")
    with clock.taking_part():
        for data in source:
            there.send(data)
        sender = AnswerSender(there)
        sender._number = 99
        thread = clock.start_thread(lambda: sender.give(answer), "dst")
        got = await_answer(AnswerReader(here), 7)
        here.close()
        clock.join(thread)
        there.close()
    return got


def test_an_answer_to_another_stream_and_one_that_is_unknown_are_none() -> None:
    running = Answer(AnswerKind.RUNNING, 7)
    unknown = bytearray(running.packed())
    assert between([Answer(AnswerKind.RUNNING, 6).packed()], running) == running
    assert between([Answer(AnswerKind.READY).packed(number) for number in (1, 2)], running) == running
    assert between([b"x" * ANSWER_SIZE, bytes(unknown[:-1]) + b"x"], running) == running


def test_an_answer_that_was_heard_before_is_ignored_and_one_that_was_altered_can_come_again() -> None:
    clock = VirtualClock()
    here, there = channel_pair(clock, "test")
    frames = [Answer(AnswerKind.ACK, text=name).packed(number) for number, name in enumerate("abc", start=1)]
    altered = frames[1][:-1] + bytes([frames[1][-1] ^ 1])
    with clock.taking_part():
        for frame in (frames[0], frames[0], altered, frames[1], frames[0], frames[1], frames[2]):
            there.send(frame)
        reader = AnswerReader(here)
        heard = [reader.next() for _ in range(4)]
        here.close()
        there.close()
    assert [None if each is None else each.text for each in heard] == ["a", None, "b", "c"]


@given(st.text(max_size=2000))
def test_a_text_of_any_length_fits_the_frame(text: str) -> None:
    failed = Answer(AnswerKind.FAILED, text=text)
    assert len(failed.packed()) == ANSWER_SIZE
    got = between([], failed)
    assert got.text == text or (got.text.endswith("...") and text.startswith(got.text[:-3]))


def test_a_connection_that_stalls_after_the_last_message_is_waited_for_as_long_as_is_said() -> None:
    pair = make_pair(("vf0",))
    pair.destination.mocks["vf0"].stall(S.RESUMING, S.STOP)
    with pair.clock.taking_part():
        report = pair.migrate(answer_timeout_s=60, check=False)
        assert isinstance(report.error, TakeoverUnknownError)
        assert "60 s" in str(report.error)
        assert report.destination_status is MigrationStatus.ACTIVE
        pair.destination.mocks["vf0"].release()
        pair.clock.sleep(1)
    assert report.source_state is RunState.POSTMIGRATE
    assert pair.destination.machine.run_state is RunState.RUNNING  # as whoever asks it hears


def test_while_the_source_waits_for_the_answer_a_cancel_says_that_it_is_too_late_and_a_wait_returns() -> None:
    pair = make_pair(("vf0",))
    pair.destination.mocks["vf0"].stall(S.RESUMING, S.STOP, seconds=100)
    with pair.clock.taking_part():
        migration = Migration(pair.source.machine, pair.destination.machine)
        migration.start()
        pair.clock.sleep(10)
        assert not migration.cancel()
        with pytest.raises(TimeoutError, match="'device'"):
            migration.wait(timeout=1)
        assert pair.source.machine.stop() == 0
        pair.source.machine.reset()
        assert migration.wait().completed


def test_the_end_of_the_connection_without_a_word_is_no_answer() -> None:
    clock = VirtualClock()
    here, there = channel_pair(clock, "test")
    with clock.taking_part():
        AnswerSender(there).ready()
        there.close()
        assert last_words(AnswerReader(here), timeout_s=1) is None
        with pytest.raises(StreamError, match="ended"):
            await_answer(AnswerReader(here), 7)
        here.close()


def test_the_last_words_of_a_destination_are_why_it_failed() -> None:
    clock = VirtualClock()
    here, there = channel_pair(clock, "test")
    with clock.taking_part():
        there.send(Answer(AnswerKind.FAILED, text="the reason").packed())
        there.close()
        assert last_words(AnswerReader(here), timeout_s=1) == "the reason"
        here.close()


def test_what_failed_on_the_destination_is_said_by_the_source() -> None:
    pair = make_pair()
    pair.destination.mocks["vf1"].fail_write()
    report = pair.migrate()
    assert report.status is MigrationStatus.FAILED
    assert "the destination failed" in str(report.error)
    assert "'vf1'" in str(report.error)
