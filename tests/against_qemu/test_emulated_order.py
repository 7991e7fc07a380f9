"""What the real QEMU did with a command line (tests/data/qemu-11.1.3), done by the emulator with the same one."""

import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import suite
from suite.dialogues import host_devices
from suite.emulators import Emulator, Emulators

from vmstate import Device, parse_qtree

DATA = suite.DATA / "qemu-11.1.3"
PHASES = ("runstate_set", "vm_state_notify", "migrate_set_state", "vmstate_downtime_checkpoint", "migration_completion")
CALLS = ("virtio_set_status", "virtio_rng_vm_state_change")
HANDLERS = {"flat": 6, "host": 5, "cancel": 9}  # that a notification calls and that trace something
EVENTS = [*PHASES[:-1], "migration_completion_vm_stop", *CALLS]
TRACED = [word for name in EVENTS for word in ("-trace", name)]

pytestmark = pytest.mark.slow


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with tempfile.TemporaryDirectory(prefix="emu") as folder, Emulators(Path(folder)) as started:
        yield started


def told(log: str, handlers: int) -> list[str]:
    """Give phases and what each notification calls; devices by the order in which the log first has them."""
    seen: dict[str, str] = {}
    lines, left = [], 0
    for line in log.splitlines():
        text = line.split(" ", 1)[1]
        name = text.split(" ", 1)[0]
        if name.startswith("vm_state_notify"):
            left = handlers
        if name in CALLS and left:
            left -= 1
            text = text.partition(" val ")[0]  # of a status that firmware has set
            lines.append(re.sub(r"0x[0-9a-f]+", lambda match: seen.setdefault(match[0], f"device {len(seen)}"), text))
        elif name.startswith(PHASES):
            lines.append(text)
    return lines


def captured(name: str, side: str) -> str:
    return (DATA / f"{name}-{side}.trace.log").read_text(encoding="utf-8")


def started(emulators: Emulators, capture: str, side: str, *options: str) -> Emulator:
    devices = shlex.split(host_devices(DATA / f"{capture}.cmdline.txt"))
    return emulators.start(side, *devices, *TRACED, "-D", f"{side}.log", "-msg", "timestamp=on", *options)


@pytest.mark.parametrize("capture", ["flat", "host", "cancel"])
def test_handlers_states_and_statuses_come_in_the_same_order(capture: str, emulators: Emulators) -> None:
    source = started(emulators, capture, "src")
    destination = started(emulators, capture, "dst", "-incoming", "unix:m.sock")
    if capture == "cancel":
        source.capability("pause-before-switchover")
        source.qmp.execute("migrate", uri="unix:m.sock")
        source.qmp.wait_for("MIGRATION", status="pre-switchover")
        source.qmp.execute("migrate_cancel")
        source.qmp.wait_for("MIGRATION", status="cancelled")
    else:
        source.qmp.execute("stop")
        source.qmp.execute("cont")
        source.qmp.execute("migrate", uri="unix:m.sock")
        source.qmp.wait_for("MIGRATION", status="completed")
        destination.qmp.wait_for("MIGRATION", status="completed")
    for each in (source, destination):
        if capture != "cancel" or each is source:
            each.qmp.execute("quit")
            each.end()
    sides = ("src",) if capture == "cancel" else ("src", "dst")
    for side in sides:
        ours = told((emulators.folder / f"{side}.log").read_text(encoding="utf-8"), HANDLERS[capture])
        assert ours == told(captured(capture, side), HANDLERS[capture])


@pytest.mark.parametrize("capture", ["flat", "host"])
def test_the_tree_has_the_same_devices_buses_and_depths(capture: str, emulators: Emulators) -> None:
    source = started(emulators, capture, "src")
    said = source.qmp.execute("human-monitor-command", command_line="info qtree")

    def shown(text: str) -> list[tuple[str, str, int, str]]:
        return [(each.id, each.type, each.depth, bus_of(each)) for each in parse_qtree(text)]

    assert shown(said) == shown((DATA / f"{capture}.qtree.txt").read_text(encoding="utf-8"))


def bus_of(device: Device) -> str:
    return "" if device.bus is None else device.bus.name
