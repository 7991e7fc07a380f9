import re

import pytest
from suite.pictured import whole_scenario
from suite.qemu_logs import CAPTURES

from vfio_migration.errors import ScenarioError
from vfio_migration.importing.log_reader import parse_log
from vfio_migration.recorded.qemu_log import (
    FORMATS,
    QEMU_FORMATS,
    format_event,
    format_log,
    format_timestamp,
    log_files,
)
from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.runner import run_once
from vmstate import TraceEvent, VirtualClock

# Of migration/trace-events, which the captures have no line of.
_NOT_CAPTURED = {
    "savevm_section_start": "%s, section_id %u",
    "savevm_section_end": "%s, section_id %u -> %d",
    "virtio_set_status": "vdev %p val %u",
    "virtio_rng_vm_state_change": "rng %p: state change to running %d state %d",
}


def documented() -> dict[str, str]:
    """QEMU's printf formats, with lengths of integers and signs left out, and addresses as text."""
    lines = (CAPTURES / "trace-formats.txt").read_text(encoding="utf-8").splitlines()
    formats = dict(line.split(" ", 1) for line in lines if " " in line) | _NOT_CAPTURED
    return {name: re.sub(r"%l?[udi]", "%d", text).replace("%p", "%s") for name, text in formats.items()}


@pytest.mark.parametrize("name", QEMU_FORMATS)
def test_the_formats_are_qemu_s(name: str) -> None:
    assert re.sub(r"%\(\w+\)", "%", QEMU_FORMATS[name]) == documented()[name]


def test_a_line_is_what_qemu_prints() -> None:
    event = TraceEvent(
        1_795_457_365_305_274_999,
        "source",
        "main",
        "runstate_set",
        {"current_state": 6, "current_state_str": "prelaunch", "new_state": 9, "new_state_str": "running"},
    )
    first = next(
        line
        for line in (CAPTURES / "flat-src.trace.log").read_text(encoding="utf-8").splitlines()
        if "runstate_set" in line
    )
    assert format_event(event) == first


def test_events_of_vfio_have_the_blank_of_their_format() -> None:
    event = TraceEvent(0, "m", "t", "vfio_migration_set_device_state", {"name": "0000:3b:00.1", "state": "STOP_COPY"})
    assert format_event(event) == (
        "1970-01-01T00:00:00.000000Z vfio_migration_set_device_state  (0000:3b:00.1) state STOP_COPY"
    )


def test_events_of_ours_are_written_in_the_same_style() -> None:
    fields = {"handler": "disk0", "priority": 294912, "kind": "main"}
    assert format_event(TraceEvent(0, "m", "t", "handler_begin", fields)).endswith(
        "Z handler_begin (disk0) priority 294912 pass main"
    )
    other = TraceEvent(0, "m", "t", "vfio_arc_end", {"name": "vf0", "depth": 3, "error": "cut\nshort"})
    assert format_event(other).endswith("Z vfio_arc_end (vf0) depth 3 error cut short")


def test_a_save_thread_s_line_has_what_qemu_s_has() -> None:
    name = "vfio_save_complete_precopy_thread_start"
    line = format_event(TraceEvent(0, "m", "t", name, {"name": "vf0"}))
    assert line.endswith("Z vfio_save_complete_precopy_thread_start  (vf0) idstr vf0 instance 0")
    line = format_event(TraceEvent(0, "m", "t", name, {"name": "vf0", "idstr": "0000:01/vfio", "instance": 2}))
    assert line.endswith("  (vf0) idstr 0000:01/vfio instance 2")


def test_what_qemu_s_line_has_no_place_for_is_not_in_it() -> None:
    event = TraceEvent(9, "m", "t", "vfio_save_block", {"name": "vf0", "data_size": 1048576, "began_ns": 4})
    assert format_event(event).endswith("Z vfio_save_block  (vf0) data_size 1048576")


def test_packets_of_channels_are_written_in_our_style() -> None:
    fields = {"channel": 1, "name": "vf0", "bytes": 4096}
    line = format_event(TraceEvent(0, "m", "t", "multifd_send_begin", fields))
    assert line.endswith("Z multifd_send_begin (vf0) channel 1 bytes 4096")


@pytest.mark.parametrize(
    "scenario",
    [load_scenario("host"), whole_scenario(), whole_scenario(channels=2)],
    ids=["host", "whole", "over channels"],
)
def test_a_run_s_log_is_in_order_and_known_line_by_line(scenario: Scenario) -> None:
    run = run_once(scenario, VirtualClock())
    for machine in ("source", "destination"):
        text = format_log(run.events, machine)
        log = parse_log(text.splitlines(), machine)
        assert {event.name for event in log} <= set(FORMATS)
        assert (log.unknown, log.odd) == (0, ())
        assert log.lines == sum(event.machine == machine for event in run.events)
        assert [line[:27] for line in text.splitlines()] == sorted(line[:27] for line in text.splitlines())


def test_what_threads_recorded_late_is_put_in_order() -> None:
    events = [TraceEvent(ns, "m", "t", "vmstate_downtime_checkpoint", {"checkpoint": str(ns)}) for ns in (2000, 1000)]
    assert [line.split()[-1] for line in format_log(events, "m").splitlines()] == ["1000", "2000"]


def test_a_time_that_the_format_cannot_say_is_an_error() -> None:
    with pytest.raises(ScenarioError, match="year 9999"):
        format_timestamp(10**30)


def test_file_names_have_the_mode_only_where_there_are_several() -> None:
    assert list(log_files("x", ["serial"]).values()) == ["x-src.log", "x-dst.log"]
    assert log_files("x", ["serial", "parallel"])["parallel", "destination"] == "x-parallel-dst.log"
