"""What clients ask of an emulator: nothing of it is unknown here, and what it is told of is what the machine is."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import suite
from suite.emulators import VFS, Emulators

from vmstate import parse_qtree

LIBVIRT = suite.DATA / "qmp" / "libvirt"
NAMED = (
    "query-version", "query-commands", "query-qmp-schema", "query-status", "query-name", "query-uuid",
    "query-machines", "query-cpus-fast", "query-kvm", "query-migrate", "query-migrate-capabilities",
    "query-migrate-parameters", "stop", "cont", "system_reset", "system_powerdown", "query-pci",
    "qom-list-types", "query-block", "query-named-block-nodes", "query-chardev", "query-iothreads",
    "query-hotpluggable-cpus", "query-current-machine", "query-target", "query-accelerators",
    "query-command-line-options", "query-cpu-definitions", "query-yank", "query-jobs", "query-block-jobs",
    "query-blockstats", "query-memory-size-summary", "query-memory-devices", "query-memdev", "query-rx-filter",
    "query-dump", "query-spice", "query-vnc", "query-fdsets", "query-replay", "query-dirty-rate",
    "query-colo-status", "query-stats-schemas",
)  # fmt: skip
WITH_ARGUMENTS: dict[str, dict[str, Any]] = {
    "migrate-set-capabilities": {"capabilities": []},
    "migrate-set-parameters": {"downtime-limit": 100},
    "qom-list": {"path": "/machine"},
    "qom-get": {"path": "/machine", "property": "type"},
    "qom-list-properties": {"typename": "vfio-pci"},
    "device-list-properties": {"typename": "vfio-pci"},
    "qom-list-get": {"paths": ["/machine/unattached/device[0]"]},
    "human-monitor-command": {"command-line": "info pci"},
    "set-action": {"panic": "pause"},
    "query-cpu-model-expansion": {"type": "static", "model": {"name": "max"}},
    "device_add": {"driver": "vfio-pci", "id": "new", "bus": "rp2"},
    "device_del": {"id": "vf0"},
    "query-stats": {"target": "vm"},
    "announce-self": {"initial": 50, "max": 550, "rounds": 5, "step": 50},
}
LEFT = ("qmp_capabilities", "getfd", "migrate", "migrate-continue", "migrate-incoming", "cont", "stop")

pytestmark = pytest.mark.slow


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with tempfile.TemporaryDirectory(prefix="emu") as folder, Emulators(Path(folder)) as started:
        yield started


def test_no_command_that_a_harness_asks_is_not_supported(emulators: Emulators) -> None:
    emulator = emulators.start("src", *VFS, "-device", "pcie-root-port,id=rp2,chassis=3,slot=3")
    for name in NAMED:
        emulator.qmp.execute(name)
    for name, arguments in WITH_ARGUMENTS.items():
        emulator.qmp.execute(name, **arguments)


@pytest.mark.parametrize("name", ["probe", "start-suspend-resume", "migrate-src", "migrate-dst"])
def test_what_libvirt_asks_is_answered_in_kind(name: str, emulators: Emulators) -> None:
    lines = [json.loads(line) for line in (LIBVIRT / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[1:]]
    said = {line["S"]["id"]: line["S"] for line in lines if "id" in line.get("S", {})}
    options = ["-S", *(["-incoming", "defer"] if name == "migrate-dst" else [])]
    emulator = emulators.start("q", *options, "-device", "virtio-rng-pci,id=rng0")
    asked = [line["C"] for line in lines if "C" in line and line["C"]["execute"] not in LEFT]
    assert len(asked) >= 10
    for command in asked:
        number = emulator.qmp.send(command["execute"], **command.get("arguments", {}))
        answer, theirs = emulator.qmp.answer(number), said[command["id"]]
        assert answer.get("error") == theirs.get("error"), command
        kind = type(theirs.get("return"))
        assert kind is str or isinstance(answer.get("return"), kind), command  # what is long was left out there


def test_what_is_told_is_what_the_machine_is(emulators: Emulators) -> None:
    """Other names, another order, another tree, other faults: all of it is found in the answers."""
    more = [
        "-device",
        "pcie-root-port,id=port,chassis=9,slot=9",
        "-device",
        "vfio-pci,id=late,bus=port,x-state-size=7k",
    ]
    emulator = emulators.start("src", *more, *VFS, "-name", "guest=other", "-smp", "3", "-m", "1G")
    qmp = emulator.qmp
    assert qmp.execute("query-name") == {"name": "other"}
    assert len(qmp.execute("query-cpus-fast")) == 3
    assert len({each["thread-id"] for each in qmp.execute("query-cpus-fast")}) == 3
    assert qmp.execute("query-memory-size-summary")["base-memory"] == 2**30
    tree = parse_qtree(qmp.execute("human-monitor-command", command_line="info qtree"))
    assert {each.id: each.depth for each in tree.match("[lv]*")} == {"late": 3, "vf0": 3, "vf1": 3}
    assert qmp.execute("qom-get", path="late", property="x-state-size") == 7168
    assert qmp.execute("qom-get", path="late", property="parent_bus") == "/machine/peripheral/port/port"
    listed = {each["name"] for each in qmp.execute("qom-list", path="/machine/peripheral")}
    assert {"late", "vf0", "vf1", "port", "rp0", "rp1"} <= listed
    bridges = [each["qdev_id"] for bus in qmp.execute("query-pci") for each in bus["devices"] if "pci_bridge" in each]
    assert bridges == ["port", "rp0", "rp1"]
    qmp.execute("qom-set", path="vf1", property="x-fail", value={"at": "read", "errno": "ENOSPC"})
    assert "read" in str(qmp.execute("qom-get", path="vf1", property="x-fail"))
    qmp.execute("qom-set", path="vf1", property="x-heal", value=True)
    assert qmp.execute("qom-get", path="vf1", property="x-fail") == []
