import io
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from suite import ROOT
from suite.bundled import BUNDLED
from suite.machines import FEATURES, SMALL
from suite.scenarios import machines
from typer.testing import CliRunner

from vfio_migration.cli.main import app
from vfio_migration.device.state_machine import DeviceState
from vfio_migration.drawing.prediction_terminal import TOP, print_prediction
from vfio_migration.forecast.prediction import Prediction, predict, predict_planned
from vfio_migration.forecast.what_if import Change, ChangeKind
from vfio_migration.plan.switchover import PLAIN, PlannedDevice, PlannedHandler, plan_switchover
from vfio_migration.scenarios.file import load_scenario, parse_scenario, scenario_from_data
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.runner import run_once
from vfio_migration.strategies import Depths, Overlapping, Pool, Serial, Strategy
from vfio_migration.wording import in_order, listed
from vmstate import VirtualClock

NS = 1e-9
STRATEGIES = (Depths(), Serial(), Overlapping(), Pool(2))


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=2 * NS, rel=0)


def texts(prediction: Prediction) -> list[str]:
    return [str(each) for each in prediction.changes]


@cache
def bundled_prediction(name: str) -> Prediction:
    return predict(load_scenario(name))


def small(old: str = "", new: str = "") -> Scenario:
    return parse_scenario(SMALL.replace(old, new), Path("small.toml"))


# What a change says is done here, independently, and all is planned again.


def apply(
    change: Change, devices: Sequence[PlannedDevice], handlers: Sequence[PlannedHandler]
) -> tuple[list[PlannedDevice], list[PlannedHandler]]:
    if change.kind is ChangeKind.HANDLER:
        depth = handler_depth(change, handlers)
        return list(devices), [
            faster(each, change.what) if (each.name, each.depth) == (*change.names, depth) else each
            for each in handlers
        ]
    names = change.names[-1:] if change.one_of else change.names
    return [changed(each, change) if each.id in names else each for each in devices], list(handlers)


def handler_depth(change: Change, handlers: Sequence[PlannedHandler]) -> int:
    (depth,) = {each.depth for each in handlers if each.name == change.names[0]}
    return depth


def faster(handler: PlannedHandler, what: str) -> PlannedHandler:
    callback, _, word = what.partition(" ")
    seconds = getattr(handler, f"{callback}_s") * {"halved": 0.5, "made instant": 0}[word]
    times: dict[str, Any] = {f"{callback}_s": seconds}
    return replace(handler, **times)


def changed(device: PlannedDevice, change: Change) -> PlannedDevice:
    words = change.what.split()
    if change.kind is ChangeKind.PARALLEL:
        assert device.parallel == (words[-1] == "off")
        return replace(device, parallel=words[-1] == "on")
    if change.kind is ChangeKind.DEPTH:
        assert device.depth == int(words[3])
        return replace(device, depth=int(words[5]))
    if change.kind is ChangeKind.RATE:
        return replace(device, transfer_s=device.transfer_s / 2)
    arc = DeviceState[words[0]], DeviceState[words[2]]
    factor = {"halved": 0.5, "made": 0.0}[words[3]]
    return replace(device, arc_s=lambda a, b: device.arc_s(a, b) * (factor if (a, b) == arc else 1))


times = st.integers(0, 30)


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[PlannedDevice], list[PlannedHandler]]:
    """Some devices, several of them alike, and some handlers."""
    devices: list[PlannedDevice] = []
    for _ in range(draw(st.integers(0, 4))):
        seconds = draw(st.lists(times, min_size=64, max_size=64))
        device = PlannedDevice(
            "",
            draw(st.integers(0, 3)),
            draw(st.sampled_from(FEATURES)),
            lambda a, b, seconds=seconds: seconds[a * 8 + b],  # type: ignore[misc]
            draw(times),
            draw(st.booleans()),
        )
        devices += [replace(device, id=f"d{len(devices) + number}") for number in range(draw(st.integers(1, 3)))]
    handlers = []
    for number in range(draw(st.integers(0, 3))):
        handler = PlannedHandler(
            f"h{number}", draw(st.integers(PLAIN, 3)), draw(times), draw(times), draw(times), draw(times)
        )
        handlers += [handler] * draw(st.integers(1, 2))
    return devices, handlers


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@given(plans())
def test_every_gain_is_what_planning_again_gives(
    strategy: Strategy, plan: tuple[list[PlannedDevice], list[PlannedHandler]]
) -> None:
    devices, handlers = plan
    prediction = predict_planned("drawn", devices, handlers, strategy=strategy)
    now = plan_switchover(devices, handlers, strategy=strategy).bounds.mechanism_s
    assert prediction.switchover_s == now
    for change in prediction.changes:
        if change.then_s is not None:  # of the whole migration
            assert change.names == ("multifd_channels",)
            continue
        then = plan_switchover(*apply(change, devices, handlers), strategy=strategy).bounds.mechanism_s
        assert change.gain_s == about(now - then), change
        assert change.share == (pytest.approx(change.gain_s / now) if now else 0)


