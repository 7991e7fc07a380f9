from pathlib import Path

import pytest
from suite.machines import S
from typer.testing import CliRunner

from vfio_migration.cli.main import app
from vfio_migration.device.state_machine import ALL_FLAGS, MigrationFlags
from vfio_migration.errors import ScenarioError
from vfio_migration.scenarios.file import load_scenario, parse_scenario
from vfio_migration.scenarios.model import DeviceSpec, Scenario
from vfio_migration.scenarios.overrides import override, parse_override
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock

TEXT = """
[tree]
devices = [
    { bus = "main-system-bus", id = "vf0" },
    { bus = "main-system-bus", id = "vf1" },
    { bus = "main-system-bus", id = "0000:01.0" },
    { bus = "main-system-bus", id = "disk" },
]

[[vfio]]
devices = "vf*"
latency = { default = 0.010, STOP_COPY = 0.020, "PRE_COPY_P2P -> STOP_COPY" = 0.030 }

[[vfio]]
devices = "0000*"

[[handlers]]
devices = "disk"
stop = 0.5

[[handlers]]
priority = 0
name = "timers"
"""


def scenario(more: str = "") -> Scenario:
    return parse_scenario(TEXT + more, Path("small.toml"))


def device(name: str, *texts: str) -> DeviceSpec:
    return next(spec for spec in override(scenario(), texts).devices if spec.id == name)


def test_without_overrides_the_scenario_is_the_same() -> None:
    assert override(scenario(), []) == scenario()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("vf0.parallel=false", {"parallel": False}),
        ("vf0 . parallel = false", {"parallel": False}),
        ("vf[01].threads=parked", {"threads": "parked"}),
        ('vf0.threads="parked"', {"threads": "parked"}),
        ("*.events=true", {"events": True}),
        ("vf0.state_size=7", {"state_size": 7}),
        ("vf0.rate=5e6", {"rate": 5e6}),
        ("vf0.precopy_size=0", {"precopy_size": 0}),
        ("vf0.precopy_dirty=[3, 2, 1]", {"precopy_dirty": (3, 2, 1)}),
    ],
)
def test_a_key_of_a_device_gets_another_value_and_nothing_else_changes(text: str, values: dict[str, object]) -> None:
    assert device("vf0", text.replace(" . ", ".")) == device("vf0").changed(**values)


def test_only_devices_that_the_pattern_matches_change() -> None:
    before, after = scenario(), override(scenario(), ["vf1.parallel=false"])
    assert [spec.entry.parallel for spec in after.devices] == [True, False, True]
    assert after.devices[0] == before.devices[0]
    assert after.handlers == before.handlers


def test_a_pattern_may_hold_dots() -> None:
    assert not device("0000:01.0", "0000:01.0.parallel=false").entry.parallel
    assert device("0000:01.0", "0000:01.0.latency.STOP=1").latency[S.RUNNING_P2P, S.STOP] == 1


@pytest.mark.parametrize(
    ("texts", "stop_copy", "from_stop", "stop"),
    [
        ([], 0.03, 0.02, 0.01),
        (["vf0.latency.PRE_COPY_P2P->STOP_COPY=0.5"], 0.5, 0.02, 0.01),
        (["vf0.latency.PRE_COPY_P2P -> STOP_COPY = 0.5"], 0.5, 0.02, 0.01),
        (["vf0.latency.STOP_COPY=0.5"], 0.5, 0.5, 0.01),
        (["vf0.latency.default=0.5"], 0.5, 0.5, 0.5),
        (["vf0.latency.default=0.5", "vf0.latency.STOP=1"], 0.5, 0.5, 1),
        (["vf0.latency.STOP=1", "vf0.latency.default=0.5"], 0.5, 0.5, 0.5),
        (["vf0.latency.STOP_COPY=0.5", "vf0.latency.STOP -> STOP_COPY=1"], 0.5, 1, 0.01),
    ],
)
def test_a_latency_counts_for_all_that_its_name_covers(
    texts: list[str], stop_copy: float, from_stop: float, stop: float
) -> None:
    latency = device("vf0", *texts).latency
    assert latency[S.PRE_COPY_P2P, S.STOP_COPY] == stop_copy
    assert latency[S.STOP, S.STOP_COPY] == from_stop
    assert latency[S.RESUMING, S.STOP] == stop


