import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.bundled import SHORT
from suite.pictured import whole

from vfio_migration.recorded.critical_path import Link, condensed, critical_path
from vfio_migration.recorded.timeline import Span, SpanKind, Timeline
from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock


def span(kind: SpanKind, name: str, start: int, end: int, **more: Any) -> Span:
    fields = {"detail": "", "machine": "vm", "thread": "main", "depth": 3, "side": "source", **more}
    return Span(kind, name, start_ns=start, end_ns=end, **fields)


def arc(name: str, start: int, end: int, detail: str = "A -> B", **more: Any) -> Span:
    return span(SpanKind.ARC, name, start, end, detail=detail, thread=f"thread {name}", **more)


def change(name: str, start: int, end: int) -> Span:
    return span(SpanKind.CHANGE, name, start, end, detail="main", thread=f"thread {name}")


def path_of(*spans: Span, start: int = 0, end: int = 100) -> list[tuple[str, str, float]]:
    links = critical_path(Timeline(spans, start, end))
    return [
        ("-", "", link.seconds) if link.span is None else (link.span.name, link.span.detail, link.seconds)
        for link in links
    ]


def ns(number: int) -> float:
    return number / 1e9


def test_without_a_switchover_there_is_no_path() -> None:
    assert critical_path(Timeline((arc("vf0", 0, 5),), None, None)) == ()


def test_what_was_waited_for_last_is_followed_back_to_the_beginning() -> None:
    found = path_of(arc("slow", 0, 60), arc("fast", 0, 20), arc("next", 60, 100))
    assert found == [("slow", "A -> B", ns(60)), ("next", "A -> B", ns(40))]


def test_time_in_which_nothing_was_done_is_a_link_of_its_own() -> None:
    assert path_of(arc("vf0", 10, 50), end=60) == [("-", "", ns(10)), ("vf0", "A -> B", ns(40)), ("-", "", ns(10))]


def test_within_a_device_s_change_an_arc_waits_for_the_one_before_not_for_another_device() -> None:
    found = path_of(
        change("vf0", 0, 100),
        arc("vf0", 0, 50, "A -> B"),
        arc("vf0", 60, 100, "B -> C"),
        change("vf1", 0, 58),
        arc("vf1", 0, 58),
    )
    assert found == [("vf0", "A -> B", ns(50)), ("-", "", ns(10)), ("vf0", "B -> C", ns(40))]


def test_devices_that_took_as_long_at_the_same_time_are_named_with_it() -> None:
    spans = arc("vf0", 0, 100), arc("vf1", 0, 98), arc("vf2", 0, 50), arc("far", 0, 100, depth=5)
    (link,) = critical_path(Timeline(spans, 0, 100))
    assert link.also == ("vf1",)


def test_a_link_says_who_did_what_for_how_long_and_which_share_that_is() -> None:
    links = critical_path(Timeline((arc("gpu2", 0, 48_000_000, "PRE_COPY_P2P -> STOP_COPY"),), 0, 154_838_710))
    assert str(links[0]) == "gpu2: PRE_COPY_P2P -> STOP_COPY, 48.0 ms, 31.0 % of the switchover"


def test_what_devices_do_in_turn_is_put_together_and_the_rest_is_the_last_line() -> None:
    spans = arc("a", 0, 40), arc("b", 40, 80), span(SpanKind.HANDLER, "disk", 80, 90, detail="main")
    lines = [str(link) for link in condensed(critical_path(Timeline(spans, 0, 100)), most=1)]
    assert lines == [
        "a, b in turn: A -> B, 0.0 ms, 80.0 % of the switchover",
        "all the rest, 0.0 ms, 20.0 % of the switchover",
    ]


@pytest.mark.parametrize("mode", ["serial", "parallel"])
@pytest.mark.parametrize("name", SHORT)
def test_in_virtual_time_the_path_is_work_without_a_gap_and_as_long_as_the_switchover(name: str, mode: str) -> None:
    scenario = load_scenario(name)
    run = run_once(scenario if mode == "parallel" else scenario.serial(), VirtualClock())
    path = critical_path(run.timeline)
    assert all(link.span is not None for link in path)
    assert sum(link.seconds for link in path) == pytest.approx(run.report.switchover_s)
    assert sum(link.share for link in path) == pytest.approx(1)


