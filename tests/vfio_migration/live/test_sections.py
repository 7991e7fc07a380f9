"""The sections of the stream in the trace."""

import pytest
from suite.machines import small
from suite.pictured import whole_scenario

from vfio_migration import MigrationStatus
from vfio_migration.live.ram import Ram
from vfio_migration.scenarios.runner import run_once
from vmstate import SaveStream, TraceEvent, VirtualClock

SECTION = ("savevm_section_start", "savevm_section_end")


def sections(events: list[TraceEvent]) -> list[tuple[str, str, int]]:
    return [
        (each.name.removeprefix("savevm_section_"), each.fields["id"], each.fields["section_id"])
        for each in events
        if each.name in SECTION
    ]


def at_the_stop(events: list[TraceEvent]) -> int:
    """Give where the switchover begins in them."""
    return next(place for place, each in enumerate(events) if each.fields.get("checkpoint") == "src-downtime-start")


def test_each_section_of_the_switchover_begins_and_ends_in_the_trace_memory_first() -> None:
    events = list(run_once(whole_scenario(), VirtualClock()).events)
    names = ["ram", "other state", "vf0", "vf1"]
    both = [(end, name, place) for place, name in enumerate(names) for end in ("start", "end")]
    assert sections(events[at_the_stop(events) :]) == [*both, *both]  # what is iterable, then what is not
    assert {each.machine for each in events if each.name in SECTION} == {"source"}


def test_pre_copy_s_sections_are_there_too() -> None:
    events = list(run_once(whole_scenario(), VirtualClock()).events)
    before = sections(events[: at_the_stop(events)])
    assert before == [("start", "ram", 0), ("end", "ram", 0)] * (len(before) // 2)
    assert len(before) >= 4


def test_a_section_that_fails_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ram: Ram, stream: SaveStream) -> None:
        raise OSError("the memory is gone")

    monkeypatch.setattr(Ram, "save_complete", broken)
    run = run_once(whole_scenario(), VirtualClock())
    assert run.report.status is MigrationStatus.FAILED
    assert sections(list(run.events))[-1] == ("start", "ram", 0)


def test_pieces_and_configurations_are_told_on_the_side_that_has_them() -> None:
    events = list(run_once(whole_scenario(), VirtualClock()).events)
    sent = [each for each in events if each.name == "vfio_save_block"]
    loaded = [each for each in events if each.name == "vfio_load_state_device_data"]
    assert {each.machine for each in sent} == {"source"}
    assert {each.machine for each in loaded} == {"destination"}
    for name in ("vf0", "vf1"):
        state = sum(each.fields["data_size"] for each in sent if each.fields["name"] == name)
        data = sum(each.fields["size"] for each in loaded if each.fields["name"] == name)
        assert state == 20_000_000 + 4096
        assert state <= data < state + 100  # with the mark at the end of it
    configs = [each for each in events if each.name.startswith("vfio_load_device_config_state_")]
    assert [(each.name.rpartition("_")[2], each.fields["name"]) for each in configs] == [
        ("start", "vf0"),
        ("end", "vf0"),
        ("start", "vf1"),
        ("end", "vf1"),
    ]


def test_of_pieces_that_took_no_time_nothing_is_told() -> None:
    events = run_once(small(), VirtualClock()).events
    assert any(each.name == "vfio_save_complete_precopy" for each in events)
    assert not [each.name for each in events if each.name in ("vfio_save_block", "vfio_load_state_device_data")]


def test_a_machine_that_is_not_traced_migrates_as_well() -> None:
    traced = run_once(whole_scenario(), VirtualClock())
    untraced = run_once(whole_scenario(), VirtualClock(), record=False)
    assert untraced.events == ()
    assert untraced.completed
    assert untraced.report.stream_sha256 == traced.report.stream_sha256
    assert untraced.report.switchover_s == traced.report.switchover_s
