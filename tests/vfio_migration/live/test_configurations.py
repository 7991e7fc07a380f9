"""What a source says of itself before all else: it comes as it was said, or is refused, with what is wrong."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.machines import make_pair

from vfio_migration import MigrationParameters, StreamError
from vfio_migration.live.ram import Ram
from vfio_migration.live.stream import StreamReader, StreamWriter
from vfio_migration.live.wire import Wire
from vfio_migration.registered import VFIOMigration
from vmstate import VirtualClock, channel_pair

CONFIRMED, CONFIGURED = 2, 8  # of the header's flags
PARAMETERS = MigrationParameters()


@contextmanager
def both_ends() -> Iterator[tuple[StreamWriter, StreamReader]]:
    clock = VirtualClock()
    there, here = channel_pair(clock, "test")
    with clock.taking_part():
        yield StreamWriter(there, Wire(clock, None), eager=False), StreamReader(here)
    there.close()
    here.close()


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=60), st.binary(max_size=300), max_size=20))
def test_they_come_as_they_were_said(said: dict[str, bytes]) -> None:
    with both_ends() as (writer, reader):
        writer.header(PARAMETERS, confirmed=True, configurations=said)
        reader.header(PARAMETERS, confirmed=True)
        assert reader.configurations() == said
        assert reader.checksum == writer.checksum


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({str(number): b"" for number in range(256)}, "256 configurations; at most 255"),
        ({"a": bytes(70_000)}, "the configuration of 'a' has 70000 bytes: at most 65535"),
        ({"a" * 300: b""}, "with an id of at most 255"),
    ],
    ids=["too many", "too long", "a long id"],
)
def test_what_cannot_be_sent_is_said(said: dict[str, bytes], words: str) -> None:
    with both_ends() as (writer, _), pytest.raises(StreamError, match=words):
        writer.header(PARAMETERS, confirmed=True, configurations=said)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"\4\2\0\1a\0\0\0\1a\0\0", "configurations, offset 24: a second configuration of 'a'"),
        (b"\4\1\x01\x00", "configurations, offset 18: an id of 256 bytes; at most 255"),
        (b"\1\0", r"configurations, offset 16: expected configurations \(4\), got 1"),
    ],
    ids=["twice", "a long id", "something else"],
)
def test_what_makes_no_sense_is_refused_with_its_place(sent: bytes, words: str) -> None:
    clock = VirtualClock()
    there, here = channel_pair(clock, "test")
    with clock.taking_part():
        header = b"VSWMIGR3" + bytes([CONFIRMED + CONFIGURED, 0])
        there.send(header + struct.pack(">I", zlib.crc32(header)) + sent)
        there.close()
        reader = StreamReader(here)
        reader.header(PARAMETERS, confirmed=True)
        with pytest.raises(StreamError, match=words):
            reader.configurations()
        here.close()


def test_a_destination_that_does_not_know_what_is_meant_fails_before_its_devices_get_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = make_pair()
    Ram(pair.source.machine, 1000)
    Ram(pair.destination.machine, 1000)
    ready: list[str] = []
    load_setup = VFIOMigration.load_setup

    def note(device: VFIOMigration) -> None:
        ready.append(device.id)
        load_setup(device)

    monkeypatch.setattr(VFIOMigration, "load_setup", note)
    monkeypatch.setattr(Ram, "configuration", lambda _: b"x", raising=False)
    report = pair.migrate()
    assert "a configuration of 'ram', which this machine does not have" in str(report.error)
    assert ready == []
    monkeypatch.setattr(Ram, "check_configuration", lambda _, data: None, raising=False)
    assert pair.migrate().completed
    assert ready == ["vf0", "vf1"]