def test_a_feature_that_is_switched_off_takes_its_arcs_along() -> None:
    spec = device("vf0", "vf0.precopy=false")
    assert spec.flags == ALL_FLAGS & ~MigrationFlags.PRE_COPY
    assert (S.PRE_COPY_P2P, S.STOP_COPY) not in spec.latency
    assert spec.latency[S.STOP, S.STOP_COPY] == 0.02
    assert device("vf0", "vf0.precopy=false", "vf0.precopy=true").flags == ALL_FLAGS


def test_a_handler_is_found_by_its_name() -> None:
    disk, timers = override(
        scenario(), ["disk.stop=0.1", "t*.start=2", "*.prepare_stop=3", "*.prepare_start=0.5"]
    ).handlers
    assert (disk.stop_s, disk.start_s, disk.prepare_stop_s, disk.prepare_start_s) == (0.1, 0.0, 3, 0.5)
    assert (timers.stop_s, timers.start_s) == (0.0, 2)


def test_an_overridden_scenario_runs() -> None:
    changed = override(load_scenario("vfs"), ["vf*.latency.STOP_COPY=0.02", "vf1.parallel=false"])
    run = run_once(changed, VirtualClock())
    assert run.completed
    assert run.report.switchover_s == pytest.approx(changed.plan().bounds.mechanism_s, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vf0", ["expected PATTERN.KEY=VALUE", "such as"]),
        ("vf0=1", ["expected PATTERN.KEY=VALUE"]),
        (".parallel=true", ["expected PATTERN.KEY=VALUE"]),
        ("vf0.=true", ["expected PATTERN.KEY=VALUE"]),
        ("vf0.parallel=", ["expected PATTERN.KEY=VALUE"]),
        ("vf0.paralel=true", ["no key 'paralel'", "parallel", "latency.STATE", "prepare_stop"]),
        ("vf0.paralel=true", ["did you mean 'vf0.parallel'?"]),
        ("0000:01.0.paralel=true", ["did you mean '0000:01.0.parallel'?"]),
        ("link.bandwith=1", ["did you mean 'link.bandwidth'?"]),
        ("lnk.bandwidth=1", ["did you mean 'link.bandwidth'?"]),
        ("vf*.latncy.STOP=1", ["did you mean 'vf*.latency.STOP'?"]),
        ("vf9.parallel=true", ["got 'vf9' (did you mean 'vf"]),
        ("vf0.latency=1", ["no key 'latency'", "latency.STATE"]),
        ("vf0.seed=1", ["no key 'seed'"]),
        ("gpu*.parallel=true", ["id of a VFIO device", "'gpu*'", "vf0, vf1, 0000:01.0"]),
        ("vf0.stop=1", ["name of an ordinary handler", "'vf0'", "disk, timers"]),
        ("disk.parallel=true", ["id of a VFIO device", "'disk'"]),
        ("vf0.parallel=1", ["vf0.parallel", "expected true or false"]),
        ("vf0.parallel=False", ["vf0.parallel", "expected true or false"]),
        ("vf0.threads=green", ["vf0.threads", "'green'"]),
        ("vf0.rate=0", ["vf0.rate", "more than 0"]),
        ("vf0.rate=fast", ["vf0.rate", "expected bytes per second", "'fast'"]),
        ("vf0.state_size=-1", ["vf0.state_size", "0 or more"]),
        ("vf0.latency.STOP=-1", ["vf0.latency.'STOP'", "0 or more", "-1"]),
        ("vf0.latency.STOP=20mm", ["vf0.latency.'STOP'", "expected seconds", "'20mm'"]),
        ("vf0.latency.STOP=1\nx=2", ["'STOP=1\\nx'", "expected 'default', a state"]),
        ("vf0.latency.STOPPED=1", ["vf0.latency.'STOPPED'", "states: ", "RUNNING_P2P"]),
        ("vf0.latency.STOP->RESUMED=1", ["'STOP -> RESUMED'", "an arc of this device such as"]),
        ("disk.stop=x", ["disk.stop", "expected seconds", "'x'"]),
        ("disk.stop=" + "9" * 5000, ["disk.stop", "expected seconds"]),
        ("vf0.p2p=false", ["more than one device", "p2p", "vf0"]),
    ],
)
def test_an_override_that_cannot_be_used_says_which_where_and_what_is_expected(text: str, words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        override(scenario(), [text])
    message = str(caught.value)
    assert message.startswith("small: ")
    assert repr(text)[1:-1] in message
    assert [word for word in words if word not in message] == []


def test_a_fault_that_makes_no_sense_any_more_is_refused() -> None:
    faults = '[[faults]]\ndevice = "vf0"\nat = "PRE_COPY -> PRE_COPY_P2P"\n'
    with pytest.raises(ScenarioError, match=r"faults\[0\]"):
        override(scenario(faults), ["vf0.precopy=false"])


def test_what_is_taken_apart_says_what_it_was() -> None:
    each = parse_override("vf*.latency.RESUMING->STOP=0.5")
    assert (each.pattern, each.key, each.value) == ("vf*", "latency.RESUMING -> STOP", 0.5)


def test_many_names_are_not_all_listed() -> None:
    devices = ", ".join(f'{{ bus = "main-system-bus", id = "vf{number}" }}' for number in range(100))
    many = parse_scenario(f'[tree]\ndevices = [{devices}]\n[[vfio]]\ndevices = "vf*"\n', Path("many.toml"))
    with pytest.raises(ScenarioError, match=r"vf17, \.\.\., vf99 \(100 names\)$"):
        override(many, ["x.parallel=true"])


@pytest.mark.parametrize("command", [["run", "--virtual", "--runs", "1"], ["predict"]])
def test_the_command_line_takes_overrides_and_says_what_is_wrong_with_them(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "vfs", "--set", "vf*.rate=1e9", "--set", "vf*.latency.STOP_COPY=0.5"])
    assert result.exit_code == 0
    # Arcs of 30 + 500 + 105 + 35 ms; of each VF 40 MB, read in 40 ms and sent in 12.8; the rest of pre-copy and memory.
    assert "889.7 ms" in result.stdout
    result = CliRunner().invoke(app, [*command, "vfs", "--set", "gpu.rate=1"])
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: vfs: 'gpu.rate=1': expected")


