"""What the real QEMU 11.1.3 did (tests/data/qemu-11.1.3, see its README), done here: the order is the same."""

import json
import re
from collections.abc import Callable, Iterable
from functools import partial

import pytest
import suite

from vfio_migration import Migration, MigrationReport, MigrationStatus, migrate
from vmstate import (
    Bus,
    Device,
    DeviceTree,
    Machine,
    MonitorEvent,
    Recorder,
    RunState,
    TraceEvent,
    VirtualClock,
    add_device_handler,
    parse_qtree,
)

DATA = suite.DATA / "qemu-11.1.3"

# The virtio devices of each capture, in the order of its command line: the id of the PCI device.
VIRTIO = {
    "flat": ["rng0", "rng1", "rng2"],
    "host": ["net0", "scsi0", "rng0", "bal0"],
    "cancel": ["rng_root", "rng_deep", "net_rp", "rng_root2", "scsi0", "bal0"],
}

FORMATS: dict[str, Callable[[TraceEvent], str]] = {
    "runstate_set": lambda e: (
        "current_run_state {current_state} ({current_state_str}) new_state {new_state} ({new_state_str})".format(
            **e.fields
        )
    ),
    "vm_state_notify": lambda e: "running {running} reason {reason} ({reason_str})".format(**e.fields),
    "migrate_set_state": lambda e: "new state {new_state}".format(**e.fields),
    "vmstate_downtime_checkpoint": lambda e: "{checkpoint}".format(**e.fields),
    "migration_call_notifiers": lambda e: "type={type}".format(**e.fields),
    "migration_completion_vm_stop": lambda e: "ret {ret}".format(**e.fields),
    "migration_thread_low_pending": lambda e: "{pending}".format(**e.fields),
}


def log(name: str) -> list[str]:
    """Give the lines of a capture's trace log without their time."""
    return [line.split(" ", 1)[1] for line in (DATA / f"{name}.trace.log").read_text().splitlines()]


def phases(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line.split(" ", 1)[0] in FORMATS]


def our_phases(recorder: Recorder, machine: Machine) -> list[str]:
    return [f"{e.name} {FORMATS[e.name](e)}" for e in recorder.select(*FORMATS, machine=machine.name)]


def dialogue(name: str) -> list[str]:
    """Give the events of a monitor's dialogue, a migration's status in place of MIGRATION."""
    said = [json.loads(line).get("S", {}) for line in (DATA / f"{name}.qmp.jsonl").read_text().splitlines()]
    return [
        each["data"]["status"] if each["event"] == "MIGRATION" else each["event"]
        for each in said
        if each.get("event") not in (None, "SHUTDOWN", "MIGRATION_PASS")
    ]


def tree_of(capture: str) -> DeviceTree:
    if capture != "cancel":
        return parse_qtree((DATA / f"{capture}.qtree.txt").read_text())
    # No `info qtree` was captured of this one; its command line says where things are.
    root = Bus("main-system-bus")
    pcie = Bus("pcie.0", Device("", root, "q35-pcihost"))
    downstream = Bus("dn0", Device("dn0", Bus("up0", Device("up0", Bus("rp0", Device("rp0", pcie))))))
    buses = {"rng_deep": downstream, "net_rp": Bus("rp1", Device("rp1", pcie))}
    for name in VIRTIO["cancel"]:
        kind = name.partition("_")[0].rstrip("0123456789")
        kind = {"bal": "balloon"}.get(kind, kind)
        Device("", Bus("virtio-bus", Device(name, buses.get(name, pcie))), f"virtio-{kind}-device")
    return DeviceTree(root)


def machine_of(capture: str, called: list[tuple[str, str]], **options: object) -> Machine:
    """Build the captured machine, with the handlers that the captures' README lists."""
    machine = Machine(**options)  # type: ignore[arg-type]
    tree = tree_of(capture)
    for name in VIRTIO[capture]:
        virtio = tree.device(name).buses[0].devices[0]
        # As in QEMU's realize: the device's own handler first, then the plain one of an rng.
        add_device_handler(machine.handlers, virtio, partial(_note, called, "virtio_set_status", name))
        if virtio.type == "virtio-rng-device":
            machine.handlers.add(partial(_note, called, "virtio_rng_vm_state_change", name), priority=0)
    return machine


def _note(called: list[tuple[str, str]], event: str, name: str, running: bool, state: RunState) -> None:
    called.append((event, name))


