"""Scenarios drawn by hypothesis."""

from itertools import pairwise
from pathlib import Path

from hypothesis import strategies as st

from vfio_migration.changes import THREADS
from vfio_migration.scenarios.file import scenario_from_data
from vfio_migration.scenarios.model import Scenario


@st.composite
def machines(draw: st.DrawFn) -> Scenario:
    """Some devices and handlers at some depths, each taking its own whole milliseconds."""
    ms = st.integers(0, 50).map(lambda number: number / 1000)
    depths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    buses = ["main-system-bus", "b1", "b2", "b3"]
    devices = [{"bus": bus, "buses": [following]} for bus, following in pairwise(buses)]
    devices += [{"bus": buses[depth - 1], "id": f"vf{number}"} for number, depth in enumerate(depths)]
    alone = len(depths) == 1
    groups = [
        {
            "devices": f"vf{number}",
            "p2p": draw(st.booleans()) if alone else True,
            "precopy": draw(st.booleans()),
            "parallel": draw(st.booleans()),
            "threads": draw(st.sampled_from(THREADS)),
            "latency": {state: draw(ms) for state in ("STOP", "RUNNING", "RESUMING", "STOP_COPY")},
            "state_size": draw(st.integers(0, 100)),
            "rate": 1000,
        }
        for number in range(len(depths))
    ]
    handlers = [
        draw(
            st.fixed_dictionaries({"stop": ms, "start": ms, "prepare_stop": ms, "prepare_start": ms}).flatmap(
                lambda times: st.sampled_from(
                    [times | {"priority": 0}, *(times | {"devices": f"vf{n}"} for n in range(len(depths)))]
                )
            )
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    data = {"tree": {"devices": devices}, "vfio": groups, "handlers": handlers}
    return scenario_from_data(data, Path("drawn.toml"))


@st.composite
def blackouts(draw: st.DrawFn) -> Scenario:
    """A machine with what a guest misses beside its devices: memory, a link, phases, loading; each may be absent."""
    ms = st.integers(0, 30).map(lambda number: number / 1000)
    rate = st.sampled_from([None, 1e8, 3.3e8, 1e9])
    count = draw(st.integers(1, 4))
    devices = [{"bus": "main-system-bus", "buses": ["b1"]}]
    devices += [{"bus": draw(st.sampled_from(["main-system-bus", "b1"])), "id": f"vf{n}"} for n in range(count)]
    names = ("state_size", "precopy_size")
    groups = [
        {
            "devices": f"vf{number}",
            "precopy": draw(st.booleans()),
            "parallel": draw(st.booleans()),
            "latency": {state: draw(ms) for state in ("STOP", "RUNNING", "RESUMING", "STOP_COPY", "RUNNING_P2P")},
            **{name: draw(st.integers(0, 4_000_000)) for name in names},
            "precopy_dirty": draw(st.lists(st.integers(0, 2_000_000), max_size=3)),
            "config_load": draw(ms),
            "initial_size": draw(st.sampled_from([0, 0, 1, 1_500_000, 4_000_000])),
            "multifd": draw(st.sampled_from(["auto", "auto", False])),
            **{key: value for key in ("rate", "write_rate") if (value := draw(rate)) is not None},
        }
        for number in range(count)
    ]
    data: dict[str, object] = {"tree": {"devices": devices}, "vfio": groups}
    data["handlers"] = [{"devices": "vf0", "stop": draw(ms), "start": draw(ms)}]
    if draw(st.booleans()):
        data["ram"] = {"size": draw(st.integers(1, 300_000_000)), "dirty_rate": draw(st.integers(0, 90_000_000))}
    parameters: dict[str, object] = {}
    if draw(st.booleans()):
        data["link"] = {"bandwidth": draw(st.sampled_from([1e8, 7e8, 1e9])), "latency_s": draw(ms)}
        parameters = {
            "downtime_limit_s": draw(st.sampled_from([0.05, 0.3, 2.0])),
            **({"max_bandwidth": 9.5e7} if draw(st.booleans()) else {}),
            **({"switchover_bandwidth": 5e8} if draw(st.booleans()) else {}),
        }
    parameters["multifd_channels"] = draw(st.sampled_from([0, 0, 1, 2, 8]))
    parameters["return_path"] = parameters["switchover_ack"] = draw(st.booleans())
    data["parameters"] = parameters
    if draw(st.booleans()):
        phases = (
            "pause_vcpus_s",
            "flush_block_s",
            "final_query_s",
            "other_state_s",
            "load_state_s",
            "launch_s",
            "join_s",
        )
        data["phases"] = {name: draw(ms) for name in phases}
    return scenario_from_data(data, Path("drawn.toml"))