@given(plans())
def test_what_a_device_contributes_is_what_planning_again_gives(
    plan: tuple[list[PlannedDevice], list[PlannedHandler]],
) -> None:
    devices, handlers = plan
    prediction = predict_planned("drawn", devices, handlers)
    now = prediction.switchover_s
    assert [share.id for share in prediction.devices] == [each.id for each in devices]
    for number, share in enumerate(prediction.devices):
        others = [*devices[:number], *devices[number + 1 :]]
        assert share.contributes_s == about(now - plan_switchover(others, handlers).bounds.mechanism_s)
        toggled = replace(devices[number], parallel=not devices[number].parallel)
        assert share.toggle_gain_s == about(now - plan_switchover([*others, toggled], handlers).bounds.mechanism_s)
        assert share.id in share.alike


@given(plans())
def test_being_faster_never_makes_it_longer_and_the_ranking_goes_down(
    plan: tuple[list[PlannedDevice], list[PlannedHandler]],
) -> None:
    prediction = predict_planned("drawn", *plan)
    gains = [each.gain_s for each in prediction.changes]
    assert gains == sorted(gains, reverse=True)
    faster_kinds = (ChangeKind.ARC, ChangeKind.RATE, ChangeKind.HANDLER)
    assert all(each.gain_s >= 0 for each in prediction.changes if each.kind in faster_kinds)
    bounds = prediction.bounds
    assert bounds.ideal_s <= bounds.mechanism_s <= bounds.serial_s


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(plans())
def test_the_stages_and_the_transfer_add_up_to_the_switchover(
    strategy: Strategy, plan: tuple[list[PlannedDevice], list[PlannedHandler]]
) -> None:
    prediction = predict_planned("drawn", *plan, strategy=strategy)
    sides = {"source": prediction.source_stop_s, "destination": prediction.destination_start_s}
    for side, seconds in sides.items():
        assert sum(each.seconds for each in prediction.stages if each.side == side) == about(seconds)
    assert sum(sides.values()) + prediction.transfer_s == about(prediction.switchover_s)
    for stage in prediction.stages:
        if strategy in (Depths(), Serial()):
            assert bool(stage.slowest or stage.in_turn) == (stage.seconds > 0)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(plans())
def test_a_device_can_use_up_its_slack_at_no_cost_and_no_more_than_that(
    strategy: Strategy, plan: tuple[list[PlannedDevice], list[PlannedHandler]]
) -> None:
    devices, handlers = plan
    prediction = predict_planned("drawn", devices, handlers, strategy=strategy)
    for number, share in enumerate(prediction.devices):
        for each in share.passes:
            assert each.slack_s >= 0
            assert each.critical == (each.slack_s == 0 < each.seconds)
            if not each.arcs:
                continue
            first, _, second = each.arcs[0][0].partition(" -> ")
            costs = []
            for more in (each.slack_s, each.slack_s + 1):
                slower = list(devices)
                slower[number] = later(devices[number], (DeviceState[first], DeviceState[second]), more)
                then = plan_switchover(slower, handlers, strategy=strategy).bounds.mechanism_s
                costs.append(then - prediction.switchover_s)
            assert costs[0] == about(0.0)
            assert 0.0 < costs[1] <= 1.0 + NS  # of a pool, another place may be free sooner
            if strategy != Pool(2):
                assert costs[1] == about(1.0)


def later(device: PlannedDevice, arc: tuple[DeviceState, DeviceState], more: float) -> PlannedDevice:
    return replace(device, arc_s=lambda a, b: device.arc_s(a, b) + (more if (a, b) == arc else 0))


