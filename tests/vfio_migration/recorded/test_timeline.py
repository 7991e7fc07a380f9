from dataclasses import replace

import pytest
from suite.machines import make_machine

from vfio_migration.recorded.timeline import Span, SpanKind, Timeline, build_timeline
from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.runner import run_once
from vmstate import TraceEvent, VirtualClock, device_priority


def event(name: str, time_ns: int, /, *, machine: str = "source", thread: str = "main", **fields: object) -> TraceEvent:
    return TraceEvent(time_ns, machine, thread, name, fields)


def arc(what: str, time_ns: int, name: str = "vf0", *, machine: str = "source", thread: str = "main") -> TraceEvent:
    fields = {"name": name, "depth": 3, "current": "RUNNING", "target": "RUNNING_P2P"}
    return event(f"vfio_arc_{what}", time_ns, machine=machine, thread=thread, **fields)


def handler(what: str, time_ns: int, priority: int) -> TraceEvent:
    return event(f"handler_{what}", time_ns, handler="disk", priority=priority, kind="prepare")


def checkpoint(name: str, time_ns: int) -> TraceEvent:
    return event("vmstate_downtime_checkpoint", time_ns, checkpoint=name)


def span(start_ns: int, end_ns: int) -> Span:
    return Span(SpanKind.ARC, "vf0", "", "source", "main", 1, start_ns, end_ns)


def switchover_of(scenario: Scenario) -> Timeline:
    timeline = run_once(scenario, VirtualClock()).timeline
    return replace(timeline, spans=timeline.switchover())


def test_nothing_recorded_is_an_empty_timeline() -> None:
    timeline = build_timeline([])
    assert timeline == Timeline((), None, None)
    assert timeline.switchover() == ()


def test_an_arc_is_a_span_with_its_states_and_its_device_s_depth() -> None:
    (found,) = build_timeline([arc("begin", 10, thread="t"), arc("end", 2_000_000_010, thread="t")]).spans
    assert found == Span(SpanKind.ARC, "vf0", "RUNNING -> RUNNING_P2P", "source", "t", 3, 10, 2_000_000_010)
    assert found.seconds == 2.0


@pytest.mark.parametrize(
    ("priority", "depth"), [(0, None), (-5, None), (device_priority(0), 0), (device_priority(4, -1), 4)]
)
def test_a_handler_is_a_span_with_its_pass_and_the_depth_of_its_priority(priority: int, depth: int | None) -> None:
    (found,) = build_timeline([handler("begin", 1, priority), handler("end", 4, priority)]).spans
    assert found == Span(SpanKind.HANDLER, "disk", "prepare", "source", "main", depth, 1, 4)


def test_saving_a_device_is_a_span() -> None:
    name = "vfio_save_complete_precopy"
    (found,) = build_timeline([event(f"{name}_start", 1, name="vf0"), event(name, 9, name="vf0", ret=0)]).spans
    assert found == Span(SpanKind.SAVE, "vf0", "", "source", "main", None, 1, 9)


def test_spans_at_the_same_time_are_told_apart_by_device_machine_and_thread() -> None:
    ways = [("vf0", "source", "t0"), ("vf1", "source", "t0"), ("vf0", "destination", "t0"), ("vf0", "source", "t1")]
    events = [arc("begin", n, name, machine=m, thread=t) for n, (name, m, t) in enumerate(ways)]
    events += [arc("end", 10 + n, name, machine=m, thread=t) for n, (name, m, t) in enumerate(ways)]
    spans = build_timeline(events).spans
    assert [(each.name, each.machine, each.thread, each.start_ns, each.end_ns) for each in spans] == [
        (*way, n, 10 + n) for n, way in enumerate(ways)
    ]


def test_spans_come_in_the_order_of_their_beginning_not_of_their_end() -> None:
    events = [handler("begin", 1, 0), arc("begin", 2), arc("end", 3), handler("end", 4, 0)]
    assert [each.start_ns for each in build_timeline(events).spans] == [1, 2]


def test_what_was_never_closed_or_never_opened_is_left_out() -> None:
    events = [arc("end", 1, "vf1"), arc("begin", 2), handler("begin", 3, 0), handler("end", 4, 0)]
    assert [each.name for each in build_timeline(events).spans] == ["disk"]