def test_a_device_can_be_moved_to_another_depth() -> None:
    moved = override(load_scenario("host"), ["gpu*.depth=3"])
    assert {spec.depth for spec in moved.devices} == {3}
    run = run_once(moved, VirtualClock())
    assert run.completed
    assert run.report.switchover_s == pytest.approx(moved.plan().bounds.mechanism_s)
    assert moved.plan().bounds.mechanism_s < load_scenario("host").plan().bounds.mechanism_s


@pytest.mark.parametrize("value", ["0", "1e300", "-1", "true", "inf", "2.0", "100000"])
def test_a_depth_that_no_tree_has_is_refused(value: str) -> None:
    with pytest.raises(ScenarioError, match=r"vf0\.depth: expected a depth from 1 to 1000"):
        override(load_scenario("host"), [f"vf0.depth={value}"])


@pytest.mark.parametrize("key", ["latency.default", "rate", "state_size", "precopy_size"])
@pytest.mark.parametrize("value", ["1e300", "inf", "nan", "-1", "1" + "0" * 400])
def test_numbers_that_mean_nothing_are_refused(key: str, value: str) -> None:
    if (key, value) != ("rate", "1e300") and (key, value) != ("rate", "1" + "0" * 400):
        with pytest.raises(ScenarioError, match="vf0"):
            override(load_scenario("host"), [f"vf0.{key}={value}"])


def test_what_is_like_nothing_is_no_guess() -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_override("vf0.colour=1")
    assert "did you mean" not in str(caught.value)