@settings(max_examples=40)
@given(machines())
def test_any_machine_takes_in_virtual_time_what_is_predicted_for_it_as_configured(scenario: Scenario) -> None:
    for configured in (scenario, scenario.serial()):
        prediction = predict(configured)
        report = run_once(configured, VirtualClock(), record=False).report
        assert report.switchover_s == pytest.approx(prediction.switchover_s, abs=1e-7, rel=0)
        assert report.source_stop_s == pytest.approx(prediction.source_stop_s, abs=1e-7, rel=0)
        assert report.transfer_s == pytest.approx(prediction.transfer_s, abs=1e-7, rel=0)
        assert report.destination_start_s == pytest.approx(prediction.destination_start_s, abs=1e-7, rel=0)
    assert predict(scenario.serial()).switchover_s == pytest.approx(predict(scenario).bounds.serial_s)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_scenarios_are_predicted_as_they_are_planned(name: str) -> None:
    scenario = load_scenario(name)
    prediction = predict(scenario)
    assert prediction.bounds == scenario.plan().bounds
    assert [each.id for each in prediction.devices] == [spec.id for spec in scenario.devices]


def test_devices_that_are_alike_are_changed_together_as_one_alone_gains_nothing() -> None:
    changes = texts(predict(load_scenario("host")))  # of 841.2 ms
    assert "gpu0, gpu1, gpu2, gpu3: RESUMING -> STOP halved: 60.0 ms less (7.1 %)" in changes
    assert "one of gpu0, gpu1, gpu2, gpu3: RESUMING -> STOP halved: changes nothing" in changes
    assert "vf0, vf1, vf2, vf3: moved from depth 3 to 5: 238.0 ms less (28.3 %)" in changes
    assert "one of vf0, vf1, vf2, vf3: parallel changes off: 12.0 ms more (1.4 %)" in changes
    assert changes[0] == "gpu0, gpu1, gpu2, gpu3: moved from depth 5 to 3: 250.0 ms less (29.7 %)"


def test_a_device_with_parallel_changes_off_and_ordinary_handlers_are_named_too() -> None:
    prediction = predict(load_scenario("mixed"))
    changes = texts(prediction)
    assert "gpu1: parallel changes on: 50.0 ms less (6.6 %)" in changes
    assert "virtio-scsi-device: stop halved: 60.0 ms less (7.9 %)" in changes
    assert "gpu0: parallel changes off: 220.0 ms more (29.0 %)" in changes
    main = next(each for each in prediction.stages if (each.side, each.kind, each.depth) == ("source", "main", 3))
    assert (main.slowest, main.in_turn) == ((), ("gpu1", "virtio-scsi-device"))
    gpu0, gpu1 = (next(each for each in prediction.devices if each.id == name) for name in ("gpu0", "gpu1"))
    assert [each.critical for each in gpu0.passes] == [True, False, True, True]
    assert gpu0.passes[1].slack_s == about(0.070)
    assert gpu0.passes[1].arcs == (("PRE_COPY_P2P -> STOP_COPY", 0.1),)
    assert gpu1.toggle_gain_s == about(0.050)


def test_two_groups_that_are_as_slow_as_each_other_gain_only_together() -> None:
    data = {
        "tree": {"devices": [{"bus": "main-system-bus", "id": name} for name in ("a0", "b0")]},
        "vfio": [
            {"devices": "a0", "latency": {"STOP_COPY": 0.1}, "state_size": 0},
            {"devices": "b0", "latency": {"STOP_COPY": 0.1, "RUNNING": 0.001}, "state_size": 0},
        ],
    }
    changes = texts(predict(scenario_from_data(data, Path("equal.toml"))))
    assert changes[0] == "a0, b0: PRE_COPY_P2P -> STOP_COPY made instant: 100.0 ms less (99.0 %)"
    assert "a0: PRE_COPY_P2P -> STOP_COPY halved: changes nothing" in changes
    assert not [each for each in changes if each.startswith("a0, b0: RUNNING_P2P -> RUNNING")]