def test_the_switchover_is_what_lies_between_its_two_checkpoints() -> None:
    events = [
        arc("begin", 1, "before"),
        arc("end", 5, "before"),
        arc("begin", 5, "across"),
        checkpoint("src-downtime-start", 6),
        arc("end", 7, "across"),
        arc("begin", 7, "inside"),
        checkpoint("src-vm-stopped", 8),
        arc("begin", 8, "late"),
        arc("end", 9, "inside"),
        checkpoint("dst-precopy-bh-vm-started", 9),
        arc("end", 10, "late"),
    ]
    timeline = build_timeline(events)
    assert (timeline.start_ns, timeline.end_ns) == (6, 9)
    assert [each.name for each in timeline.switchover() if each.kind is SpanKind.ARC] == ["inside"]
    assert len(timeline.select(SpanKind.ARC)) == 4
    assert timeline.switchover_s == 3 / 1e9


def test_a_switchover_that_began_anew_has_not_ended() -> None:
    times = [checkpoint("src-downtime-start", 1), checkpoint("dst-precopy-bh-vm-started", 2)]
    timeline = build_timeline([*times, checkpoint("src-downtime-start", 3)])
    assert (timeline.start_ns, timeline.end_ns) == (3, None)
    assert timeline.switchover() == ()


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ((0, 2), (1, 3), True),
        ((0, 3), (1, 2), True),
        ((0, 1), (0, 1), True),
        ((0, 1), (1, 2), False),  # one ends as the other begins
        ((0, 1), (2, 3), False),
    ],
)
def test_spans_overlap_if_there_was_a_moment_at_which_both_went_on(
    one: tuple[int, int], other: tuple[int, int], overlap: bool
) -> None:
    assert span(*one).overlaps(span(*other)) is span(*other).overlaps(span(*one)) is overlap


def test_a_failed_arc_is_a_span_as_long_as_it_took() -> None:
    rig = make_machine()
    rig.add_device("vf0", latency=0.25, fail="RUNNING -> RUNNING_P2P")
    rig.machine.start()
    arcs = rig.timeline.select(SpanKind.ARC)
    assert [(each.detail, each.seconds) for each in arcs] == [("RUNNING -> RUNNING_P2P", 0.25)]
    assert arcs[0].thread == "vfio_vmstate_change_prepare vf0"


@pytest.mark.parametrize("parallel", [True, False])
def test_a_migration_s_timeline_has_every_change_join_transfer_and_phase(parallel: bool) -> None:
    scenario = load_scenario("vfs")
    timeline = switchover_of(scenario if parallel else scenario.serial())
    changes = timeline.select(SpanKind.CHANGE, "vf0")
    assert [(each.side, each.detail) for each in changes] == [
        ("source", "prepare"),
        ("source", "main"),
        ("destination", "prepare"),
        ("destination", "main"),
    ]
    assert {each.thread == f"vfio_vmstate_change{'_prepare' * (each.detail == 'prepare')} vf0" for each in changes} == {
        parallel
    }
    joins = timeline.select(SpanKind.JOIN, "vf0")
    assert [(each.side, each.detail) for each in joins] == [(each.side, each.detail) for each in changes] * parallel
    assert [each.name for each in timeline.select(SpanKind.PHASE)] == ["stop", "transfer", "start"]
    assert len(timeline.select(SpanKind.SAVE)) == 4
    (stop,) = timeline.select(SpanKind.PHASE, "stop", side="source")
    handlers = timeline.select(SpanKind.HANDLER, side="source")
    assert handlers
    assert all(stop.holds(each) for each in handlers)


def test_a_join_lasts_until_the_change_ends_that_it_waits_for() -> None:
    timeline = switchover_of(load_scenario("vfs"))
    assert timeline.select(SpanKind.JOIN)
    for join in timeline.select(SpanKind.JOIN):
        (change,) = timeline.select(SpanKind.CHANGE, join.name, join.detail, join.side)
        assert join.end_ns >= change.end_ns > change.start_ns
        assert join.depth == change.depth == 3


def test_spans_are_selected_by_shell_patterns() -> None:
    spans = build_timeline([arc("begin", 1), arc("end", 2), arc("begin", 3, "gpu0"), arc("end", 4, "gpu0")])
    assert [each.name for each in spans.select(SpanKind.ARC, "vf*")] == ["vf0"]
    assert [each.name for each in spans.select(detail="RUNNING -> *")] == ["vf0", "gpu0"]
    assert spans.select(side="source") == ()


