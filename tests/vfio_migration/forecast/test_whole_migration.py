"""What a prediction says of memory, the link, the decision and loading; and what it says could be changed of them."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from suite.machines import FEATURES
from typer.testing import CliRunner

from vfio_migration.cli.main import app
from vfio_migration.device.state_machine import DeviceState
from vfio_migration.forecast.prediction import Prediction, predict, predict_planned
from vfio_migration.forecast.what_if import Change, ChangeKind
from vfio_migration.live.parameters import Link, MigrationParameters, Phases
from vfio_migration.plan.migration import plan_migration
from vfio_migration.plan.planned_state import PlannedState
from vfio_migration.plan.surroundings import PlannedRam, Surroundings
from vfio_migration.plan.switchover import PLAIN, PlannedDevice, PlannedHandler, plan_switchover
from vfio_migration.scenarios.file import load_scenario, parse_scenario, scenario_from_data
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.overrides import override
from vmstate import Machine, VirtualClock

TEXT = """
[tree]
devices = [{ bus = "main-system-bus", ids = "vf{0..3}" }]
[[vfio]]
devices = "*"
state_size = "50 MB"
rate = "1 GB/s"
precopy_size = 0
write_rate = "2 GB/s"
config_load = "5 ms"
latency = { default = "10 ms" }
[ram]
size = "1 GB"
dirty_rate = "50 MB/s"
[link]
bandwidth = "1 GB/s"
latency_s = "1 ms"
[parameters]
downtime_limit_s = "300 ms"
"""


def scenario(*texts: str) -> Scenario:
    return override(parse_scenario(TEXT, Path("whole.toml")), texts)


def texts(prediction: Prediction) -> list[str]:
    return [str(each) for each in prediction.changes]


def test_every_part_is_there_and_they_add_up() -> None:
    """
    Of 300 MB that fit, the states are 200: memory has to be at most 100 MB.

    Then: 10 ms prepare, 10 ms main; memory; four times 50 ms of reading and 50 ms of the link; 1 ms of latency, the
    last chunk (of 50 MB, 47 are whole) written; four configurations; 10 + 10 for prepare and its two arcs, 10 for main.
    """
    prediction = predict(scenario())
    parts = {(each.part, each.what): each.seconds for each in prediction.blackout}
    left = prediction.precopy.ram_left
    assert left is not None
    assert left <= 100_000_000
    assert parts["transfer_s", "RAM"] == prediction.precopy.ram_left_s == pytest.approx(left / 1e9)
    assert parts["transfer_s", "device states"] == pytest.approx(0.4)
    assert parts["destination_start_s", "latency of the link"] == 0.001
    last = 50_000_000 % 1024**2
    assert parts["destination_start_s", "still to be loaded"] == pytest.approx(last / 2e9, abs=1e-8)
    assert parts["destination_start_s", "config_load"] == pytest.approx(0.020)
    assert parts["source_stop_s", "prepare"] == pytest.approx(0.010)
    assert parts["destination_start_s", "prepare"] == pytest.approx(0.020)
    assert sum(parts.values()) == pytest.approx(prediction.switchover_s, abs=2e-6)
    assert prediction.blackout_s == prediction.switchover_s
    assert (prediction.precopy.setup_s, prediction.precopy.bandwidth) == (0.040, 1e9)
    assert [share.transfer_s for share in prediction.devices] == [pytest.approx(0.1)] * 4


def test_never_is_said_in_words_and_as_null() -> None:
    prediction = predict(scenario("ram.dirty_rate=2e9"))
    assert prediction.switchover_s == prediction.transfer_s == prediction.precopy.seconds == math.inf
    value = json.loads(json.dumps(prediction.as_json(), allow_nan=False))
    for key in ("switchover_s", "blackout_s", "source_stop_s", "transfer_s", "destination_start_s"):
        assert value[key] is None
    assert set(value["bounds"].values()) == {None}
    assert value["precopy"]["seconds"] is None
    assert value["precopy"]["ram_left"] is None
    assert value["never"] == prediction.never
    assert "dirties" in prediction.never
    assert value["blackout"] == []
    assert all(each["gain_s"] is None for each in value["changes"])


def test_what_brings_a_switchover_about_is_named() -> None:
    prediction = predict(scenario("ram.dirty_rate=1.5e9"))
    kinds = {(each.kind, each.names): each for each in prediction.changes}
    assert set(kinds) == {(ChangeKind.LINK, ("link",)), (ChangeKind.RAM, ("ram",))}
    (link,) = (each for each in prediction.changes if each.kind is ChangeKind.LINK)
    assert str(link).startswith("link: twice as fast: there is a switchover, of ")
    assert link.then_s == predict(scenario("ram.dirty_rate=1.5e9", "link.bandwidth=2e9")).switchover_s


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("link: twice as fast: ", "link.bandwidth=2e9"),
        ("link: latency halved: 0.5 ms less", "link.latency_s=0.5ms"),
        ("ram: dirtied half as fast: ", "ram.dirty_rate=25e6"),
        ("downtime_limit_s: doubled: ", "parameters.downtime_limit_s=0.6"),
        ("max_bandwidth: lifted: ", "parameters.max_bandwidth=1e9"),
    ],
)
def test_link_memory_and_limits_are_ranked_with_what_planning_anew_gives(text: str, setting: str) -> None:
    before = ["parameters.max_bandwidth=0.9e9"]
    prediction = predict(scenario(*before))
    (change,) = (each for each in prediction.changes if str(each).startswith(text))
    then = predict(scenario(*before, setting)).switchover_s
    assert change.gain_s == pytest.approx(prediction.switchover_s - then, abs=1e-9)
    assert change.then_s == then


def test_a_limit_that_is_too_low_is_last() -> None:
    prediction = predict(scenario())
    assert texts(prediction)[-1] == "downtime_limit_s: halved: there never is a switchover"
    assert prediction.changes[-1].gain_s == -math.inf


def test_without_a_link_nothing_of_it_is_a_change() -> None:
    found = predict(load_scenario("mixed")).changes
    assert not {each.kind for each in found} & {ChangeKind.LINK, ChangeKind.RAM, ChangeKind.LOADING}
    assert {each.names for each in found if each.kind is ChangeKind.PARAMETER} == {("multifd_channels",)}


def test_devices_side_by_side_are_a_change_and_so_are_devices_in_turn() -> None:
    (change,) = (each for each in predict(scenario()).changes if each.names == ("multifd_channels",))
    with_it = predict(scenario("parameters.multifd_channels=4"))
    assert change.what == "set to 4"
    assert change.then_s == with_it.switchover_s
    # Four times 50 ms of reading are beside what others have on the link.
    assert change.gain_s == pytest.approx(0.2, abs=0.005)
    (back,) = (each for each in with_it.changes if each.names == ("multifd_channels",))
    assert back.what == "set to 0"
    assert back.gain_s == pytest.approx(-change.gain_s, abs=1e-6)


def test_nothing_of_the_machine_and_the_clocks_is_used_to_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a prediction tries nothing out")

    drawn = scenario()
    for each in (Machine, VirtualClock):
        monkeypatch.setattr(each, "__init__", refuse)
    for name in ("Migration.__init__", "migration.migrate"):
        monkeypatch.setattr(f"vfio_migration.live.{name}", refuse)
    monkeypatch.setattr("vfio_migration.device.mock.MockDevice.__init__", refuse)
    assert predict(drawn).switchover_s > 0.4
    assert predict(override(drawn, ["ram.dirty_rate=2e9"])).never


# Whether gains are what planning anew gives: with a bandwidth so large that the switchover is decided at once, whatever
# else is changed, as a gain leaves the decision alone.

times = st.integers(0, 50).map(lambda number: number / 1000)
rates = st.sampled_from([None, 1e8, 1e9, 3e9])


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[PlannedDevice], list[PlannedHandler]]:
    devices: list[PlannedDevice] = []
    for _ in range(draw(st.integers(1, 4))):
        seconds = draw(st.lists(times, min_size=64, max_size=64))
        state = PlannedState(
            draw(st.integers(0, 10**7)), draw(rates), draw(st.integers(0, 10**6)), (), draw(rates), draw(times)
        )
        device = PlannedDevice(
            "",
            draw(st.integers(0, 2)),
            draw(st.sampled_from(FEATURES)),
            lambda a, b, seconds=seconds: seconds[a * 8 + b],  # type: ignore[misc]
            0.0 if state.rate is None else state.size / state.rate,
            draw(st.booleans()),
            state,
        )
        devices += [replace(device, id=f"d{len(devices) + number}") for number in range(draw(st.integers(1, 3)))]
    handler = PlannedHandler("h", draw(st.integers(PLAIN, 2)), draw(times), draw(times), draw(times), draw(times))
    return devices, [handler] * draw(st.integers(0, 1))


def changed(device: PlannedDevice, change: Change) -> PlannedDevice:
    """Do to a device what the change says, independently."""
    state = device.known_state
    words = change.what.split()
    if change.kind is ChangeKind.PARALLEL:
        return replace(device, parallel=words[-1] == "on")
    if change.kind is ChangeKind.DEPTH:
        return replace(device, depth=int(words[5]))
    if change.kind is ChangeKind.RATE:
        assert state.rate is not None
        return replace(device, transfer_s=device.transfer_s / 2, state=replace(state, rate=state.rate * 2))
    if change.kind is ChangeKind.LOADING and words[0] == "config_load":
        factor = 0.5 if words[-1] == "halved" else 0.0
        return replace(device, state=replace(state, config_load_s=state.config_load_s * factor))
    if change.kind is ChangeKind.LOADING:
        assert state.write_rate is not None
        return replace(device, state=replace(state, write_rate=state.write_rate * 2))
    arc = DeviceState[words[0]], DeviceState[words[2]]
    factor = {"halved": 0.5, "made": 0.0}[words[3]]
    return replace(device, arc_s=lambda a, b: device.arc_s(a, b) * (factor if (a, b) == arc else 1))


@pytest.mark.slow
@settings(max_examples=150)
@given(
    plans(),
    st.sampled_from([Phases(), Phases(launch_s=0.002), Phases(join_s=0.003, other_state_s=0.01, launch_s=0.001)]),
    st.sampled_from([None, Link(1e9), Link(3e8, 0.002)]),
    st.sampled_from([0, 0, 1, 3]),
)
def test_every_gain_is_what_planning_again_gives(
    drawn: tuple[list[PlannedDevice], list[PlannedHandler]], phases: Phases, link: Link | None, channels: int
) -> None:
    devices, handlers = drawn
    limits = MigrationParameters(switchover_bandwidth=1e15, multifd_channels=channels)
    around = Surroundings(PlannedRam(10**6), link, limits)

    precopy = plan_migration(plan_switchover(devices, handlers, phases), devices, around).precopy
    # What pre-copy has left to load when the source stops is taken as it is, whatever a change makes of it.
    assume(precopy.done_ns <= precopy.decided_ns)

    def switchover_s(anew: list[PlannedDevice]) -> float:
        return plan_migration(plan_switchover(anew, handlers, phases), anew, around).bounds.mechanism_s

    prediction = predict_planned("drawn", devices, handlers, phases, around)
    now = prediction.switchover_s
    assert now == pytest.approx(switchover_s(devices))
    for change in prediction.changes:
        if change.then_s is not None or change.kind is ChangeKind.HANDLER:
            continue
        names = change.names[-1:] if change.one_of else change.names
        anew = [changed(each, change) if each.id in names else each for each in devices]
        assert change.gain_s == pytest.approx(now - switchover_s(anew), abs=1e-7), change
    for place, share in enumerate(prediction.devices):
        last = max(number for number, each in enumerate(devices) if each.id in share.alike)
        others = [each for number, each in enumerate(devices) if number != last]
        assert share.contributes_s == pytest.approx(now - switchover_s(others), abs=1e-7), place


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize(("launch_s", "channels"), [(0.0, 0), (0.001, 0), (0.0, 8)])
def test_a_thousand_devices_with_a_link_are_predicted_in_a_moment(alike: bool, launch_s: float, channels: int) -> None:
    """The time-out is what it is held to: what this is against takes many minutes, on any machine."""
    names = [f"vf{number}" for number in range(1000)]
    groups: list[dict[str, Any]] = [
        {
            "devices": name,
            "rate": 1e9,
            "write_rate": 2e9,
            "state_size": 16 * 10**9 + (0 if alike else number),
            "latency": {"default": 0.1 if alike else (number * 7919 % 1000) / 1000},
        }
        for number, name in enumerate(names)
    ]
    data = {
        "tree": {"devices": [{"bus": "main-system-bus", "id": name} for name in names]},
        "vfio": groups,
        "ram": {"size": 10**12, "dirty_rate": 1e9},
        "link": {"bandwidth": 3.125e9},
        "parameters": {"downtime_limit_s": 1e5, "multifd_channels": channels},
        "phases": {"launch_s": launch_s},
    }
    many = scenario_from_data(data, Path("many.toml"))
    assert len(predict(many).devices) == 1000


def test_the_command_shows_pre_copy_and_what_the_blackout_is_made_of(tmp_path: Path) -> None:
    file = tmp_path / "whole.toml"
    file.write_text(TEXT, encoding="utf-8")
    invoked = CliRunner().invoke(app, ["predict", str(file)])
    lines = [" ".join(each.replace("│", "|").split()) for each in invoked.output.splitlines()]
    assert "what the blackout is made of" in lines
    assert "bandwidth reached 1,000,000,000 bytes/s" in lines
    assert any(each.startswith("memory left ") for each in lines)
    assert any(each.endswith("| config_load | 20.0 |") for each in lines)


def test_a_run_that_would_never_end_is_not_begun(tmp_path: Path) -> None:
    file = tmp_path / "whole.toml"
    file.write_text(TEXT.replace("50 MB/s", "2 GB/s"), encoding="utf-8")
    result = CliRunner().invoke(app, ["run", str(file), "--virtual"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: whole: the switchover would never begin: the guest dirties 2,000,000,000")


def test_the_command_says_never_and_why(tmp_path: Path) -> None:
    file = tmp_path / "whole.toml"
    file.write_text(TEXT, encoding="utf-8")
    result = CliRunner().invoke(app, ["predict", str(file), "--set", "ram.dirty_rate=2e9", "--json", "-"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["as_it_stands"]["difference_s"]["switchover_s"] is None
    assert "whole: switchover never, predicted as configured" in result.stderr
    lines = result.stderr.splitlines()
    assert lines[1].startswith("there never is a switchover: the guest dirties")  # before any table
    text = " ".join(result.stderr.split())
    assert "never ends (the calculation was given up after" in text
    assert "serial_s" not in text
