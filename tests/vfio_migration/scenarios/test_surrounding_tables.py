"""`[ram]`, `[link]`, `[parameters]`, `[phases]`, and what `[[vfio]]` says of loading: read, refused, overridden."""

from dataclasses import replace
from pathlib import Path

import pytest

from vfio_migration.errors import ScenarioError
from vfio_migration.live.parameters import Link, MigrationParameters, Phases
from vfio_migration.plan.surroundings import NO_SURROUNDINGS, PlannedRam
from vfio_migration.scenarios.file import parse_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.overrides import override

BARE = """
[tree]
devices = [{ bus = "main-system-bus", ids = "vf{0..1}" }]
[[vfio]]
devices = "*"
state_size = "100 MB"
rate = "1 GB/s"
write_rate = "4 Gbit/s"
config_load = "5 ms"
"""
FULL = f"""{BARE}
[ram]
size = "16 GB"
dirty_rate = "50 MB/s"
[link]
bandwidth = "25 Gbit/s"
latency_s = "1 ms"
[parameters]
downtime_limit_s = "500 ms"
max_bandwidth = "8 Gbit/s"
[phases]
launch_s = "1 ms"
join_s = 0.002
"""


def parsed(text: str) -> Scenario:
    return parse_scenario(text, Path("x.toml"))


def test_all_of_it_is_optional() -> None:
    scenario = parsed(BARE)
    assert scenario.surroundings == NO_SURROUNDINGS
    assert scenario.phases == Phases()


def test_every_key_is_read_with_its_unit() -> None:
    scenario = parsed(FULL)
    around = scenario.surroundings
    assert around.ram == PlannedRam(16 * 10**9, 50e6)
    assert around.link == Link(3.125e9, 0.001)
    assert around.parameters == MigrationParameters(downtime_limit_s=0.5, max_bandwidth=1e9)
    assert scenario.phases == Phases(launch_s=0.001, join_s=0.002)
    state = scenario.devices[0].planned_state
    assert (state.size, state.rate, state.write_rate, state.config_load_s) == (10**8, 1e9, 5e8, 0.005)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("[ram]\ndirty_rate = 1", r"ram: the key 'size' is missing"),
        ("[ram]\nsize = -1", r"ram\.size: expected bytes, 0 or more and less than 2\*\*63, got -1"),
        ("[ram]\nsize = '5 ms'", r"ram\.size: expected bytes, a number such as"),
        ("[ram]\nsize = 1\ndirty_rate = -1", r"ram\.dirty_rate: expected bytes per second, 0 or more, got -1"),
        ("[ram]\nsize = 1\ndirty = 1", r"ram: unknown key 'dirty'; known are: size, dirty_rate"),
        ("[link]\nlatency_s = 1", r"link: the key 'bandwidth' is missing"),
        ("[link]\nbandwidth = 0", r"link\.bandwidth: expected bytes per second, a number more than 0, got 0"),
        ("[link]\nbandwidth = 1e-5", r"link\.bandwidth: expected to send [\d,]+ bytes in at most 1e\+09 seconds"),
        ("[link]\nbandwidth = 1\nlatency_s = -1", r"link\.latency_s: expected seconds, a number from 0"),
        ("[parameters]\ndowntime_limit_s = 'long'", r"parameters\.downtime_limit_s: expected seconds"),
        ("[parameters]\ndowntime_limit_s = -1", r"parameters\.downtime_limit_s: expected seconds"),
        ("[parameters]\nmax_bandwidth = 0", r"parameters\.max_bandwidth: expected bytes per second"),
        ("[parameters]\nswitchover_bandwidth = -1", r"parameters\.switchover_bandwidth: expected bytes per second"),
        (
            "[parameters]\nmultifd_channels = 256",
            r"parameters\.multifd_channels: expected a whole number from 0 to 255",
        ),
        ("[parameters]\nreturn_path = 1", r"parameters\.return_path: expected true or false"),
        ("[parameters]\nlimit = 1", r"parameters: unknown key 'limit'; known are: downtime_limit_s, max_bandwidth"),
        ("[phases]\njoin_s = -1", r"phases\.join_s: expected seconds"),
    ],
)
def test_what_makes_no_sense_is_refused_with_file_key_and_expectation(table: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=rf"^x\.toml: {words}"):
        parsed(f"{BARE}\n{table}\n")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('write_rate = "4 Gbit/s"', "write_rate = 0", r"vfio\[0\]\.write_rate: expected bytes per second, more than 0"),
        ('write_rate = "4 Gbit/s"', "write_rate = 1e-5", r"vfio\[0\]\.state_size: expected a size that can be sent"),
        ('config_load = "5 ms"', "config_load = -1", r"vfio\[0\]\.config_load: expected seconds"),
    ],
)
def test_so_are_loading_s_keys(old: str, new: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=rf"^x\.toml: {words}"):
        parsed(BARE.replace(old, new))


def test_each_can_be_overridden_with_units() -> None:
    scenario = override(
        parsed(FULL),
        [
            "link.bandwidth=10 Gbit/s",
            "link.latency_s = 2ms",
            "parameters.downtime_limit_s=0.1",
            "parameters.switchover_bandwidth='1 GB/s'",
            "ram.dirty_rate=1e6",
            "ram.size='1 GiB'",
            "phases.final_query_s=46 ms",
            "vf0.write_rate=1e6",
            "vf*.config_load=1ms",
        ],
    )
    around = scenario.surroundings
    assert around.link == Link(1.25e9, 0.002)
    assert around.ram == PlannedRam(2**30, 1e6)
    assert around.parameters == MigrationParameters(downtime_limit_s=0.1, max_bandwidth=1e9, switchover_bandwidth=1e9)
    assert scenario.phases == Phases(launch_s=0.001, join_s=0.002, final_query_s=0.046)
    assert [spec.entry.write_rate for spec in scenario.devices] == [1e6, 5e8]
    assert [spec.entry.config_load for spec in scenario.devices] == [0.001] * 2


def test_a_link_that_the_file_has_not_can_be_set() -> None:
    assert override(parsed(BARE), ["link.bandwidth=1e9"]).surroundings.link == Link(1e9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("link.latency_s=1", r"link: the key 'bandwidth' is missing"),
        ("link.bandwidth=fast", r"link\.bandwidth: expected bytes per second, a number such as"),
        ("link.bandwidth=-1", r"link\.bandwidth: expected bytes per second"),
        ("link.bandwidth=1e-3", r"link\.bandwidth: expected to send"),
        ("parameters.return_path=1", r"parameters\.return_path: expected true or false"),
        ("link.speed=1", r"there is no key 'speed'; .*link\.\{bandwidth, latency_s\}"),
    ],
)
def test_an_override_is_checked_as_a_file_is(text: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        override(parsed(BARE), [text])


def test_serial_differs_in_the_changes_of_state_only() -> None:
    scenario = override(parsed(FULL), ["parameters.downtime_limit_s=5"])
    plan, serial = scenario.plan(), scenario.serial().plan()
    assert plan.precopy == serial.precopy
    assert plan.transfer_s == serial.transfer_s
    assert serial.source_stop_s < plan.source_stop_s  # nothing is launched or joined, and nothing else takes time
    assert replace(scenario.serial(), devices=scenario.devices) == scenario
