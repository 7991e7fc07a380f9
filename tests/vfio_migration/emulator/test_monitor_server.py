"""P6: a monitor for a machine of this process, in virtual time: what it says is computed from the machine."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from suite.machines import for_the_test

from vfio_migration.emulator import MonitorServer, QmpError
from vfio_migration.testing import MachineRig, PairRig, QmpClient, QmpClientError, QmpPair
from vmstate import RunState, VirtualClock, parse_qtree

STALL = "PRE_COPY_P2P -> STOP_COPY"


def devices(pair: QmpPair, count: int = 2, **options: Any) -> None:
    for number in range(count):
        pair.rig.add_device(f"vf{number}", depth=2 + number, **{"latency": 0.1, **options})


def statuses_and_stops(client: QmpClient) -> list[str]:
    return [
        each["data"]["status"] if each["event"] == "MIGRATION" else each["event"]
        for each in client.events
        if each["event"] in ("MIGRATION", "STOP", "RESUME")
    ]


def test_a_migration_over_two_monitors_is_that_of_the_captures(qmp_pair: QmpPair) -> None:
    devices(qmp_pair)
    assert qmp_pair.migrate() == "completed"
    assert statuses_and_stops(qmp_pair.source.qmp) == ["setup", "active", "STOP", "device", "completed"]
    assert statuses_and_stops(qmp_pair.destination.qmp) == ["setup", "active", "RESUME", "completed"]
    assert qmp_pair.source.qmp.execute("query-status") == {"status": "postmigrate", "running": False}
    assert qmp_pair.destination.qmp.execute("query-status") == {"status": "running", "running": True}
    said = qmp_pair.source.qmp.execute("query-migrate")
    assert said["downtime"] == 400  # two depths, two arcs each of 100 ms, of virtual time
    assert qmp_pair.destination.qmp.execute("query-migrate") == {"status": "completed"}


def test_two_runs_are_alike_to_the_microsecond() -> None:
    said = []
    for _ in range(2):
        with PairRig(clock=VirtualClock()) as rig, QmpPair(rig) as pair:
            devices(pair, 3)
            pair.migrate()
            said.append((pair.source.qmp.events, pair.destination.qmp.events))
    assert said[0] == said[1]


def test_a_device_that_fails_is_told_to_and_the_source_goes_on(qmp_pair: QmpPair) -> None:
    devices(qmp_pair)
    source = qmp_pair.source.qmp
    source.execute("qom-set", path="vf0", property="x-fail", value=STALL)
    assert qmp_pair.migrate() == "failed"
    assert statuses_and_stops(source) == ["setup", "active", "STOP", "device", "failing", "RESUME", "failed"]
    said = source.execute("query-migrate")
    assert said["status"] == "failed"
    assert "vf0" in said["error-desc"]
    assert qmp_pair.source.machine.run_state is RunState.RUNNING


def test_a_stall_in_the_stop_is_released_while_the_migration_holds_the_big_lock(qmp_pair: QmpPair) -> None:
    qmp_pair.rig.add_device("vf0", events=True)
    source = qmp_pair.source.qmp
    source.execute("qom-set", path="vf0", property="x-stall", value=STALL)
    for each in (source, qmp_pair.destination.qmp):
        each.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    qmp_pair.destination.qmp.execute("migrate-incoming", uri=qmp_pair.uri)
    source.execute("migrate", uri=qmp_pair.uri)
    source.wait_for("VFIO_MIGRATION", **{"device-state": "pre-copy-p2p"})
    waits = source.send("query-status")  # in band: its turn comes when the machine has stopped and is saved
    while not source.execute("qom-get", oob=True, path="vf0", property="x-stall"):
        pass
    assert "STOP" not in statuses_and_stops(source)
    source.execute("qom-set", oob=True, path="vf0", property="x-release", value=True)
    assert source.answer(waits)["return"]["running"] is False
    assert qmp_pair.wait() == "completed"


def test_a_fault_is_looked_at_in_band_too_while_the_lock_is_held(qmp_pair: QmpPair) -> None:
    devices(qmp_pair, 1)
    with qmp_pair.source.machine.big_lock:
        assert qmp_pair.source.qmp.execute("qom-get", path="vf0", property="x-state-size") == 65536


def test_a_pause_before_the_switchover_is_continued_or_cancelled(qmp_pair: QmpPair) -> None:
    devices(qmp_pair)
    source = qmp_pair.source.qmp
    pause = [{"capability": "pause-before-switchover", "state": True}, {"capability": "events", "state": True}]
    source.execute("migrate-set-capabilities", capabilities=pause)
    for ending, command in (("cancelled", "migrate_cancel"), ("completed", "migrate-continue")):
        source.events.clear()
        qmp_pair.destination.qmp.execute("migrate-incoming", uri=qmp_pair.uri)
        source.execute("migrate", uri=qmp_pair.uri)
        source.wait_for("MIGRATION", status="pre-switchover")
        assert source.execute("query-status")["status"] == "finish-migrate"
        with pytest.raises(QmpClientError, match="Migration is not finalized yet"):
            source.execute("cont")
        state: Any = {"state": "pre-switchover"} if ending == "completed" else {}
        source.execute(command, **state)
        source.wait_for("MIGRATION", status=ending)
    assert source.execute("query-status")["status"] == "postmigrate"


def test_what_the_machine_has_is_what_the_monitor_shows(qmp_pair: QmpPair) -> None:
    rig, client = qmp_pair.source.rig, qmp_pair.source.qmp

    def shown() -> dict[str, int]:
        tree = parse_qtree(client.execute("human-monitor-command", command_line="info qtree"))
        return {each.id: each.depth for each in tree if each.id.startswith("vf")}

    assert shown() == {}
    rig.add_device("vf0", depth=2)
    rig.add_device("vf7", depth=4)
    assert shown() == {"vf0": 2, "vf7": 4}
    rig.remove_device("vf0")
    assert shown() == {"vf7": 4}
    with pytest.raises(QmpClientError, match="Device 'vf0' not found"):
        client.execute("qom-get", path="vf0", property="type")
    rig.machine.stop()
    assert client.execute("query-status") == {"status": "paused", "running": False}
    rig.mocks["vf7"].set_state_size(5)
    assert client.execute("qom-get", path="/machine/peripheral/vf7", property="x-state-size") == 5


def test_a_device_is_plugged_and_unplugged_over_the_monitor(qmp_pair: QmpPair) -> None:
    devices(qmp_pair, 1)
    client, machine = qmp_pair.source.qmp, qmp_pair.source.machine
    client.execute("device_add", driver="vfio-pci", id="vf9", x_latency=0.25)
    assert [each.id for each in machine.migratables] == ["vf0", "vf9"]
    assert set(client.execute("qom-get", path="vf9", property="x-latency").values()) == {0.25}
    with pytest.raises(QmpClientError, match="Duplicate device ID 'vf9'"):
        client.execute("device_add", driver="vfio-pci", id="vf9")
    client.execute("device_del", id="vf9")
    client.execute("system_reset")
    assert client.wait_for("DEVICE_DELETED", device="vf9")["data"]["path"] == "/machine/peripheral/vf9"
    assert [each.id for each in machine.migratables] == ["vf0"]


def test_a_bad_fault_is_refused_and_says_what_was_expected(qmp_pair: QmpPair) -> None:
    devices(qmp_pair, 1)
    for name, value, words in (
        ("x-fail", "NOWHERE -> STOP", "expected an arc such as"),
        ("x-latency", {"default": -1}, "expected seconds"),
        ("x-latency", '{"RUNNING -> ERROR": 1}', "expected 'default', a state, or an arc"),
        ("x-stall", {"at": "RUNNING -> RUNNING_P2P", "colour": "red"}, "colour"),
        ("x-state-size", "many", "non-negative number"),
        ("x-rate", -5, "more than 0"),
        ("x-nothing", 1, "Property 'vfio-pci.x-nothing' not found|not found"),
    ):
        with pytest.raises(QmpClientError, match=words):
            qmp_pair.source.qmp.execute("qom-set", path="vf0", property=name, value=value)


def test_quit_ends_the_serving_and_leaves_the_machine(tmp_path: Path) -> None:
    rig = for_the_test(MachineRig(clock=VirtualClock()))
    path = tmp_path / "m"
    server = MonitorServer(rig.machine, path)
    with server, QmpClient(str(path)) as client:
        client.execute("quit")
        assert client.events[-1]["data"] == {"guest": False, "reason": "host-qmp-quit"}
        with pytest.raises(ConnectionResetError):
            client.next_event()
    assert server.over
    assert rig.machine.run_state is RunState.RUNNING
    assert not path.exists()


def test_a_second_server_at_a_path_is_told_so_and_one_that_is_gone_is_in_nobodys_way(tmp_path: Path) -> None:
    rig = for_the_test(MachineRig(clock=VirtualClock()))
    path = tmp_path / "m"
    with MonitorServer(rig.machine, path), pytest.raises(QmpError, match=r"Failed to bind socket to .*m: Address"):
        MonitorServer(rig.machine, path).start()
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with MonitorServer(rig.machine, path), QmpClient(str(path)) as client:
        assert client.execute("query-name") == {"name": rig.machine.name}


def test_one_client_at_a_time_and_the_next_one_finds_what_the_first_has_left(tmp_path: Path) -> None:
    rig = for_the_test(MachineRig(clock=VirtualClock()))
    with MonitorServer(rig.machine, tmp_path / "m") as server:
        first = QmpClient(server.path)
        second = socket.socket(socket.AF_UNIX)
        second.connect(server.path)
        first.execute("migrate-set-parameters", downtime_limit=7)
        first.close()
        assert json.loads(second.makefile().readline())["QMP"]["capabilities"] == ["oob"]
        second.close()
        with QmpClient(server.path) as third:
            assert third.execute("query-migrate-parameters")["downtime-limit"] == 7


def test_back_and_forth_over_the_monitors(qmp_pair: QmpPair) -> None:
    devices(qmp_pair)
    assert qmp_pair.migrate() == "completed"
    there, here = qmp_pair.destination.qmp, qmp_pair.source.qmp
    for each in (there, here):
        each.events.clear()
    here.execute("migrate-incoming", uri="unix:back")
    there.execute("migrate", uri="unix:back")
    there.wait_for("MIGRATION", status="completed")
    here.wait_for("MIGRATION", status="completed")
    assert here.execute("query-status")["status"] == "running"
    assert there.execute("query-status")["status"] == "postmigrate"


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("x-latency", "20 ms", 0.02),
        ("x-latency", {"STOP_COPY": "80 ms"}, 0.08),
        ("x-rate", "100 MB/s", 100_000_000),
        ("x-rate", 0, 0),
    ],
)
def test_figures_from_outside_have_the_units_of_scenarios(
    qmp_pair: QmpPair, name: str, value: object, read: float
) -> None:
    devices(qmp_pair, 1)
    client, vf0 = qmp_pair.source.qmp, "/machine/peripheral/vf0"
    client.execute("qom-set", path=vf0, property=name, value=value)
    found = client.execute("qom-get", path=vf0, property=name)
    assert read in (found.values() if isinstance(found, dict) else [found])
    with pytest.raises(QmpClientError, match=r"Property 'vfio-pci\.x-latency'"):
        client.execute("qom-set", path=vf0, property="x-latency", value="soon")
