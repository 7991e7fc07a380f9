from collections import defaultdict
from typing import Any

import pytest
from suite.machines import small
from suite.pictured import over_channels, whole, whole_scenario

from vfio_migration.recorded.parts import part_lane, parts
from vfio_migration.recorded.timeline import Span, SpanKind, Timeline
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock


def span(kind: SpanKind, name: str, start: int, end: int, **more: Any) -> Span:
    fields = {"detail": "", "machine": "vm", "thread": "main", "depth": None, "side": "source", **more}
    return Span(kind, name, start_ns=start, end_ns=end, **fields)


def of_lanes(timeline: Timeline) -> dict[tuple[str, str], list[Span]]:
    found = defaultdict(list)
    for each in parts(timeline):
        lane = part_lane(each)
        assert lane is not None
        found[lane.group, lane.name].append(each)
    return dict(found)


def test_a_switchover_without_them_has_no_parts() -> None:
    assert parts(run_once(small(), VirtualClock()).timeline) == []
    assert parts(Timeline((), None, None)) == []


@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_memory_states_loading_configurations_and_fixed_costs_have_lanes(mode: str) -> None:
    lanes = of_lanes(whole().modes[mode].typical.timeline)
    assert sorted(lanes) == [
        ("loading", "vf0"),
        ("loading", "vf1"),
        ("phases", "destination"),
        ("phases", "source"),
        ("sending", "RAM"),
        ("sending", "device states"),
    ]
    assert [each.name for each in lanes["phases", "source"]] == [
        "pause_vcpus",
        "flush_block",
        "final_query",
        "other_state",
    ]
    assert [each.name for each in lanes["phases", "destination"]] == ["load_state", "activate_block"]
    assert [round(each.seconds * 1e3) for each in lanes["phases", "source"]] == [5, 12, 20, 15]


def test_they_take_what_is_planned_for_them() -> None:
    size = 20_000_000 + 4096  # what pre-copy had to send fits, and is left for the switchover
    lanes = of_lanes(whole().modes["parallel"].typical.timeline)
    (config,) = [each for each in lanes["loading", "vf1"] if each.kind is SpanKind.CONFIG]
    assert config.seconds == pytest.approx(0.010)
    loaded = [each for each in lanes["loading", "vf1"] if each.kind is SpanKind.LOAD]
    assert sum(each.busy_s for each in loaded) == pytest.approx(size / 400e6)
    assert sum(each.size for each in loaded) == size
    sent = [each for each in lanes["sending", "device states"] if each.name == "vf0"]
    assert sum(each.busy_s for each in sent) == pytest.approx(size / 2e9)
    assert sum(each.size for each in sent) == size
    assert {each.side for each in sent} == {"source"}
    assert {each.side for each in loaded} == {"destination"}


def test_each_channel_has_a_lane_and_so_has_each_device_that_a_thread_loads() -> None:
    lanes = of_lanes(over_channels())
    assert {lane: [(each.kind, each.name) for each in spans] for lane, spans in lanes.items()} == {
        ("sending", "RAM"): [(SpanKind.SECTION, "ram")],
        ("sending", "channel 0"): [(SpanKind.SEND, "vf0")] * 2,
        ("sending", "channel 1"): [(SpanKind.SEND, "vf1")] * 2,
        # Of this one only the thread is known, of the other what it loaded.
        ("loading", "vf0"): [(SpanKind.LOADER, "vf0"), (SpanKind.CONFIG, "vf0")],
        ("loading", "vf1"): [(SpanKind.LOAD, "vf1"), (SpanKind.CONFIG, "vf1")],
    }


def test_a_run_over_channels_has_them_and_sends_and_loads_every_byte() -> None:
    lanes = of_lanes(run_once(whole_scenario(channels=2), VirtualClock()).timeline)
    assert {name for group, name in lanes if group == "sending"} == {"RAM", "channel 0", "channel 1"}
    over = [each for (group, name), spans in lanes.items() if name.startswith("channel") for each in spans]
    for device in ("vf0", "vf1"):
        sent = [each for each in over if each.name == device]
        assert {each.side for each in sent} == {"source"}
        loaded = [each for each in lanes["loading", device] if each.kind is SpanKind.LOAD]
        assert {each.thread for each in loaded} != {each.thread for each in lanes["sending", "RAM"]}
        assert sum(each.size for each in sent) >= 20_000_000
        assert sum(each.size for each in loaded) >= 20_000_000
        assert [each.kind for each in lanes["loading", device]].count(SpanKind.CONFIG) == 1


def test_lanes_are_in_the_order_in_which_things_go() -> None:
    found = {part_lane(each) for each in (*parts(over_channels()), *parts(whole().modes["serial"].typical.timeline))}
    in_order = sorted((lane for lane in found if lane is not None), key=lambda lane: (lane.order, lane.name))
    assert [f"{lane.group} {lane.name}" for lane in in_order] == [
        "sending RAM",
        "sending device states",
        "sending channel 0",
        "sending channel 1",
        "loading vf0",
        "loading vf1",
        "phases source",
        "phases destination",
    ]


def test_what_is_no_part_has_no_lane() -> None:
    assert part_lane(span(SpanKind.ARC, "vf0", 0, 1)) is None
    assert part_lane(span(SpanKind.SAVE, "vf0", 0, 1)) is None


def test_what_was_still_being_loaded_when_the_switchover_began_counts_from_there() -> None:
    late = span(SpanKind.LOAD, "vf0", 5, 30, side="destination", size=9)
    spans = (late, span(SpanKind.LOAD, "vf0", 2, 4), span(SpanKind.SECTION, "ram", 8, 12))
    assert [(each.start_ns, each.end_ns, each.size) for each in parts(Timeline(spans, 10, 90))] == [(10, 30, 9)]


def test_what_else_has_a_section_has_a_lane_of_its_name_and_a_device_s_section_none() -> None:
    spans = (
        span(SpanKind.SECTION, "vf0", 0, 5),
        span(SpanKind.SAVE, "vf0", 0, 5),
        span(SpanKind.SECTION, "disks", 5, 9),
        span(SpanKind.SECTION, "clock", 9, 9),
    )
    assert list(of_lanes(Timeline(spans, 0, 9))) == [("sending", "disks")]
