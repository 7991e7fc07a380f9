import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from suite.machines import small
from suite.pictured import host, many, many_over_channels, named, over_channels, whole
from typer.testing import CliRunner

from vfio_migration import MockDevice
from vfio_migration.cli.main import app
from vfio_migration.drawing.lanes import drawn, lanes, tick_label, ticks_s
from vfio_migration.drawing.page import html_page
from vfio_migration.plan.switchover import Bounds
from vfio_migration.recorded.timeline import SpanKind, Timeline
from vfio_migration.scenarios.runner import ModeResult, Result, Run, run_scenario
from vfio_migration.wording import shortened
from vmstate import VirtualClock


class Page(HTMLParser):
    """All elements of a page, with their attributes; and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of_class(self, name: str) -> list[dict[str, str]]:
        return [attrs for _, attrs in self.elements if name in attrs.get("class", "").split()]


def test_every_span_that_is_drawn_has_a_bar_with_words() -> None:
    result = host()
    bars = Page(html_page(result)).of_class("bar")
    assert len(bars) == sum(len(drawn(mode.typical.timeline)) for mode in result.modes.values())
    assert all(bar["role"] == "gridcell" and bar["aria-label"] and bar["data-details"] for bar in bars)
    labels = [bar["aria-label"] for bar in bars]
    assert "vf0, depth 3, source: PRE_COPY_P2P -> STOP_COPY, 80.0 ms, from 174.0 ms, 9.5 % of the switchover" in labels


def test_details_say_which_change_a_step_is_part_of_and_how_long_it_was_waited_for() -> None:
    bars = Page(html_page(host("parallel"))).of_class("bar")
    (details,) = [
        bar["data-details"] for bar in bars if bar["aria-label"].startswith("gpu3, depth 5, source: PRE_COPY_P2P")
    ]
    assert details.split("\n")[4:] == [
        "in the main pass, whose change took 100.0 ms",
        "thread: vfio_vmstate_change gpu3",
        "the walk waited 0.0 ms to join it",
    ]


def lane_labels(page: str) -> list[str]:
    return [row["aria-label"] for row in Page(page).of_class("lane")]


def test_what_is_sent_loaded_and_fixed_costs_have_lanes_below_those_of_the_depths() -> None:
    assert lane_labels(html_page(whole("parallel"))) == [
        "handlers, depth 2",
        "vf0, depth 2",
        "vf1, depth 2",
        "RAM, sending",
        "device states, sending",
        "vf0, loading",
        "vf1, loading",
        "source, phases",
        "destination, phases",
    ]


def test_their_bars_say_what_goes_on_and_how_many_bytes_that_are() -> None:
    bars = Page(html_page(whole("parallel"))).of_class("bar")
    details = {tuple(bar["data-details"].split("\n")[:2]): bar["data-details"].split("\n")[4:] for bar in bars}
    assert ("RAM, sending", "source: sent") in details
    assert ("flush_block, phases", "source: fixed cost of a phase") in details
    assert ("vf0, loading", "destination: configuration loaded") in details
    assert details["vf1, loading", "destination: state loaded"] == ["20,004,096 bytes"]
    sent = details["vf0, sending", "source: state sent over the main channel"]
    # The device reads between them, too quickly for an eye to see.
    assert sent == ["20,004,096 bytes", "in pieces: 10.0 ms without the pauses between them"]


def test_the_handlers_in_which_fixed_costs_pass_are_not_drawn_twice() -> None:
    spans = drawn(whole("parallel").modes["parallel"].typical.timeline)
    assert {span.name for span in spans if span.kind is SpanKind.HANDLER} == {"net0"}


def test_channels_are_lanes_by_number() -> None:
    found = [(lane.depth_label, lane.name, len(lane.spans)) for lane in lanes(drawn(over_channels()))]
    assert found == [
        ("depth 0", "vf0", 1),
        ("depth 0", "vf1", 1),
        ("sending", "RAM", 1),
        ("sending", "channel 0", 2),
        ("sending", "channel 1", 2),
        ("loading", "vf0", 2),
        ("loading", "vf1", 2),
    ]


def test_tab_enters_the_chart_at_one_place() -> None:
    bars = Page(html_page(host())).of_class("bar")
    assert [bar["tabindex"] for bar in bars] == ["0", *["-1"] * (len(bars) - 1)]


def test_serial_is_above_parallel_and_both_share_an_axis() -> None:
    page = html_page(host())
    # Changes and handlers take 2,339 and 587 ms. Between them 40 MB of each VF are read in 10.0 and sent in 12.8 ms, 64
    # MB of each GPU in 20.0 and 20.48: 253.1; and 1.1 ms are of memory.
    assert page.index("serial: switchover 2,593.2 ms") < page.index("parallel: switchover 841.2 ms")
    ends = [sum(float(part) for part in re.findall(r"([0-9.]+)%", bar["style"])) for bar in Page(page).of_class("bar")]
    assert max(ends) == pytest.approx(100, abs=0.001)
    serial = len(drawn(host().modes["serial"].typical.timeline))
    assert max(ends[serial:]) == pytest.approx(100 * 841.2442 / 2593.2442, abs=0.001)


def test_the_critical_path_and_the_figures_are_there_to_read() -> None:
    text = Page(html_page(host())).text
    assert "gpu0 (beside gpu1, gpu2, gpu3): PRE_COPY -> PRE_COPY_P2P" in text
    assert "if depths overlapped too: 584.2 ms" in text
    assert "3.08 x" in text


def test_one_mode_fills_the_axis_and_a_bound_beyond_it_is_named() -> None:
    page = Page(html_page(host("parallel")))
    assert len(page.of_class("bound")) == 2
    assert "everything in turn: 2,593.2 ms (beyond the axis)" in page.text


def test_nothing_is_loaded_from_anywhere() -> None:
    page = Page(html_page(host()))
    assert [
        attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    ] == ["default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"]
    assert not {tag for tag, _ in page.elements} & {"img", "iframe", "object", "embed", "base"}
    assert [attrs["href"] for _, attrs in page.elements if "href" in attrs] == ["data:,"]
    assert not any("src" in attrs for _, attrs in page.elements)
    assert not re.search(r"https?:|url\(|@import", html_page(host()))


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "</script>", '"><b onclick="x', "'", "&lt;", "{{chart}}", "\\1"]
)
def test_names_are_escaped(name: str) -> None:
    page = Page(html_page(named(name)))
    plain = Page(html_page(named("vf0")))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    shown = name.replace("\n", "\N{REPLACEMENT CHARACTER}")
    assert all(bar["aria-label"].startswith(f"{shown}, depth 2, ") for bar in page.of_class("bar"))


def test_many_devices_share_names_and_stand_in_natural_order() -> None:
    titles = [attrs["title"] for attrs in Page(html_page(many(64))).of_class("name") if attrs["title"]]
    assert titles[:16] == [f"vf{number}" for number in range(0, 32, 2)]


def test_lanes_are_in_natural_order_unless_told_otherwise() -> None:
    spans = drawn(many(64).modes["serial"].typical.timeline)
    assert [lane.name for lane in lanes(spans)][1:4] == ["vf0", "vf1", "vf2"]


@pytest.mark.parametrize(
    ("end_s", "labels"),
    [
        (2.856, ["0", "500", "1,000", "1,500", "2,000", "2,500"]),
        (0.707, ["0", "100", "200", "300", "400", "500", "600", "700"]),
        (0.0000005, ["0", "0.0001", "0.0002", "0.0003", "0.0004", "0.0005"]),
        (3600.0, ["0", "500,000", "1,000,000", "1,500,000", "2,000,000", "2,500,000", "3,000,000", "3,500,000"]),
    ],
)
def test_ticks_are_few_and_round(end_s: float, labels: list[str]) -> None:
    assert [tick_label(tick) for tick in ticks_s(end_s)] == labels


def test_a_long_text_loses_its_middle() -> None:
    assert shortened("0123456789", 10) == "0123456789"
    assert shortened("0123456789A", 10) == "0123…6789A"


def test_a_switchover_that_was_not_reached_is_said_to_be() -> None:
    result = run_scenario(small(), runs=1, make_clock=VirtualClock)
    run = result.modes["serial"].typical
    lost = Run(run.report, state_intact=False, timeline=Timeline((), None, None))
    result = Result("lost", {"serial": ModeResult((lost,))}, Bounds(0.0, 0.0, 0.0))
    page = Page(html_page(result))
    assert "serial: the switchover was not reached, nothing to draw" in page.text
    assert page.of_class("bar") == []


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["run", "vfs", "--virtual", "--runs", "1", "--html", str(file)])
    assert done.exit_code == 0
    assert "vfs: switchover 1,096.0 ms serial, 346.0 ms parallel" in Page(file.read_text(encoding="utf-8")).text


def test_the_page_alone_goes_to_standard_output() -> None:
    done = CliRunner().invoke(app, ["run", "vfs", "--virtual", "--runs", "1", "--html", "-"])
    assert done.exit_code == 0
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.endswith("</html>\n")


def test_nowhere_to_write_is_said_before_anything_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "vfs", "--html", str(tmp_path / "no" / "page.html")])
    assert done.exit_code == 2
    assert "cannot be written" in done.output


def test_what_went_wrong_is_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "What went wrong" not in html_page(host())

    def broken(device: MockDevice, size: int) -> bytes:
        raise OSError(5, "the <bus> is gone")

    monkeypatch.setattr(MockDevice, "read", broken)
    result = run_scenario(small(), runs=1, make_clock=VirtualClock)
    page = html_page(result)
    gone = "[Errno 5] device &#x27;vf0&#x27;, pre-copy in machine &#x27;source&#x27;: the &lt;bus&gt; is gone"
    assert f"<li>serial, run 1: migration failed: {gone}" in page
    assert f"<li>parallel, run 1: migration failed: {gone}" in page


def test_with_many_devices_every_channel_and_both_sides_costs_are_named_and_of_devices_every_other() -> None:
    titles = [attrs["title"] for attrs in Page(html_page(many_over_channels())).of_class("name")]
    devices = [f"vf{number}" for number in range(0, 40, 2)]
    named = ["RAM", *(f"channel {number}" for number in range(4)), *devices, "source", "destination"]
    assert titles == ["", *devices, *named]
