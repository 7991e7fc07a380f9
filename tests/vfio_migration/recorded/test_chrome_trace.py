import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from suite.pictured import over_channels, whole
from typer.testing import CliRunner

from vfio_migration.cli.main import app
from vfio_migration.recorded.chrome_trace import chrome_trace
from vfio_migration.recorded.timeline import SpanKind, Timeline
from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock


def events_of(trace: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


@pytest.fixture(scope="module", params=["per-change", "parked"])
def timeline(request: pytest.FixtureRequest) -> Timeline:
    return run_once(load_scenario("host").with_threads(request.param), VirtualClock()).timeline


@pytest.fixture(scope="module", params=["whole", "channels"])
def with_parts(request: pytest.FixtureRequest) -> Timeline:
    return whole().modes["serial"].typical.timeline if request.param == "whole" else over_channels()


def test_every_span_is_a_complete_event(timeline: Timeline) -> None:
    events = events_of(chrome_trace({"": timeline}), "X")
    assert len(events) == len(timeline.spans)
    for event in events:
        assert set(event) == {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"}
        assert event["dur"] >= 0


def test_events_of_a_thread_are_nested_properly(timeline: Timeline) -> None:
    check_nesting(timeline)


def test_so_are_those_of_what_is_sent_and_loaded(with_parts: Timeline) -> None:
    check_nesting(with_parts)


def check_nesting(timeline: Timeline) -> None:
    threads = defaultdict(list)
    for event in events_of(chrome_trace({"": timeline}), "X"):
        threads[event["pid"], event["tid"]].append(
            (round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000))
        )
    for spans in threads.values():
        open_until: list[int] = []
        for start, end in sorted(spans, key=lambda each: (each[0], -each[1])):
            while open_until and open_until[-1] <= start:
                open_until.pop()
            assert not open_until or end <= open_until[-1]
            open_until.append(end)


def test_source_and_destination_are_processes_and_threads_have_their_names(timeline: Timeline) -> None:
    trace = chrome_trace({"parallel": timeline})
    names = {(each["name"], each["args"].get("name")) for each in events_of(trace, "M")}
    assert {("process_name", "parallel: source"), ("process_name", "parallel: destination")} <= names
    assert ("thread_name", "vfio_vmstate_change gpu0") in names


def lanes_of(timeline: Timeline) -> dict[str, list[str]]:
    """Give the names of the events of each lane that is no real thread's."""
    trace = chrome_trace({"": timeline})
    names = {
        (each["pid"], each["tid"]): each["args"]["name"]
        for each in events_of(trace, "M")
        if each["name"] == "thread_name"
    }
    found: dict[str, list[str]] = defaultdict(list)
    for each in events_of(trace, "X"):
        lane = names[each["pid"], each["tid"]]
        if lane.partition(" ")[0] in ("sending", "loading", "phases"):
            found[lane].append(each["name"])
    return found


def test_what_is_sent_and_loaded_has_lanes_of_its_own() -> None:
    found = lanes_of(whole().modes["serial"].typical.timeline)
    assert sorted(found) == [
        "loading vf0",
        "loading vf1",
        "phases destination",
        "phases source",
        "sending RAM",
        "sending device states",
    ]
    assert found["phases destination"] == ["load_state", "activate_block"]
    # Ten iterations of pre-copy at most and the switchover's, two sections each: memory is there before the stop, too.
    assert len(found["sending RAM"]) > 2


def test_each_channel_has_one_and_a_piece_says_how_many_bytes_it_is() -> None:
    assert sorted(lanes_of(over_channels())) == [
        "loading vf0",
        "loading vf1",
        "sending RAM",
        "sending channel 0",
        "sending channel 1",
    ]
    events = events_of(chrome_trace({"": over_channels()}), "X")
    (first, _) = [each for each in events if each["name"] == "vf1 channel 1"]
    assert first["args"]["bytes"] == 1 << 20
    assert first["args"]["busy_seconds"] == 0.01


def test_an_arc_has_its_device_and_depth_as_arguments(timeline: Timeline) -> None:
    events = [each for each in events_of(chrome_trace({"": timeline}), "X") if each["cat"] == SpanKind.ARC]
    gpu = [each for each in events if each["name"] == "gpu0 PRE_COPY_P2P -> STOP_COPY"]
    assert [each["args"] for each in gpu] == [{"device": "gpu0", "depth": 5, "side": "source", "seconds": 0.1}]


def test_times_count_from_the_beginning_of_the_switchover(timeline: Timeline) -> None:
    (stop,) = [each for each in events_of(chrome_trace({"": timeline}), "X") if each["name"] == "stop"]
    assert stop["ts"] == 0


def test_the_command_writes_both_modes_into_one_file(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    result = CliRunner().invoke(app, ["run", "vfs", "--virtual", "--runs", "1", "--trace", str(file)])
    assert result.exit_code == 0
    names = {each["args"].get("name") for each in events_of(json.loads(file.read_text()), "M")}
    assert {"serial: source", "serial: destination", "parallel: source", "parallel: destination"} <= names


def test_nowhere_to_write_is_said_before_anything_runs(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "vfs", "--trace", str(tmp_path / "no" / "trace.json")])
    assert result.exit_code == 2
    assert "cannot be written" in result.output