def test_a_kind_or_side_that_does_not_exist_is_an_error() -> None:
    timeline = build_timeline([])
    assert timeline.select("arc", side="source") == ()
    with pytest.raises(ValueError, match="'arcs' is not a valid SpanKind"):
        timeline.select("arcs")
    with pytest.raises(ValueError, match="side is 'source'"):
        timeline.select(side="src")


# What is sent and loaded:


def piece(event: str, began_ns: int, time_ns: int, size: int = 10, of: str = "vf0") -> TraceEvent:
    key = "data_size" if event == "vfio_save_block" else "size"
    return TraceEvent(time_ns, "source", "main", event, {"name": of, key: size, "began_ns": began_ns})


@pytest.mark.parametrize(
    ("events", "fields", "kind", "name", "detail"),
    [
        (("savevm_section_start", "savevm_section_end"), {"id": "ram", "section_id": 2}, SpanKind.SECTION, "ram", ""),
        (
            ("vfio_save_complete_precopy_thread_start", "vfio_save_complete_precopy_thread_end"),
            {"name": "vf0"},
            SpanKind.SAVE,
            "vf0",
            "",
        ),
        (
            ("multifd_send_begin", "multifd_send_end"),
            {"channel": 3, "name": "vf0", "bytes": 7},
            SpanKind.SEND,
            "vf0",
            "channel 3",
        ),
        (("vfio_load_bufs_thread_start", "vfio_load_bufs_thread_end"), {"name": "vf0"}, SpanKind.LOADER, "vf0", ""),
        (
            ("vfio_load_state_device_buffer_load_start", "vfio_load_state_device_buffer_load_end"),
            {"name": "vf0", "idx": 1},
            SpanKind.LOAD,
            "vf0",
            "",
        ),
        (
            ("vfio_load_device_config_state_start", "vfio_load_device_config_state_end"),
            {"name": "vf0"},
            SpanKind.CONFIG,
            "vf0",
            "",
        ),
        (("migration_phase_begin", "migration_phase_end"), {"name": "flush_block"}, SpanKind.COST, "flush_block", ""),
    ],
)
def test_what_is_sent_what_is_loaded_and_fixed_costs_are_spans(
    events: tuple[str, str], fields: dict[str, object], kind: SpanKind, name: str, detail: str
) -> None:
    (begin, end), where = events, ("source", "main")
    (found,) = build_timeline([TraceEvent(1, *where, begin, fields), TraceEvent(9, *where, end, fields)]).spans
    assert found == Span(kind, name, detail, "source", "main", None, 1, 9)
    assert found.size == fields.get("bytes", 0)


@pytest.mark.parametrize(
    ("name", "kind"), [("vfio_save_block", SpanKind.SEND), ("vfio_load_state_device_data", SpanKind.LOAD)]
)
def test_pieces_that_follow_at_once_are_one_span_which_knows_how_long_it_was_at_it(name: str, kind: SpanKind) -> None:
    events = [piece(name, 0, 100), piece(name, 100, 200), piece(name, 205, 305), piece(name, 400, 500, 3)]
    spans = build_timeline(events).spans
    assert [(each.kind, each.start_ns, each.end_ns, each.size) for each in spans] == [
        (kind, 0, 305, 30),
        (kind, 400, 500, 3),
    ]
    assert [round(each.busy_s * 1e9) for each in spans] == [300, 100]
    assert [(each.begun, each.ended) for each in spans] == [(0, 2), (3, 3)]


def test_pieces_of_several_devices_and_those_that_took_no_time_are_not_joined() -> None:
    name = "vfio_load_state_device_data"
    other = piece(name, 100, 200, of="vf1")
    events = [piece(name, 0, 100), other, piece(name, 200, 300), piece(name, 300, 300)]
    assert [(each.name, each.start_ns) for each in build_timeline(events).spans] == [
        ("vf0", 0),
        ("vf1", 100),
        ("vf0", 200),
    ]


def test_a_piece_that_does_not_say_when_it_began_leaves_no_span() -> None:
    assert build_timeline([event("vfio_save_block", 5, name="vf0", data_size=1)]).spans == ()
