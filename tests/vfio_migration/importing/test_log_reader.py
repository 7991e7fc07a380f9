from pathlib import Path

import pytest
from suite.qemu_logs import CAPTURES

from vfio_migration import DeviceState
from vfio_migration.errors import LogImportError
from vfio_migration.importing.event_forms import MARK
from vfio_migration.importing.log_reader import parse_log, read_log

SET_STATE = "vfio_migration_set_state  (0000:3b:00.1) new state PRE_COPY_P2P, recover state ERROR"


@pytest.mark.parametrize(
    "line",
    [
        f"2026-11-23T18:09:25.305274Z {SET_STATE}",
        f"4711@1795457365.305274:{SET_STATE}",
        f"2026-11-23T18:09:25.305274Z {SET_STATE}\r\n",
    ],
)
def test_both_timestamps_are_read(line: str) -> None:
    (event,) = parse_log([line], "x")
    assert event.time_ns == 1_795_457_365_305_274_000
    assert event.fields["name"] == "0000:3b:00.1"
    assert event.fields["new_state"] is DeviceState.PRE_COPY_P2P


@pytest.mark.parametrize("file", sorted(CAPTURES.glob("*.trace.log")), ids=lambda file: file.name)
def test_captures_of_a_real_qemu_are_read(file: Path) -> None:
    log = read_log(file)
    events = list(log)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert (log.lines, log.unknown, log.odd) == (len(lines), 0, ())
    assert sum(event.name == MARK for event in events) == sum(" virtio_" in line for line in lines) > 0


def test_unknown_lines_are_counted_and_blank_ones_are_not() -> None:
    lines = [
        "",
        "qemu-system-x86_64: warning: something",
        "2026-11-23T18:09:25.305274Z vfio_region_write (vf0:region0+0x0, 0x1, 4)",
        "2026-13-23T18:09:25.305274Z vfio_pci_read_config (vf0, @0x4, len=0x2) 0x6",
    ]
    log = parse_log(lines, "x")
    assert list(log) == []
    assert (log.lines, log.unknown) == (4, 3)


@pytest.mark.parametrize("arguments", [" (vf0) state WALKING", " () state STOP", "(vf0)", ""])
def test_a_known_event_in_another_format_is_an_unknown_line(arguments: str) -> None:
    log = parse_log([f"1@2.000003:vfio_migration_set_device_state {arguments}"], "x")
    assert list(log) == []
    assert log.unknown == 1
    (odd,) = log.odd
    assert "x, line 1: vfio_migration_set_device_state in a form that is not known here, 1 of them" in odd


def test_without_timestamps_the_error_says_what_to_switch_on() -> None:
    with pytest.raises(LogImportError, match=r"x, line 2: .*-msg timestamp=on"):
        list(parse_log(["hello", SET_STATE], "x"))


def test_timestamps_that_run_backwards_are_an_error() -> None:
    with pytest.raises(LogImportError, match="x, line 2: timestamps run backwards"):
        list(parse_log([f"1@2.000500:{SET_STATE}", f"1@2.000003:{SET_STATE}"], "x"))


def test_threads_that_met_while_writing_are_not() -> None:
    log = parse_log([f"1@2.000005:{SET_STATE}", f"1@2.000003:{SET_STATE}"], "x")
    assert [event.time_ns for event in log] == [2_000_005_000, 2_000_003_000]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for file in (tmp_path / "none.log", tmp_path, "with\0nothing"):
        with pytest.raises(LogImportError, match="cannot be read"):
            list(read_log(file))


def test_bytes_that_are_no_text_are_unknown_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    file.write_bytes(b"\xff\xfe\n1@2.000003:migrate_set_state new state setup\n")
    log = read_log(file)
    assert len(list(log)) == 1
    assert log.unknown == 1
