import io
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console
from suite.bundled import SHORT
from suite.machines import SMALL, small
from suite.pictured import over_channels, whole

from vfio_migration import MockDevice
from vfio_migration.drawing.terminal import print_result, print_timeline
from vfio_migration.recorded.timeline import Timeline
from vfio_migration.scenarios.file import load_scenario, parse_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.runner import Result, run_once, run_scenario
from vmstate import VirtualClock


def terminal(encoding: str = "utf-8", width: int = 80) -> Console:
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=width, highlight=False)


def printed(console: Console) -> list[str]:
    file = console.file
    assert isinstance(file, io.TextIOWrapper)
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(file.encoding).splitlines()


def shown(scenario: Scenario, encoding: str = "utf-8", width: int = 80, **options: int) -> list[str]:
    console = terminal(encoding, width)
    print_result(console, result_of(scenario, **options))
    return printed(console)


def result_of(scenario: Scenario, runs: int = 1) -> Result:
    return run_scenario(scenario, runs=runs, make_clock=VirtualClock)


@cache
def bundled_result(name: str) -> Result:
    return result_of(load_scenario(name))


def renamed(name: str, device: str = "vf") -> Scenario:
    return parse_scenario(SMALL.replace('"vf', f'"{device}'), Path(f"{name}.toml"))


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("width", [40, 80])
def test_a_result_is_plain_text_of_the_console_s_width_and_encoding(name: str, encoding: str, width: int) -> None:
    console = terminal(encoding, width)
    print_result(console, bundled_result(name))
    lines = printed(console)
    assert max(map(len, lines)) <= width
    assert not any("\x1b" in line for line in lines)
    if encoding != "utf-8":
        assert "".join(lines).isascii()


@pytest.mark.parametrize(("encoding", "frame"), [("utf-8", "│"), ("ascii", "|")])
def test_there_is_a_lane_for_each_device_and_for_the_handlers_of_each_depth(encoding: str, frame: str) -> None:
    console = terminal(encoding)
    print_timeline(console, "mixed", run_once(load_scenario("mixed"), VirtualClock()).timeline)
    lines = printed(console)
    lanes = [line for line in lines if line.endswith(frame)]
    assert lines[0] == "mixed: switchover 759.0 ms"
    assert [" ".join(lane.split(frame)[0].split()) for lane in lanes] == [
        "plain handlers",
        "depth 2 vf0",
        "depth 2 vf1",
        "depth 3 handlers",
        "depth 3 gpu0",
        "depth 3 gpu1",
        "depth 3 gpu2",
        "depth 4 handlers",
    ]
    assert {len(lane) for lane in lanes} == {80}
    assert lines[1 + len(lanes)].split() == ["0", "759.0", "ms"]


@pytest.mark.parametrize(
    ("encoding", "frame", "marks"),
    [("utf-8", "│", "▒█▓▒█"), ("ascii", "|", ":#%:#")],
)
def test_a_lane_shows_what_its_device_does_in_proportion(encoding: str, frame: str, marks: str) -> None:
    """Each of the five arcs of the switchover takes 10 ms, and the transfer none."""
    console = terminal(encoding)
    print_timeline(console, "small", run_once(small(), VirtualClock()).timeline)
    lanes = [line.split(frame)[1] for line in printed(console) if line.endswith(frame)]
    width = len(lanes[0])
    assert "".join(lanes[0][int((place + 0.5) * width / 5)] for place in range(5)) == marks
    assert lanes[0] == lanes[1]
    assert " " not in lanes[0]


@pytest.mark.parametrize(
    ("encoding", "entries"),
    [
        ("utf-8", ["▒▒ to *_P2P", "██ to STOP_COPY", "░░ state transferred", "▓▓ loaded", "■■ ordinary handlers"]),
        ("ascii", [":: to *_P2P", "## to STOP_COPY", ".. state transferred", "%% loaded", "oo ordinary handlers"]),
    ],
)
def test_the_legend_explains_the_marks_that_were_drawn(encoding: str, entries: list[str]) -> None:
    text = " ".join(" ".join(shown(load_scenario("mixed"), encoding)).split())
    assert [entry for entry in entries if entry not in text] == []


def test_what_is_sent_loaded_and_fixed_costs_have_lanes_after_those_of_the_depths() -> None:
    console = terminal("ascii")
    print_timeline(console, "whole", whole("parallel").modes["parallel"].typical.timeline)
    lanes = [line.split("|") for line in printed(console) if line.endswith("|")]
    assert [(" ".join(label.split()), set(bar) - {" "}) for label, bar, _ in lanes[3:]] == [
        ("sending RAM", {"~"}),
        ("sending device states", {"~"}),
        ("loading vf0", {"+", "*"}),
        ("loading vf1", {"+", "*"}),
        ("phases source", {"="}),
        ("phases destination", {"="}),
    ]


