"""Logs as people have them: of other versions, behind prefixes, wrapped; right values by hand."""

import itertools
import json
import time
from pathlib import Path

import pytest
from suite import DATA

from vfio_migration import DeviceState
from vfio_migration.errors import LogImportError
from vfio_migration.importing import ImportedScenario, import_logs
from vfio_migration.importing.log_reader import parse_log

S = DeviceState
LOGS = DATA / "logs"
EVENT = "migrate_set_state new state setup"
OWN, ISO = f"7@1000.000001:{EVENT}", f"2026-11-25T10:00:00.000001Z {EVENT}"


def imported(folder: Path, source: str, destination: str | None = None) -> ImportedScenario:
    files = [folder / "src.log", folder / "dst.log"]
    for file, text in zip(files, (source, destination or ""), strict=True):
        file.write_text("".join(f"{line.strip()}\n" for line in text.strip().splitlines()), encoding="utf-8")
    return import_logs(files[0], files[1] if destination else None)


def latencies(log: ImportedScenario, device: int = 0) -> dict[str, float]:
    spec = log.scenario.devices[device]
    return {f"{a.name} -> {b.name}": round(s * 1000, 1) for (a, b), s in spec.latency.items() if s}


def test_qemu_8_0_to_9_0_write_when_a_change_has_ended() -> None:
    log = import_logs(LOGS / "q82-src.log")
    for device in (0, 1):
        assert latencies(log, device) == {"PRE_COPY -> PRE_COPY_P2P": 30.0, "PRE_COPY_P2P -> STOP_COPY": 80.0}
    assert log.scenario.plan().transfer_s == pytest.approx(0.100, abs=1e-4)
    assert any("is of a QEMU (8.0 to 9.0)" in note for note in log.notes)


def test_qemu_8_0_has_no_checkpoints_and_its_transfer_ends_where_the_device_was_saved(tmp_path: Path) -> None:
    log = imported(
        tmp_path,
        """
        7@1000.000000:migrate_set_state new state active
        7@1001.000000:vm_state_notify running 0 reason 7 (finish-migrate)
        7@1001.080000:vfio_migration_set_state  (0000:01:00.0) state STOP
        7@1001.080003:vfio_vmstate_change  (0000:01:00.0) running 0 reason finish-migrate device state STOP
        7@1001.090000:vfio_migration_set_state  (0000:01:00.0) state STOP_COPY
        7@1001.180000:vfio_save_complete_precopy  (0000:01:00.0) ret 0
        7@1001.180032:migrate_set_state new state completed
        """,
    )
    assert latencies(log) == {"RUNNING -> STOP": 80.0, "STOP -> STOP_COPY": 10.0}
    assert log.scenario.plan().transfer_s == pytest.approx(0.100, abs=1e-4)


UNLIKE = """
    7@1000.000000:migrate_set_state new state active
    7@1001.000000:vmstate_downtime_checkpoint src-downtime-start
    7@1001.000000:vm_state_notify running 0 reason 7 (finish-migrate)
    7@1001.030000:vfio_migration_set_state  (b) state RUNNING_P2P
    7@1001.030003:vfio_vmstate_change_prepare  (b) running 0 reason finish-migrate device state RUNNING_P2P
    7@1001.060000:vfio_migration_set_state  (a) state PRE_COPY_P2P
    7@1001.060003:vfio_vmstate_change_prepare  (a) running 0 reason finish-migrate device state PRE_COPY_P2P
    7@1001.100000:vfio_region_write  (b:region0+0x10, 0x1, 4)
    7@1001.140000:vfio_migration_set_state  (b) state STOP
    7@1001.140003:vfio_vmstate_change  (b) running 0 reason finish-migrate device state STOP
    7@1001.220000:vfio_migration_set_state  (a) state STOP_COPY
    7@1001.220003:vfio_vmstate_change  (a) running 0 reason finish-migrate device state STOP_COPY
    7@1001.220010:vmstate_downtime_checkpoint src-vm-stopped
    7@1001.320010:vfio_save_complete_precopy  (a) ret 0
    7@1001.330010:vfio_migration_set_state  (b) state STOP_COPY
    7@1001.370010:vfio_save_complete_precopy  (b) ret 0
    7@1001.380000:vmstate_downtime_checkpoint src-non-iterable-saved
    7@1001.380010:vmstate_downtime_checkpoint src-downtime-end
    7@1001.380012:migrate_set_state new state completed
"""
PAUSED = """
    9@1000.000000:migrate_set_state new state active
    9@1000.010000:vfio_migration_set_state  (a) state RESUMING
    9@1000.020000:vfio_migration_set_state  (b) state RESUMING
    9@1001.385000:vmstate_downtime_checkpoint dst-precopy-loadvm-completed
    9@1001.386000:vmstate_downtime_checkpoint dst-precopy-bh-enter
    9@1001.387000:runstate_set current_run_state 1 (inmigrate) new_state 4 (paused)
    9@1001.387010:vmstate_downtime_checkpoint dst-precopy-bh-vm-started
    9@1001.387020:migrate_set_state new state completed
    9@1005.387020:runstate_set current_run_state 4 (paused) new_state 9 (running)
    9@1005.387030:vm_state_notify running 1 reason 9 (running)
    9@1005.487030:vfio_migration_set_state  (a) state RUNNING_P2P
    9@1005.487031:vfio_vmstate_change_prepare  (a) running 1 reason running device state RUNNING_P2P
    9@1005.587031:vfio_migration_set_state  (b) state RUNNING_P2P
    9@1005.587032:vfio_vmstate_change_prepare  (b) running 1 reason running device state RUNNING_P2P
    9@1005.617032:vfio_migration_set_state  (a) state RUNNING
    9@1005.617033:vfio_vmstate_change  (a) running 1 reason running device state RUNNING
    9@1005.647032:vfio_migration_set_state  (b) state RUNNING
    9@1005.647033:vfio_vmstate_change  (b) running 1 reason running device state RUNNING
    9@1015.647033:runstate_set current_run_state 9 (running) new_state 4 (paused)
    9@1015.647033:vm_state_notify running 0 reason 4 (paused)
    9@1015.747033:vfio_vmstate_change  (b) running 0 reason paused device state STOP
"""


