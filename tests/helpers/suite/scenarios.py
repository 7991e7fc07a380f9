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