def real_calls(name: str, handlers: int) -> list[tuple[str, str, str]]:
    """Give what the real handlers traced in each notification: notification, event, address."""
    lines = log(name)
    calls = []
    for place, line in enumerate(lines):
        if line.startswith("vm_state_notify"):
            for call in lines[place + 1 : place + 1 + handlers]:
                match = re.match(r"(\S+) \S+ (0x[0-9a-f]+)", call)
                assert match is not None
                calls.append((line, match[1], match[2]))
    return calls


def run_capture(capture: str, source: Machine, destination: Machine) -> MigrationReport:
    """Do to our machines what was done to the real ones."""

    def steer(migration: Migration, status: MigrationStatus) -> None:
        if status is MigrationStatus.PRE_SWITCHOVER:
            migration.cancel()

    source.start()
    if capture != "cancel":
        source.stop()
        source.start()
    report = migrate(source, destination, pause_before_switchover=capture == "cancel", on_status=steer)
    (source if capture == "cancel" else destination).shutdown()
    return report


class Ours:
    """The captured pair, after the captured actions."""

    def __init__(self, capture: str) -> None:
        self.recorder = Recorder()
        self.calls: dict[str, list[tuple[str, str]]] = {"src": [], "dst": []}
        clock = VirtualClock()
        self.source = machine_of(capture, self.calls["src"], name="src", clock=clock, trace=self.recorder)
        self.destination = machine_of(
            capture,
            self.calls["dst"],
            name="dst",
            clock=clock,
            trace=self.recorder,
            run_state=RunState.INMIGRATE,
        )
        self.announced: dict[str, list[MonitorEvent]] = {"src": [], "dst": []}
        self.source.monitor.subscribe(self.announced["src"].append)
        self.destination.monitor.subscribe(self.announced["dst"].append)
        self.report = run_capture(capture, self.source, self.destination)

    def events(self, side: str) -> list[str]:
        return [
            str(event.data["status"]) if event.name == "MIGRATION" else event.name
            for event in self.announced[side]
            if event.name != "MIGRATION_PASS"  # a guest that dirties its memory has more of them
        ]


@pytest.mark.parametrize("side", ["src", "dst"])
@pytest.mark.parametrize("capture", ["flat", "host", "cancel"])
def test_handlers_are_called_in_the_order_of_the_real_machine(capture: str, side: str) -> None:
    ours = Ours(capture).calls[side]
    machine = machine_of(capture, [])
    real = real_calls(f"{capture}-{side}", len(machine.handlers))
    assert [event for event, _ in ours] == [event for _, event, _ in real]
    names: dict[str, set[str]] = {}
    for (_, name), (_, _, address) in zip(ours, real, strict=True):
        names.setdefault(address, set()).add(name)
    # One name for one address, however often and in whichever direction handlers were called.
    assert all(len(each) == 1 for each in names.values()), names
    assert len({name for each in names.values() for name in each}) == len(names)
    assert bool(real) == (capture != "cancel" or side == "src")


@pytest.mark.parametrize("capture", ["flat", "host", "cancel"])
def test_the_phases_of_a_migration_come_in_the_order_of_the_real_logs(capture: str) -> None:
    ours = Ours(capture)
    assert our_phases(ours.recorder, ours.source) == phases(log(f"{capture}-src"))
    assert our_phases(ours.recorder, ours.destination) == phases(log(f"{capture}-dst"))


@pytest.mark.parametrize("capture", ["flat", "host", "cancel"])
def test_the_monitor_announces_what_the_real_dialogues_show(capture: str) -> None:
    ours = Ours(capture)
    # The real machine started before anybody listened, and was asked to quit in the end.
    assert ours.events("src")[:1] == ["RESUME"]
    assert ours.events("src")[1:] == dialogue(f"{capture}-src")
    real = dialogue(f"{capture}-dst")
    if capture == "cancel":
        assert real == []  # events were not switched on there
    else:
        assert ours.events("dst") == ["setup", *real]  # events were switched on after setup


@pytest.mark.parametrize(("capture", "status"), [("flat", "completed"), ("host", "completed"), ("cancel", "cancelled")])
def test_the_captured_migrations_end_as_the_real_ones_did(capture: str, status: str) -> None:
    assert Ours(capture).report.status == status
    assert dialogue(f"{capture}-src")[-1] == status


def test_the_depths_of_the_hosts_devices_are_those_of_its_command_line() -> None:
    tree = tree_of("host")
    # main system bus, pcie.0, root port; for the GPUs also the switch's two ports
    assert {device.id: device.depth for device in tree.match("vf*")} == dict.fromkeys(["vf3", "vf2", "vf1", "vf0"], 3)
    assert {device.id: device.depth for device in tree.match("gpu*")} == {f"gpu{n}": 5 for n in range(4)}
