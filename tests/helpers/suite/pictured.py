"""Results to draw: of the host scenario, of all parts, of many devices, of names that nobody should choose."""

from functools import cache
from pathlib import Path

from vfio_migration.recorded.timeline import Timeline, build_timeline
from vfio_migration.scenarios.file import load_scenario, parse_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.runner import Result, run_scenario
from vmstate import TraceEvent, VirtualClock

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

_WHOLE = """
[tree]
devices = [
    { bus = "main-system-bus", type = "host", buses = ["pcie.0"] },
    { bus = "pcie.0", ids = "vf{0..1}", type = "vfio-pci" },
    { bus = "pcie.0", type = "virtio-net", id = "net0" },
]

[[vfio]]
devices = "vf*"
state_size = "20 MB"
rate = "2 GB/s"
write_rate = "400 MB/s"
config_load = "10 ms"
latency = { default = "20 ms" }

[[handlers]]
types = "virtio-net"
stop = 0.015

[ram]
size = "1 GB"
dirty_rate = "100 MB/s"

[link]
bandwidth = "2 GB/s"
latency_s = "0.1 ms"

[phases]
pause_vcpus_s = 0.005
flush_block_s = 0.012
final_query_s = 0.020
other_state_s = 0.015
load_state_s = 0.010
activate_block_s = 0.020
"""


def whole_scenario(channels: int = 0) -> Scenario:
    """Give a scenario whose switchover has all parts that there are, with so many multifd channels."""
    return parse_scenario(f"{_WHOLE}[parameters]\nmultifd_channels = {channels}\n", Path("whole.toml"))


@cache
def whole(*modes: str) -> Result:
    return run_scenario(whole_scenario(), modes or ("serial", "parallel"), runs=1, make_clock=VirtualClock)


def over_channels() -> Timeline:
    """Give a switchover by hand, in ms: two devices saved and loaded by threads, over two channels, beside memory."""
    events = [_event("vmstate_downtime_checkpoint", 0, checkpoint="src-downtime-start")]
    events += [_event("vmstate_downtime_checkpoint", 10, checkpoint="src-vm-stopped")]
    events += _pair("savevm_section", 10, 40, "main", id="ram", section_id=0, ret=0)
    for number in range(2):
        name, thread = f"vf{number}", f"save vf{number}"
        events += _pair("vfio_save_complete_precopy_thread", 10, 50, thread, name=name, ret=0)
        for start in (12, 32):
            packet = f"channel {number}", ("begin", "end")
            events += _pair("multifd_send", start, start + 10, *packet, channel=number, name=name, bytes=1 << 20)
    events += [_event("vmstate_downtime_checkpoint", 60, "destination", checkpoint="dst-precopy-bh-enter")]
    for number in range(2):
        name, where = f"vf{number}", (f"load vf{number}", ("start", "end"), "destination")
        events += _pair("vfio_load_bufs_thread", 15, 58, *where, name=name)
        if number:
            events += _pair("vfio_load_state_device_buffer_load", 25, 45, *where, name=name, idx=0)
        events += _pair("vfio_load_device_config_state", 52, 57, *where, name=name)
    events += [_event("vmstate_downtime_checkpoint", 70, "destination", checkpoint="dst-precopy-bh-vm-started")]
    return build_timeline(sorted(events, key=lambda event: event.time_ns))


def _pair(
    name: str,
    start_ms: int,
    end_ms: int,
    thread: str,
    ends: tuple[str, str] = ("start", "end"),
    machine: str = "source",
    /,
    **fields: object,
) -> list[TraceEvent]:
    return [
        _event(f"{name}_{end}", at_ms, machine, thread, **fields)
        for end, at_ms in zip(ends, (start_ms, end_ms), strict=True)
    ]


def _event(name: str, at_ms: int, machine: str = "source", thread: str = "main", /, **fields: object) -> TraceEvent:
    return TraceEvent(at_ms * 1_000_000, machine, thread, name, fields)


@cache
def many_over_channels() -> Result:
    """Give forty devices over four channels, so that lanes are thin."""
    text = _WHOLE.replace("vf{0..1}", "vf{0..39}")
    scenario = parse_scenario(f"{text}[parameters]\nmultifd_channels = 4\ndowntime_limit_s = 1\n", Path("many.toml"))
    return run_scenario(scenario, ("parallel",), runs=1, make_clock=VirtualClock)


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