@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_memory_loading_and_fixed_costs_are_waited_for_too(mode: str) -> None:
    run = whole().modes[mode].typical
    path = critical_path(run.timeline)
    assert sum(link.seconds for link in path) == pytest.approx(run.report.switchover_s)
    assert all(link.span is not None for link in path)
    lines = [link.what for link in condensed(path, None)]
    # Of the transfer only the first piece, as loading is what takes long.
    for line in (
        "RAM: sent",
        "vf0: state transferred",
        "vf0, vf1 in turn: state loaded",
        "vf0, vf1 in turn: configuration loaded",
    ):
        assert line in lines
    # All but `other_state`, which is over before what was sent is loaded.
    assert [line.partition(":")[0] for line in lines if line.endswith(": fixed cost of a phase")] == [
        "pause_vcpus",
        "flush_block",
        "final_query",
        "load_state",
        "activate_block",
    ]
    assert not any("handler, prepare pass" in line for line in lines)


def test_what_is_loaded_waits_for_what_was_loaded_before_or_else_to_be_sent() -> None:
    load, save = SpanKind.LOAD, SpanKind.SAVE
    beside: dict[str, Any] = {"side": "destination", "thread": "loads"}
    slow = path_of(span(save, "a", 0, 50), span(load, "a", 20, 70, **beside), span(load, "b", 70, 100, **beside))
    assert slow == [("a", "", ns(20)), ("a", "", ns(50)), ("b", "", ns(30))]
    quick = path_of(span(save, "a", 0, 90), span(load, "a", 50, 89, **beside), span(load, "a", 91, 100, **beside))
    assert quick == [("a", "", ns(90)), ("-", "", ns(1)), ("a", "", ns(9))]


def test_a_thread_s_loading_waits_for_the_transfer_of_its_device_which_is_still_under_way() -> None:
    loads = {"side": "destination", "thread": "loads b"}
    found = path_of(
        span(SpanKind.SAVE, "a", 0, 40, thread="save a"),
        span(SpanKind.SAVE, "b", 0, 95, thread="save b"),
        span(SpanKind.LOAD, "b", 5, 35, **loads),
        span(SpanKind.LOAD, "b", 60, 100, **loads),
    )
    assert found == [("b", "", ns(60)), ("b", "", ns(40))]


names = st.sampled_from(["a", "b", "c"])
moments = st.integers(0, 100)


@given(
    st.lists(st.builds(lambda name, one, other: arc(name, min(one, other), max(one, other)), names, moments, moments))
)
def test_any_spans_give_a_chain_that_covers_the_switchover_once(spans: list[Span]) -> None:
    path = critical_path(Timeline(tuple(spans), 0, 100))
    assert sum(round(link.seconds * 1e9) for link in path) == 100
    found = [link.span for link in path if link.span is not None]
    assert all(first.end_ns <= second.start_ns for first, second in pairwise(found))
    short = condensed(path)
    assert sum(link.seconds for link in short) == pytest.approx(ns(100))
    assert all(isinstance(link, Link) for link in short)


def test_ties_push_no_larger_wait_out() -> None:
    ties = [arc(f"vf{number}", number, number + 1, f"A -> {number}") for number in range(20)]
    path = critical_path(Timeline((*ties, arc("gpu0", 20, 100, "C -> D")), 0, 100))
    assert [link.span.name for link in condensed(path) if link.span] == ["vf0", "vf1", "vf2", "vf3", "vf4", "gpu0"]
    assert len(condensed(path, most=None)) == 21


def test_ten_thousand_handlers_are_followed_in_no_time() -> None:
    handlers = [
        span(SpanKind.HANDLER, f"h{number}", number, number + 1, detail="main", depth=None) for number in range(10_000)
    ]
    before = time.process_time()
    path = critical_path(Timeline(tuple(handlers), 0, 10_000))
    assert [link.span.name for link in path if link.span] == [handler.name for handler in handlers]
    assert time.process_time() - before < 2
