"""P3: no command that clients are promised is unsupported, and what is said of state follows from the machine's own."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from suite.emulators import VFS, Emulator, Emulators

from vfio_migration.testing import QmpClient, QmpClientError, QmpPair
from vmstate import parse_qtree

_NAMES = """
qmp_capabilities query-version query-commands query-qmp-schema query-status query-name query-uuid query-machines
query-cpus-fast query-kvm query-migrate query-migrate-capabilities query-migrate-parameters migrate-set-capabilities
migrate-set-parameters migrate migrate-incoming migrate_cancel migrate-continue migrate-pause migrate-recover yank stop
cont system_reset system_powerdown system_wakeup device_add device_del query-pci qom-list qom-get qom-set qom-list-types
qom-list-properties device-list-properties getfd closefd human-monitor-command x-exit-preconfig announce-self set-action
query-block query-named-block-nodes query-chardev query-iothreads query-hotpluggable-cpus quit
"""
PROMISED = tuple(_NAMES.split())
ARGUMENTS: dict[str, dict[str, Any]] = {
    "migrate": {"uri": "unix:nobody.sock"},
    "migrate-incoming": {"uri": "unix:nobody.sock"},
    "migrate-set-capabilities": {"capabilities": []},
    "migrate-recover": {"uri": "unix:nobody.sock"},
    "yank": {"instances": []},
    "device_add": {"driver": "vfio-pci", "id": "vf9"},
    "device_del": {"id": "vf0"},
    "qom-list": {"path": "/machine"},
    "qom-get": {"path": "/machine", "property": "type"},
    "qom-set": {"path": "/machine", "property": "type", "value": "q35"},
    "qom-list-properties": {"typename": "vfio-pci"},
    "device-list-properties": {"typename": "vfio-pci"},
    "getfd": {"fdname": "a"},
    "closefd": {"fdname": "a"},
    "human-monitor-command": {"command-line": "info status"},
    "announce-self": {"initial": 50, "max": 550, "rounds": 1, "step": 50},
}


def refusal(client: QmpClient, command: str) -> str:
    try:
        client.execute(command, **ARGUMENTS.get(command, {}))
    except QmpClientError as error:
        return str(error.desc)
    return ""


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with tempfile.TemporaryDirectory(prefix="emu") as folder, Emulators(Path(folder)) as started:
        yield started


@pytest.mark.slow
def test_no_command_that_is_promised_is_unsupported_in_a_process(emulators: Emulators) -> None:
    client = emulators.start("src", *VFS).qmp
    assert {command: text for command in PROMISED if "not supported" in (text := refusal(client, command))} == {}


def test_no_command_that_is_promised_is_unsupported_behind_a_machine_of_ours(qmp_pair: QmpPair) -> None:
    qmp_pair.rig.add_device("vf0", depth=2)
    answered = {command: refusal(qmp_pair.source.qmp, command) for command in PROMISED if command != "quit"}
    assert {command: text for command, text in answered.items() if "not supported here" in text} == {}


def shown(emulator: Emulator) -> tuple[str, list[str], list[str]]:
    """Give what the monitor says of name, devices in the tree, and the board's objects."""
    asked: dict[str, Any] = {"command-line": "info qtree"}
    tree = parse_qtree(emulator.qmp.execute("human-monitor-command", **asked).encode())
    objects = emulator.qmp.execute("qom-list", path="/machine/peripheral")
    return (
        emulator.qmp.execute("query-name")["name"],
        [f"{device.id} {device.depth}" for device in tree if device.id],
        sorted(each["name"] for each in objects if each["type"].startswith("child<")),
    )


@pytest.mark.slow
def test_tree_names_and_objects_are_those_of_the_command_line(emulators: Emulators) -> None:
    """The same devices by other names, in another order, at another depth: each answer says so."""
    port = "pcie-root-port,id={0},chassis={1},slot={1}"
    under = ("-device", "x3130-upstream,id=up,bus=a", "-device", "xio3130-downstream,id=down,bus=up,chassis=9,slot=9")
    first = emulators.start("first", "-name", "one", "-device", port.format("a", 1), "-device", "vfio-pci,id=n0,bus=a")
    second = emulators.start(
        "second", "-name", "two", "-device", port.format("a", 1), *under, "-device", "vfio-pci,id=other,bus=down"
    )
    assert shown(first) == ("one", ["a 2", "n0 3"], ["a", "n0"])
    name, devices, objects = shown(second)
    assert (name, objects) == ("two", ["a", "down", "other", "up"])
    depths = dict(each.rsplit(" ", 1) for each in devices)
    assert [int(depths[each]) - int(depths["a"]) for each in ("a", "up", "down", "other")] == [0, 1, 2, 3]
    assert re.fullmatch(r"[0-9a-f-]{36}", first.qmp.execute("query-uuid")["UUID"])


def test_figures_and_failures_are_those_of_the_devices(qmp_pair: QmpPair) -> None:
    """Twice the latency is twice the downtime; an arc that fails is the error that is told, and no other."""
    qmp_pair.rig.add_device("vf0", depth=2, latency=0.1)
    qmp_pair.rig.add_device("vf1", depth=3, latency=0.1)
    source = qmp_pair.source.qmp
    source.execute("qom-set", path="/machine/peripheral/vf1", property="x-latency", value=0.2)
    assert qmp_pair.migrate() == "completed"
    assert source.execute("query-migrate")["downtime"] == 2 * 100 + 2 * 200


def test_an_arc_that_fails_is_what_is_told(qmp_pair: QmpPair) -> None:
    qmp_pair.rig.add_device("vf0", depth=2)
    path = "/machine/peripheral/vf0"
    qmp_pair.source.qmp.execute("qom-set", path=path, property="x-fail", value="PRE_COPY_P2P -> STOP_COPY")
    assert qmp_pair.migrate() == "failed"
    assert "vf0" in qmp_pair.source.qmp.execute("query-migrate")["error-desc"]
    assert qmp_pair.source.qmp.execute("query-status") == {"status": "running", "running": True}
