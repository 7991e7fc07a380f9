"""
Serial against parallel, with a delay put before each arc of a switchover: as long as the plan says.

About time, and so only here, where nobody else has the processors; of several runs, the median.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from suite.mtty import Delaying

from vfio_migration import VFIODevice, VFIOMigration, migrate
from vfio_migration.kernel import KernelDevice
from vfio_migration.scenarios.file import scenario_from_data
from vfio_migration.testing import SWITCHOVER_ARCS
from vmstate import Bus, Device, Machine, RealClock

Opening = Callable[..., KernelDevice]
CLOCK = RealClock()
DELAY_S = 0.02
DEVICES = 4
RUNS = 5


def planned_s(*, parallel: bool) -> float:
    """The plan's figure for such devices; their state takes no time."""
    tree: list[dict[str, Any]] = [{"bus": "main-system-bus", "buses": ["pcie.0"]}]
    tree += [{"bus": "pcie.0", "id": f"vf{number}"} for number in range(DEVICES)]
    vfio: dict[str, Any] = {
        "devices": "vf*",
        "state_size": 64,
        "precopy_size": 0,
        "latency": dict.fromkeys(SWITCHOVER_ARCS, DELAY_S),
    }
    bounds = scenario_from_data({"tree": {"devices": tree}, "vfio": [vfio]}, Path("real")).plan().bounds
    return bounds.mechanism_s if parallel else bounds.serial_s


def measured_s(opened: Opening, *, parallel: bool) -> float:
    ends = [Machine("source", clock=CLOCK), Machine("destination", clock=CLOCK)]  # and nobody records
    took = []
    with ExitStack() as after:
        for number in range(DEVICES):
            for machine in ends:
                device = VFIODevice(
                    Device(f"vf{number}", Bus("pcie.0")),
                    Delaying(opened(), DELAY_S),
                    migration_parallel_states=parallel,
                )
                after.enter_context(VFIOMigration(machine, device))
        ends[0].start()
        for _ in range(RUNS):
            report = migrate(*ends)
            assert report.completed
            assert report.switchover_s is not None
            took.append(report.switchover_s)
            ends.reverse()
    sys.stdout.write(f"parallel={parallel}: {took}, planned {planned_s(parallel=parallel)}\n")
    return median(took)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_switchover_is_as_long_as_the_plan_says(parallel: bool, opened: Opening) -> None:
    planned = planned_s(parallel=parallel)
    assert measured_s(opened, parallel=parallel) == pytest.approx(planned, rel=0.1)
