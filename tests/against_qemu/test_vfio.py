"""Four devices that change one after another, against a real QEMU with real VFIO devices (see tests/data)."""

import re
from collections.abc import Iterable, Iterator

import pytest
from suite import DATA

from vfio_migration.recorded import format_log
from vfio_migration.testing import MachineRig, PairRig
from vmstate import MonitorEvent, RunState

CAPTURE = DATA / "qemu-11.1.3-vfio"
DEVICES = ("vf0", "vf1", "vf2", "vf3")
COMPARED = (
    "migrate_set_state",
    "runstate_set",
    "vfio_migration_set_device_state",
    "vfio_migration_set_state",
    "vfio_save_complete_precopy",
    "vfio_save_complete_precopy_start",
    "vfio_vmstate_change",
    "vfio_vmstate_change_prepare",
    "vm_state_notify",
    "vmstate_downtime_checkpoint",
)


@pytest.fixture(scope="module")
def ours() -> Iterator[PairRig]:
    """Do what was done to the real ones: start the source, whose destination waits, and migrate it."""
    with PairRig(run_state=RunState.PRELAUNCH, parallel=False) as pair:
        for name in DEVICES:
            pair.add_device(name, latency=0.020, state_size=60, precopy_size=60, precopy_dirty=(), events=True)
        pair.destination.machine.prepare_incoming()
        pair.recorder.clear()
        pair.source.machine.start()
        assert pair.migrate().completed
        yield pair


def lines(text: str) -> list[str]:
    """Give the lines of a log that are compared, without their times, devices called by their place in the tree."""
    found = [" ".join(line.split()[1:]) for line in text.splitlines()]
    kept = [line for line in found if line.split(" ", 1)[0] in COMPARED]
    return in_order(kept, r"\(([0-9a-f-]{36})\)")


def in_order(texts: Iterable[str], pattern: str) -> list[str]:
    """Replace what the pattern finds by names in the order of their coming."""
    names: dict[str, str] = {}
    return [re.sub(pattern, lambda match: f"({names.setdefault(match[1], f'vf{len(names)}')})", text) for text in texts]


@pytest.mark.parametrize("side", ["src", "dst"])
def test_requests_handlers_and_phases_come_in_the_order_of_the_real_logs(ours: PairRig, side: str) -> None:
    real = lines((CAPTURE / f"step20-{side}.log").read_text(encoding="utf-8"))
    rig = ours.source if side == "src" else ours.destination
    mine = lines(format_log(ours.recorder.events, rig.machine.name))
    # The real processes were told to quit in the end, which stops what runs once more.
    assert mine == real[: len(mine)]
    assert all("shutdown" in line or "set_" in line or "change" in line for line in real[len(mine) :])
    assert any(line.startswith("migrate_set_state new state completed") for line in mine)


def said(event: MonitorEvent) -> str:
    if event.name == "VFIO_MIGRATION":
        return f"VFIO_MIGRATION {event.data['device-id']} {event.data['device-state']}"
    return f"{event.name} {event.data.get('status', '')}".strip()


@pytest.mark.parametrize("side", ["src", "dst"])
def test_events_come_in_the_order_of_the_real_dialogue(ours: PairRig, side: str) -> None:
    text = (CAPTURE / f"step20-{side}-events.txt").read_text(encoding="utf-8")
    real = [" ".join(line.split()[1:]) for line in text.splitlines()]
    rig: MachineRig = ours.source if side == "src" else ours.destination
    mine = [said(event) for event in rig.announced]
    if side == "src":  # who listened to the real one came later
        mine = mine[mine.index("MIGRATION setup") :]
    assert mine == real