def test_unlike_devices_of_qemu_8_2_take_each_from_the_previous_end_to_their_own(tmp_path: Path) -> None:
    log = imported(tmp_path, UNLIKE)
    a, b = log.scenario.devices
    assert latencies(log, 0) == {"PRE_COPY -> PRE_COPY_P2P": 30.0, "PRE_COPY_P2P -> STOP_COPY": 80.0}
    assert latencies(log, 1) == {
        "STOP -> STOP_COPY": 10.0,
        "RUNNING -> RUNNING_P2P": 30.0,
        "RUNNING_P2P -> STOP": 80.0,
    }
    assert (a.transfer_s, b.transfer_s) == pytest.approx((0.100, 0.040), abs=1e-6)
    # What is sent after the devices is dropped neither.
    assert log.scenario.phases.other_state_s == pytest.approx(0.010, abs=1e-4)


def test_a_destination_that_libvirt_starts_later_is_read_and_its_wait_is_said(tmp_path: Path) -> None:
    log = imported(tmp_path, UNLIKE, PAUSED)
    for device in (0, 1):
        assert log.scenario.devices[device].latency[S.RESUMING, S.STOP] == pytest.approx(0.100, abs=1e-4)
        assert log.scenario.devices[device].latency[S.RUNNING_P2P, S.RUNNING] == pytest.approx(0.030, abs=1e-4)
    assert any("told to stay paused (-S), and to start 4,000.0 ms later" in note for note in log.notes)
    phases = log.scenario.phases
    assert (phases.load_state_s, phases.activate_block_s) == pytest.approx((0.005, 0.002), abs=1e-4)
    # 380 ms on the source, 5 of loading, 2 until it is told to stay, 260 of starting.
    assert log.scenario.plan().bounds.serial_s == pytest.approx(0.647, abs=1e-4)


def test_with_a_return_path_the_transfer_ends_where_the_state_was_sent(tmp_path: Path) -> None:
    answered = UNLIKE.replace("1001.380010:vmstate_downtime", "1001.980010:vmstate_downtime").replace(
        "1001.380012", "1001.980012"
    )
    log = imported(tmp_path, answered)
    assert log.scenario.plan().bounds.serial_s == pytest.approx(0.380, abs=1e-4)
    assert any("downtime ended 600.010 ms after its state was sent, as with a return path" in n for n in log.notes)
    assert log.scenario.surroundings.parameters.return_path


def test_clocks_that_do_not_agree_are_not_compared(tmp_path: Path) -> None:
    log = imported(tmp_path, UNLIKE, PAUSED.replace("9@1", "9@2"))
    assert log.scenario.phases.load_state_s == 0
    assert any("clocks of the two logs do not agree" in note for note in log.notes)


def test_wrapped_lines_are_counted_and_named_with_the_first() -> None:
    log = import_logs(LOGS / "wrapped-src.log")
    assert any("line 3: vfio_migration_set_state in a form that is not known here, 1 of them" in n for n in log.notes)
    assert any("line 6: vfio_vmstate_change in a form that is not known here, 1 of them" in n for n in log.notes)


def test_a_correct_log_has_no_note_that_something_is_missing() -> None:
    log = import_logs(LOGS / "ok-src.log")
    words = ("does not say when", "missing", "left out", "is asked", "no end", "not known")
    assert [note for note in log.notes if any(word in note for word in words)] == []
    assert latencies(log) == {"PRE_COPY -> STOP_COPY": 80.0}
    assert log.scenario.plan().transfer_s == pytest.approx(0.100, abs=1e-4)