def test_of_equal_gains_the_smaller_change_comes_first() -> None:
    data = {
        "tree": {"devices": [{"bus": "main-system-bus", "id": name} for name in ("slow", "fast")]},
        "vfio": [
            {"devices": "slow", "latency": {"STOP_COPY": 0.1}},
            {"devices": "fast", "latency": {"STOP_COPY": 0.09}},
        ],
    }
    changes = texts(predict(scenario_from_data(data, Path("next.toml"))))
    alone = [each for each in changes if each.startswith("slow: PRE_COPY_P2P -> STOP_COPY")]
    assert alone == [
        "slow: PRE_COPY_P2P -> STOP_COPY halved: 10.0 ms less (10.0 %)",
        "slow: PRE_COPY_P2P -> STOP_COPY made instant: 10.0 ms less (10.0 %)",
    ]


@pytest.mark.parametrize("alike", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_thousand_devices_are_planned_once_and_not_anew_for_each_change(
    monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    """Planning all again for each change would take minutes."""
    plan = Mock(wraps=plan_switchover)
    for module in ("prediction", "what_if"):
        monkeypatch.setattr(f"vfio_migration.forecast.{module}.plan_switchover", plan)
    tree = [{"bus": "main-system-bus", "id": f"vf{number}"} for number in range(1000)]
    groups = [{"devices": "vf*", "rate": 1e6, "latency": {"default": 0.1}}]
    if not alike:
        groups = [
            {"devices": f"vf{number}", "rate": 1e6, "latency": {"default": (number * 7919 % 1000) / 1000}}
            for number in range(1000)
        ]
    scenario = scenario_from_data({"tree": {"devices": tree}, "vfio": groups}, Path("many.toml"))
    prediction = predict(scenario)
    assert [len(call.args[0]) for call in plan.call_args_list if len(call.args[0]) > 1] == [1000]
    assert len(prediction.devices) == 1000
    assert prediction.changes[0].gain_s > 0


def test_names_are_sorted_as_people_do_and_long_lists_are_shortened() -> None:
    assert in_order(["gpu10", "gpu9", "a", "7", "gpu", "gpu09"]) == ("7", "a", "gpu", "gpu09", "gpu9", "gpu10")
    assert listed(["a", "b", "c", "d"]) == "a, b, c, d"
    assert listed([f"vf{number}" for number in range(1000)]) == "vf0, vf1, ..., vf999 (1,000 devices)"


# What is printed.


def shown(prediction: Prediction, encoding: str = "utf-8", width: int = 80, *, show_all: bool = False) -> list[str]:
    file = io.BytesIO()
    text = io.TextIOWrapper(file, encoding=encoding)
    print_prediction(Console(file=text, width=width, highlight=False), prediction, show_all=show_all)
    text.flush()
    return file.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("width", [40, 80])
def test_a_prediction_is_plain_text_of_the_console_s_width_and_encoding(name: str, encoding: str, width: int) -> None:
    lines = shown(bundled_prediction(name), encoding, width, show_all=True)
    assert max(map(len, lines)) <= width
    assert not any("\x1b" in line for line in lines)
    if encoding != "utf-8":
        assert "".join(lines).isascii()


def test_bounds_stages_devices_and_changes_are_shown() -> None:
    lines = [" ".join(line.split()) for line in shown(predict(load_scenario("host")), "ascii", 120)]
    for line in (
        "host: switchover 841.2 ms, predicted as configured",
        "everything in turn 2,593.2 ms serial_s",
        "this mechanism 841.2 ms mechanism_s: depths in turn",
        "if depths overlapped too 584.2 ms ideal_s",
        "| source | main | 5 | 100.0 | gpu0, gpu1, gpu2, gpu3 |",
        "| destination | main | plain | 1.0 | rng |",
        # Of each VF 40 MB: 10.0 ms to be read, and 12.8 on the link.
        "vf0, vf1, vf2, vf3 3 on 30.0* 80.0* 22.8 105.0* 35.0* -22.8 +12.0",
        "1. gpu0, gpu1, gpu2, gpu3: moved from depth 5 to 3: 250.0 ms less (29.7 %)",
    ):
        assert line in lines
    assert len([line for line in lines if " ms less (" in line]) == TOP
    assert lines[-1].endswith("more with --all")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_word_and_no_figure_of_a_table_is_broken(width: int) -> None:
    lines = [" ".join(line.split()) for line in shown(predict(load_scenario("host")), "ascii", width)]
    text = " ".join(lines)
    for words in ("device depth par. prep. stop sent prep. start", "without switched", "105.0* 35.0*", "-22.8 +12.0"):
        assert words in text
    assert any(line.startswith("if depths overlapped too 584.2 ms ideal_s") for line in lines)
    assert ("start without" in text) == (width > 60)  # two tables where one has no room


def test_all_changes_are_shown_on_request() -> None:
    prediction = predict(load_scenario("mixed"))
    lines = shown(prediction, width=200, show_all=True)
    start = lines.index("what to speed up first") + 1
    assert [line.strip().partition(". ")[2] for line in lines[start:]] == texts(prediction)


def test_where_nothing_can_be_gained_that_is_said() -> None:
    lines = shown(predict(small("latency = { default = 0.010 }")))
    assert "nothing that could be changed alone makes it shorter" in lines


def test_brackets_in_names_are_no_markup_and_letters_that_the_encoding_lacks_no_error() -> None:
    text = SMALL.replace('"vf*"', '"?bold?*"').replace('"vf', '"[bold]')
    prediction = predict(parse_scenario(text, Path("[red].toml")))
    text = "\n".join(shown(prediction))
    assert "[red]: switchover" in text
    assert "[bold]0, [bold]1: RESUMING -> STOP halved" in text
    assert "".join(shown(predict(small('"vf', '"größe')), "ascii")).isascii()


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["predict", *arguments])


def test_json_holds_the_bounds_as_run_does_and_more() -> None:
    result = invoke("mixed", "--json", "-")
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    ran = CliRunner().invoke(app, ["run", "mixed", "--virtual", "--runs", "1", "--json", "-"])
    assert value["bounds"] == json.loads(ran.stdout)["bounds"]
    assert set(value) == {
        "scenario", "bounds", "switchover_s", "source_stop_s", "transfer_s", "destination_start_s", "stages", "devices",
        "changes", "notes", "blackout_s", "blackout", "precopy", "never",
    }  # fmt: skip
    assert value["switchover_s"] == value["bounds"]["mechanism_s"]
    assert [each["rank"] for each in value["changes"]] == list(range(1, len(value["changes"]) + 1))
    first = value["changes"][0]
    assert (first["kind"], first["names"], first["one_of"]) == ("depth", ["vf0", "vf1"], False)
    assert first["gain_s"] == 0.25
    assert value["devices"][0]["passes"][0]["arcs"] == [{"arc": "PRE_COPY -> PRE_COPY_P2P", "seconds": 0.03}]
    assert "mixed: switchover 759.0 ms" in result.stderr


def test_arcs_that_a_scenario_is_silent_about_are_named() -> None:
    assert predict(load_scenario("mixed")).notes == ()
    assert predict(small("latency = {}")).notes == ()  # which says that nothing takes time
    without = override(load_scenario("mixed"), ["*.precopy=false", "*.latency.RUNNING_P2P->STOP=0.1"])
    note = "no latency is given for RUNNING -> RUNNING_P2P, STOP -> STOP_COPY of vf0, vf1: 0 stands for it"
    assert predict(without).notes == (note,)
    result = invoke("mixed", "--set", "*.precopy=false", "--set", "*.latency.RUNNING_P2P->STOP=0.1", "--json", "-")
    assert json.loads(result.stdout)["notes"] == [note]
    assert note in " ".join(result.stderr.split())


def test_json_goes_to_a_file_and_the_tables_to_standard_output(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    result = invoke("vfs", "--json", str(file))
    assert result.exit_code == 0
    assert "vfs: switchover 346.0 ms" in result.stdout
    assert json.loads(file.read_text(encoding="utf-8"))["scenario"] == "vfs"


def test_all_shows_more_than_the_first_ten() -> None:
    assert "11. " not in invoke("vfs").stdout
    assert "11. " in invoke("vfs", "--all").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such"], "no-such: cannot be read"),
        (["vfs", "--json", "/no/such/folder/out.json"], "cannot be written (No such file"),
        (["vfs", "--set", "vf0.parallel=1"], "expected true or false"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_status_2(arguments: list[str], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_scenario_has_to_be_named() -> None:
    assert invoke().exit_code == 2


GUIDE = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", re.findall(r"^vfio-switchover (.*)$", GUIDE, re.MULTILINE))
def test_the_commands_of_the_guide_run(command: str) -> None:
    assert CliRunner().invoke(app, shlex.split(command)).exit_code == 0


def test_the_example_of_the_guide_runs() -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    exec(compile(example, "predict.md", "exec"), {})