def test_a_configuration_shows_in_the_lane_of_the_thread_that_loads_it() -> None:
    console = terminal("ascii")
    print_timeline(console, "threads", over_channels())
    (lane,) = [line.split("|")[1] for line in printed(console) if line.startswith("loading  vf0")]
    assert list(dict.fromkeys(lane.strip())) == ["+", "*"]


def test_the_legend_leaves_out_what_was_not_drawn() -> None:
    text = " ".join(shown(small()))
    assert not [words for words in ("ordinary handlers", "sent", "state loaded", "fixed costs") if words in text]


def test_serial_and_parallel_are_drawn_to_the_eye_s_difference() -> None:
    lines = shown(small())
    titles = ("small, serial: switchover 100.0 ms", "small, parallel: switchover 50.0 ms")
    places = [lines.index(title) for title in titles]
    serial, parallel = ([line.split("│")[1] for line in lines[place + 1 : place + 3]] for place in places)

    def together(lanes: list[str]) -> int:
        return sum(one != " " != other for one, other in zip(*lanes, strict=True))

    assert together(serial) <= 1  # where the states are sent, which takes no time here
    assert together(parallel) == len(parallel[0])


def test_figures_bounds_and_their_names_stand_below() -> None:
    lines = [" ".join(line.split()) for line in shown(small(), "ascii", runs=2)]
    assert "small: medians of 2 run(s), in ms" in lines
    figures = [" ".join(line.replace("|", "").split()) for line in lines]
    assert "switchover 100.0 50.0" in figures
    assert "source stops 40.0 20.0" in figures
    for line in (
        "bound, everything in turn 100.0 ms serial_s",
        "bound, this mechanism 50.0 ms mechanism_s: depths in turn",
        "bound, if depths overlapped too 50.0 ms ideal_s",
        "speed-up 2.00 x serial over parallel",
        "efficiency 1.000 mechanism_s over parallel",
    ):
        assert line in lines


@pytest.mark.parametrize("width", [60, 80, 120])
def test_labels_of_bounds_stand_in_one_line(width: int) -> None:
    lines = [" ".join(line.split()) for line in shown(small(), width=width)]
    assert any(line.startswith("bound, if depths overlapped too 50.0 ms") for line in lines)


@pytest.mark.parametrize("width", [40, 60])
def test_the_axis_is_one_line_and_whole_in_a_narrow_terminal(width: int) -> None:
    console = terminal(width=width)
    print_timeline(console, "whole", whole("parallel").modes["parallel"].typical.timeline)
    (axis,) = [line for line in printed(console) if line.strip().startswith("0")]
    assert axis.split()[0] == "0"
    assert axis.rstrip().endswith(" ms")
    assert len(axis) <= width


def test_what_has_no_effect_is_noted() -> None:
    assert any(line.startswith("note: no effect of [ram]") for line in shown(override(small(), ["ram.size=1000"])))
    assert not any(line.startswith("note:") for line in shown(small()))


def test_a_switchover_that_was_not_reached_is_said_and_so_is_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MockDevice, "read", broken)
    text = " ".join(" ".join(line.split()) for line in shown(small(), width=200))
    assert "small, serial: the switchover was not reached, nothing to draw" in text
    gone = "[Errno 5] device 'vf0', pre-copy in machine 'source': the [bus] is gone"
    assert f"serial, run 1: migration failed: {gone}" in text
    assert f"parallel, run 1: migration failed: {gone}" in text
    assert "speed-up" not in text
    assert "efficiency" not in text


def broken(device: MockDevice, size: int) -> bytes:
    raise OSError(5, "the [bus] is gone")


def test_state_that_did_not_arrive_intact_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MockDevice, "state_hash", property(id))
    assert "serial, run 1: the state that arrived is not what was sent" in shown(small())


def test_a_timeline_without_spans_is_said() -> None:
    console = terminal()
    print_timeline(console, "nothing", Timeline((), 0, 1))
    assert printed(console) == ["nothing: the switchover was not reached, nothing to draw"]


def test_brackets_in_a_scenario_s_name_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(shown(renamed("[bold] [x]")))
    assert "[bold] [x], serial: switchover" in text
    assert "[bold] [x]: medians" in text
    monkeypatch.setattr(MockDevice, "read", broken)
    text = "\n".join(shown(renamed("[bold] [x]")))
    assert "[bold] [x], serial: the switchover was not reached" in text


def test_names_that_the_encoding_lacks_do_not_break_the_picture() -> None:
    lines = shown(renamed("größe", "карта"), "ascii")
    assert any("switchover 100.0 ms" in line for line in lines)
    assert "".join(lines).isascii()
