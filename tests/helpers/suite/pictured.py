"""Results to draw: of the host scenario, of many devices, of names that nobody should choose."""

from functools import cache
from pathlib import Path

from vfio_migration.scenarios.file import load_scenario, parse_scenario
from vfio_migration.scenarios.runner import Result, run_scenario
from vmstate import VirtualClock

_MANY = """
[tree]
devices = [
    {{ bus = "main-system-bus", type = "host", buses = ["pcie.0"] }},
    {{ bus = "pcie.0", type = "pci-bridge", id = "bridge", buses = ["switch"] }},
    {{ bus = "pcie.0", type = "virtio-net", id = "net0" }},
{devices}]

[[vfio]]
devices = "vf*"
latency = {{ default = 0.040 }}

[[vfio]]
devices = "gpu*"
state_size = 65536
rate = 6553600.0
latency = {{ default = 0.080 }}

[[handlers]]
types = "virtio-net"
stop = 0.015
start = 0.010
"""
_NAMED = """
[tree]
devices = [
    {{ bus = "main-system-bus", type = "host", buses = ["pcie.0"] }},
{devices}]

[[vfio]]
devices = "*"
latency = {{ default = 0.010 }}
"""


@cache
def host(*modes: str) -> Result:
    return run_scenario(load_scenario("host"), modes or ("serial", "parallel"), runs=1, make_clock=VirtualClock)


@cache
def many(count: int) -> Result:
    names = [("pcie.0", f"vf{number}") for number in range(count // 2)]
    names += [("switch", f"gpu{number}") for number in range(count - count // 2)]
    return _run(_MANY, names, f"many{count}")


@cache
def named(*names: str) -> Result:
    return _run(_NAMED, [("pcie.0", name) for name in names], "named <b>&amp;")


def _run(text: str, devices: list[tuple[str, str]], name: str) -> Result:
    lines = [f'    {{ bus = "{bus}", type = "vfio-pci", id = {_quoted(device)} }},\n' for bus, device in devices]
    scenario = parse_scenario(text.format(devices="".join(lines)), Path(f"{name}.toml"))
    return run_scenario(scenario, runs=1, make_clock=VirtualClock)


def _quoted(name: str) -> str:
    return '"' + "".join(char if char.isalnum() else f"\\u{ord(char):04x}" for char in name) + '"'
