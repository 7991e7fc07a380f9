"""In which order a real QEMU with the patch changes its devices, and what overlaps, against our run of the machine."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise

import pytest
from suite.patched_runs import FOLDER

from vfio_migration.importing import ImportedScenario, import_logs
from vfio_migration.recorded import format_log
from vfio_migration.scenarios.runner import run_once
from vmstate import TraceEvent, VirtualClock

PARALLEL = ("on-a", "on-b", "parallel-virtio", "parallel-8", "threads-on")
SERIAL = ("off-a", "serial-10.2", "virtio-off")
SIDES = ("src", "dst")
BEGINS = {"src": r"vm_state_notify running 0 reason 7 ", "dst": r"dst-precopy-loadvm-completed$"}
ENDS = {"src": r"src-vm-stopped$", "dst": r"dst-precopy-bh-vm-started$"}
# Threads take the time and then wait for the log, so that lines of different ones may be that much out of order.
JITTER_S = 0.0005
# In the log with virtio devices beside: they are on a bus of a device on pcie.0.
VIRTIO_DEVICES, VIRTIO_DEPTH = 2, 3


@dataclass(frozen=True)
class Stage:
    """A pass at one depth: the devices by their number, when each was asked, when each had come."""

    prepares: bool
    depth: int
    asked: Mapping[int, float]
    came: Mapping[int, float]


@cache
def imported(name: str) -> ImportedScenario:
    tree = "on-a" if name == "threads-on" else name
    return import_logs(FOLDER / f"{name}-src.log", FOLDER / f"{name}-dst.log", FOLDER / f"{tree}-qtree.txt")


@cache
def our_events(name: str, parallel: bool) -> tuple[TraceEvent, ...]:
    scenario = imported(name).scenario
    run = run_once(scenario if parallel else scenario.serial(), VirtualClock())
    assert run.completed
    return tuple(run.events)


def ours(name: str, side: str, *, parallel: bool) -> list[Stage]:
    machine = {"src": "source", "dst": "destination"}[side]
    return stages(format_log(our_events(name, parallel), machine), side, depths(name))


def real(name: str, side: str) -> list[Stage]:
    return stages((FOLDER / f"{name}-{side}.log").read_text(encoding="utf-8"), side, depths(name))


def depths(name: str) -> dict[int, int]:
    return {number_of(spec.id): spec.depth for spec in imported(name).scenario.devices}


def number_of(device: str) -> int:
    """Give the number that ends a device's name, on both sides."""
    return int(device[-2:])


def switchover(text: str, side: str) -> list[tuple[float, str]]:
    """Give the lines from telling the machine to stop or start to its having done so, with their times in seconds."""
    lines = text.splitlines()
    first = max(place for place, line in enumerate(lines) if re.search(BEGINS[side], line))
    last = next(place for place, line in enumerate(lines) if re.search(ENDS[side], line))
    parts = [line.partition("Z ") for line in lines[first : last + 1]]
    return [(datetime.fromisoformat(time).timestamp(), event) for time, _, event in parts]


def stages(text: str, side: str, depth_of: Mapping[int, int]) -> list[Stage]:
    """Give the stages of a side in the order of their first requests."""
    found: dict[tuple[bool, int], Stage] = {}
    for time, line in switchover(text, side):
        match = re.match(r"vfio_migration_set_(device_)?state  \((\S+)\) (?:new )?state (\w+)", line)
        if match:
            number, prepares = number_of(match[2]), match[3].endswith("_P2P")
            stage = found.setdefault((prepares, depth_of[number]), Stage(prepares, depth_of[number], asked={}, came={}))
            times = stage.came if match[1] else stage.asked
            assert isinstance(times, dict)
            times[number] = time
    return sorted(found.values(), key=lambda stage: min(stage.asked.values()))


def shape(found: Sequence[Stage]) -> list[tuple[bool, int, set[int]]]:
    """Give passes, depths and devices in turn, whoever of a stage comes first."""
    return [(stage.prepares, stage.depth, set(stage.asked)) for stage in found]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", PARALLEL)
def test_passes_depths_and_devices_come_in_the_order_of_the_real_logs(name: str, side: str) -> None:
    here, there = ours(name, side, parallel=True), real(name, side)
    assert shape(here) == shape(there)
    found = sorted({stage.depth for stage in there}, reverse=side == "src")  # descending at the stop
    assert [stage.depth for stage in there] == [*found, *found]
    assert [stage.prepares for stage in there] == [True] * len(found) + [False] * len(found)
    assert sum(len(stage.asked) for stage in there) == 2 * len(depths(name))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", PARALLEL)
def test_all_of_a_stage_are_asked_before_any_has_come_and_the_next_stage_waits_for_them_all(
    name: str, side: str
) -> None:
    for found in (real(name, side), ours(name, side, parallel=True)):
        for stage in found:
            assert set(stage.asked) == set(stage.came)
            assert max(stage.asked.values()) < min(stage.came.values())
        for before, after in pairwise(found):
            assert max(before.came.values()) <= min(after.asked.values()) + JITTER_S


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", SERIAL)
def test_with_the_property_off_the_devices_change_one_after_another_in_our_order(name: str, side: str) -> None:
    here, there = ours(name, side, parallel=False), real(name, side)
    assert shape(here) == shape(there)
    for found in (here, there):
        turns = [(asked, stage.came[number]) for stage in found for number, asked in stage.asked.items()]
        assert all(came <= asked for (_, came), (asked, _) in pairwise(turns))
    assert [list(stage.asked) for stage in here] == [list(stage.asked) for stage in there]


@pytest.mark.parametrize("side", SIDES)
def test_threads_are_launched_and_joined_in_our_order(side: str) -> None:
    lines = switchover((FOLDER / f"threads-on-{side}.log").read_text(encoding="utf-8"), side)
    steps = [re.match(r"vfio_vmstate_thread  \((\S+)\) (launch|join) (\S+) ", line) for _, line in lines]
    launched = [(step[3], number_of(step[1])) for step in steps if step and step[2] == "launch"]
    joined = [number_of(step[1]) for step in steps if step and step[2] == "join"]
    # Last registered first at the stop, first registered first at the start.
    order = sorted(depths("threads-on"), reverse=side == "src")
    assert launched == [(kind, number) for kind in ("prepare", "main") for number in order]
    assert joined == order * 2
    machine = {"src": "source", "dst": "destination"}[side]
    events = [event for event in our_events("threads-on", True) if event.machine == machine]
    begun = [
        (str(event.fields["kind"]), number_of(str(event.fields["name"])))
        for event in events
        if event.name == "vfio_change_begin"
    ]
    joins = [number_of(str(event.fields["name"])) for event in events if event.name == "vfio_join_begin"]
    # The source was started before, in the other order.
    assert begun[-len(launched) :] == launched
    assert joins[-len(joined) :] == joined


@pytest.mark.parametrize("side", SIDES)
def test_ordinary_handlers_are_called_while_the_threads_of_their_depth_are_there(side: str) -> None:
    lines = switchover((FOLDER / f"parallel-virtio-{side}.log").read_text(encoding="utf-8"), side)
    marks = [time for time, line in lines if line.startswith("virtio_set_status")]
    assert len(marks) == VIRTIO_DEVICES
    found = real("parallel-virtio", side)
    (place,) = (place for place, each in enumerate(found) if not each.prepares and each.depth == VIRTIO_DEPTH)
    # After all of the stage before, and before any of this one: its threads were launched, and none was joined yet.
    assert max(found[place - 1].came.values()) < min(marks)
    assert max(marks) < min(found[place].came.values())