def test_unrelated_lines_in_a_change_do_not_cut_it(tmp_path: Path) -> None:
    text = (LOGS / "q82-src.log").read_text(encoding="utf-8").splitlines()
    noisy = [line for pair in zip(text, itertools.repeat("7@1001.010000:vfio_region_read  (x) = 0x1")) for line in pair]
    log = imported(tmp_path, "\n".join(noisy))
    assert log.scenario.devices == import_logs(LOGS / "q82-src.log").scenario.devices


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v1", "line 1: .*VFIO migration protocol v1 .QEMU before 8.0., not supported"),
        ("simpletrace", "line 1: this is what simpletrace.py prints"),
    ],
)
def test_logs_that_cannot_be_used_are_called_what_they_are(name: str, words: str) -> None:
    with pytest.raises(LogImportError, match=words):
        import_logs(LOGS / f"{name}-src.log")


@pytest.mark.parametrize(
    "line",
    [
        f"Nov 25 10:00:00 node-a qemu-kvm[7]: {OWN}",
        f"Nov 25 10:00:00 node-a qemu-kvm[7]: {ISO}",
        f"Nov 25 10:00:00.000001 node-a qemu-kvm[7]: {EVENT}",
        f"2026-11-25T10:00:00.000001+0000 node-a qemu-kvm[7]: {EVENT}",
        f"<30>1 2026-11-25T10:00:00.000001Z node-a qemu 7 - - {EVENT}",
        f"  qemu-kvm-1234    [002] .....  1234.000001: tracing_mark_write: {EVENT}",
        f"[ 1234.000001] {EVENT}",
        json.dumps({"log": f"{OWN}\n", "stream": "stderr", "time": "2026-11-25T10:00:00.5Z"}),
        json.dumps({"log": f"{EVENT}\n", "stream": "stderr", "time": "2026-11-25T10:00:00.000001999Z"}),
        json.dumps({"__REALTIME_TIMESTAMP": "1795600800000001", "MESSAGE": EVENT}),
        f"2026-11-25T10:00:00.000001999Z {EVENT}",
        f"2026-11-25T10:00:00.123456Z stderr F {OWN}",
        f"12:{OWN}",
        f"src.log:12:{ISO}",
        f"> > {OWN}",
        f"  \t{ISO}",
    ],
)
def test_a_time_is_found_wherever_it_stands(line: str) -> None:
    (event,) = parse_log([line], "x")
    assert event.name == "migrate_set_state"
    assert event.fields == {"new_state": "setup"}
    assert event.time_ns % 1_000_000_000 == 1000


def test_a_prefix_without_a_usable_time_is_named() -> None:
    with pytest.raises(LogImportError, match=r"x, line 2: .*Nov 25 10:00:00 node-a qemu-kvm\[7\]: migrate_set_state"):
        list(parse_log(["hello", f"Nov 25 10:00:00 node-a qemu-kvm[7]: {EVENT}"], "x"))


@pytest.mark.parametrize(
    "line",
    [
        "vfio_vmstate_change (a" + ") running 1 reason x" * 20_000,
        "vfio_migration_set_state (" + ") new state " * 20_000,
        "7@1.000000:" * 20_000 + "migrate_set_state",
        "{" * 100_000 + "migrate_set_state}",
        "runstate_set current_run_state 1 (" * 10_000,
        "Nov 25 " * 20_000 + EVENT,
        "1.000000" * 20_000 + ": " + EVENT,
    ],
)
def test_hostile_lines_take_no_time(line: str) -> None:
    before = time.process_time()
    list(parse_log([f"2026-01-01T00:00:00.000000Z {line}", line, OWN], "x"))
    assert time.process_time() - before < 1


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "src.log"
    with file.open("w", encoding="utf-8") as log:
        for _ in range(30):
            log.write("migrate_set_state" * 100_000)
        log.write("\n" + (LOGS / "ok-src.log").read_text(encoding="utf-8"))
    assert import_logs(file).scenario.devices == import_logs(LOGS / "ok-src.log").scenario.devices


def test_many_migrations_are_told_of_in_few_lines(tmp_path: Path) -> None:
    ok = (LOGS / "ok-src.log").read_text(encoding="utf-8")
    file = tmp_path / "src.log"
    file.write_text("".join(ok.replace("7@1", f"7@{number}1") for number in range(1, 500)), encoding="utf-8")
    log = import_logs(file)
    assert len(log.report) < 100
    assert max(len(note) for note in log.notes) < 1000


@pytest.mark.slow
def test_many_devices_make_no_long_report(tmp_path: Path) -> None:
    names = [f"0000:{number:04x}:00.0" for number in range(5000)]
    lines = [f"vfio_migration_set_state  ({name}) new state STOP_COPY, recover state ERROR" for name in names]
    head = (LOGS / "ok-src.log").read_text(encoding="utf-8").splitlines()
    text = "\n".join([*head[:5], *(f"7@1001.080003:{line}" for line in lines), *head[5:]])
    log = imported(tmp_path, text)
    assert len(log.notes) < 30
    assert sum(map(len, log.notes)) < 10_000
    tree = tmp_path / "tree.txt"
    tree.write_text(
        "bus: main-system-bus\n" + "".join(f'  dev: nic, id "nic{number}"\n' for number in range(10_000)),
        encoding="utf-8",
    )
    with pytest.raises(LogImportError, match="is not in this tree") as caught:
        import_logs(tmp_path / "src.log", qtree=tree)
    assert len(str(caught.value)) < 1000
