"""Numbers with units, several ids at once, and errors that name the keys that are known."""

from pathlib import Path
from typing import Any

import pytest

from vfio_migration.errors import ScenarioError
from vfio_migration.scenarios.file import parse_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.overrides import override
from vfio_migration.scenarios.quantities import plain_device, plain_time

TREE = '[tree]\ndevices = [{ bus = "main-system-bus", ids = "nic{0..7}", type = "vfio-pci" }]\n'


def parsed(text: str) -> Scenario:
    return parse_scenario(text, Path("x.toml"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("100 ms", 0.1), ("5us", 5e-6), ("5 µs", 5e-6), ("1e-3", 0.001), ("2min", 120.0), ("1.5 s", 1.5)],
)
def test_a_time_may_have_a_unit(text: str, seconds: float) -> None:
    assert plain_time("x", text) == seconds


@pytest.mark.parametrize(
    ("key", "value", "number"),
    [
        ("state_size", "5 MB", 5_000_000),
        ("state_size", "5MiB", 5 * 1024**2),
        ("state_size", 1e6, 1_000_000),
        ("state_size", "1_000", 1000),
        ("rate", "10 Gbit/s", 1.25e9),
        ("rate", "1 GB/s", 1e9),
        ("rate", "1e6", 1e6),
        ("precopy_dirty", [1e3, "1 KiB"], [1000, 1024]),
        ("latency", {"STOP": "2 ms"}, {"STOP": 0.002}),
        ("devices", "5 MB", "5 MB"),
    ],
)
def test_sizes_and_rates_may_too(key: str, value: Any, number: Any) -> None:
    assert plain_device("vfio[0]", {key: value}) == {key: number}


@pytest.mark.parametrize("text", ["", "ms", "1 parsec", "1..5", "--1 s", "1 MB", "5 5"])
def test_what_is_no_time_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"x: expected seconds, a number such as 0\.1 or '100ms', got"):
        plain_time("x", text)


def test_a_file_and_an_override_take_units() -> None:
    text = TREE + '[[vfio]]\ndevices = "nic*"\nstate_size = "1 MB"\nrate = "10 MB/s"\nlatency = { default = "5 ms" }\n'
    scenario = parsed(text + '[[handlers]]\npriority = 0\nstop = "20 ms"\n[watchdog]\nwarn_after = "1 min"\n')
    assert [spec.id for spec in scenario.devices] == [f"nic{number}" for number in range(8)]
    assert scenario.devices[7].transfer_s == pytest.approx(0.1)
    assert scenario.plan().source_stop_s == pytest.approx(0.030)
    assert override(scenario, ["nic0.latency.default=7ms"]).devices[0].latency != scenario.devices[0].latency


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ("nic", "ids: expected a range of numbers"),
        ("nic{7..0}", "expected a range"),
        ("nic{0..999999}", "at most 100,000"),
        ("{0..1}{0..1}", "expected a range"),
    ],
)
def test_ids_that_are_no_range_are_refused(ids: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=rf"x\.toml: tree\.devices\[0\]\.{words}|{words}"):
        parsed(TREE.replace("nic{0..7}", ids) + '[[vfio]]\ndevices = "*"\n')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[vfio]]\ndevices = '*'\nspeed = 1\n", ["vfio[0]: unknown key 'speed'; known are: devices, p2p, precopy"]),
        ("[[vfio]]\nrate = 1\n", ["vfio[0]: the key 'devices' is missing"]),
        ("[vfio]\ndevices = '*'\n", ["vfio: expected an array, got a table: write [[vfio]], once for each"]),
        ("[[vfios]]\ndevices = '*'\n", ["top level: unknown key 'vfios'; known are: tree, vfio, description"]),
        ("", ["top level: the key 'vfio' is missing: expected [[vfio]]"]),
        ("[[vfio]]\ndevices = '*'\nparallel = 1\n", ["vfio[0].parallel: expected true or false, got a whole number"]),
        ("[[vfio]]\ndevices = '*'\n[phases]\nload = 1\n", ["phases: unknown key 'load'; known are: pause_vcpus_s"]),
    ],
)
def test_errors_name_the_table_and_the_keys_that_are_known(text: str, words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        parsed(TREE + text)
    assert [word for word in words if word not in str(caught.value)] == []


def test_many_devices_make_no_long_error() -> None:
    devices = TREE.replace("{0..7}", "{0..9999}")
    with pytest.raises(ScenarioError) as caught:
        parsed(devices + "[[vfio]]\ndevices = 'gpu*'\n")
    assert len(str(caught.value)) < 500
