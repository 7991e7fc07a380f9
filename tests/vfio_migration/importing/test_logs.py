import json
import random
import tempfile
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite.pictured import whole_scenario
from suite.qemu_logs import CAPTURES, HOST_QTREE, destination_log, logs_of_run, source_log

from vfio_migration import ALL_FLAGS, DeviceState, MigrationFlags
from vfio_migration.errors import LogImportError, ScenarioError
from vfio_migration.importing import ImportedScenario, import_logs
from vfio_migration.importing.attempts import LoggedMigrations
from vfio_migration.importing.event_forms import FORMS
from vfio_migration.importing.log_reader import parse_log, read_log
from vfio_migration.recorded.qemu_log import QEMU_FORMATS
from vfio_migration.scenarios.file import load_scenario, parse_scenario
from vfio_migration.scenarios.model import Scenario

S = DeviceState
FOUR_SOURCE = {f"0000:3b:00.{n}": (30.0 + n, 80.0 + 2 * n, 10.0 + n) for n in range(1, 5)}
FOUR_DESTINATION = {f"0000:3b:00.{n}": (105.0 + n, 35.0 - n) for n in range(1, 5)}
OF_PARTS = ("savevm_section", "vfio_save_block", "vfio_load_", "migration_phase", "multifd_send")
VF_DEPTH, GPU_DEPTH = 3, 5  # in the host's tree


def all_parallel(scenario: Scenario) -> Scenario:
    return replace(scenario, devices=tuple(spec.changed(parallel=True) for spec in scenario.devices))


def near(scenario: Scenario, imported: ImportedScenario) -> bool:
    return astuple(imported.scenario.plan().bounds) == pytest.approx(astuple(scenario.plan().bounds), rel=0.01)


# What a run writes, imported again:


@pytest.mark.parametrize("name", ["host", "vfs", "mixed"])
def test_a_serial_run_s_log_gives_the_run_s_bounds(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    # A log does not say that parallel changes are off for a device; imported ones have them on.
    imported = import_logs(*logs_of_run(scenario.serial(), tmp_path), HOST_QTREE if name == "host" else None)
    assert near(all_parallel(scenario), imported)
    assert {spec.id: spec.depth for spec in imported.scenario.devices} == {
        spec.id: spec.depth for spec in scenario.devices
    }
    assert {spec.id: spec.flags for spec in imported.scenario.devices} == {
        spec.id: spec.flags for spec in scenario.devices
    }
    assert not any("is of parallel changes" in note for note in imported.notes)
    assert any("parallel changes are on" in note for note in imported.notes)
    assert not any("known here" in line for line in imported.report)


@pytest.mark.parametrize("name", ["host", "vfs", "mixed"])
def test_a_parallel_run_s_log_says_so_and_gives_each_device_s_own_times(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    imported = import_logs(*logs_of_run(scenario, tmp_path))
    # One that changes in turn beside others that do not has no line of a launch.
    assert near(scenario, imported)
    assert {spec.id: spec.entry.parallel for spec in imported.scenario.devices} == {
        spec.id: spec.entry.parallel for spec in scenario.devices
    }
    assert sum("is of parallel changes" in note for note in imported.notes) == 2
    assert "is of parallel changes" in imported.text


@pytest.mark.parametrize("name", ["host", "vfs"])
def test_without_lines_of_handlers_the_gaps_are_theirs(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    files = logs_of_run(scenario.serial(), tmp_path)
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(line for line in lines if line.split()[1] in QEMU_FORMATS), encoding="utf-8")
    imported = import_logs(*files, HOST_QTREE if name == "host" else None)
    expected, bounds = scenario.plan().bounds, imported.scenario.plan().bounds
    assert bounds.serial_s == pytest.approx(expected.serial_s, rel=0.01)
    # Which depth they are at is not known; that they could run beside devices is not assumed.
    assert expected.mechanism_s * 0.999 <= bounds.mechanism_s <= expected.mechanism_s * 1.05
    # What comes after the last device is taken for flushing disks, beside which nothing runs in any bound.
    assert bounds.ideal_s == pytest.approx(expected.ideal_s + imported.scenario.phases.flush_block_s, rel=0.01)
    assert any("taken for ordinary handlers" in note for note in imported.notes) == (name == "host")


@pytest.mark.parametrize("channels", [0, 2])
def test_what_is_sent_and_loaded_adds_sizes_rates_and_channels_and_the_switchover_stays_what_it_took(
    tmp_path: Path, channels: int
) -> None:
    scenario = whole_scenario(channels)
    files = logs_of_run(scenario, tmp_path)
    with_parts = import_logs(*files)
    assert not any("known here" in line for line in with_parts.report)
    for spec in with_parts.scenario.devices:
        assert spec.entry.state_size == 20_000_000 + 4096  # with what pre-copy had left
        assert spec.entry.write_rate == pytest.approx(400e6, rel=0.02)  # waiting is in it
        assert spec.entry.config_load == pytest.approx(0.010, abs=1e-5)
    assert with_parts.scenario.surroundings.parameters.multifd_channels == channels
    assert with_parts.scenario.surroundings.link is None
    (unsaid,) = (note for note in with_parts.notes if note.startswith("the logs do not say"))
    assert "what the link does" in unsaid
    assert "how large states are" not in unsaid
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.split()[1].startswith(OF_PARTS)]
        assert 10 < len(kept) < len(lines) - 40
        file.write_text("".join(kept), encoding="utf-8")
    without = import_logs(*files)
    assert [spec.entry.write_rate for spec in without.scenario.devices] == [None, None]
    assert any("how large states are" in note and "how long loading them takes" in note for note in without.notes)
    took = scenario.plan().bounds.mechanism_s
    for imported in (with_parts, without):
        assert imported.scenario.plan().bounds.mechanism_s == pytest.approx(took, abs=1e-5)


@pytest.mark.parametrize("prefix", ["", "4711@2.000003:", "Nov 28 10:00:00 host qemu[7]: 2026-11-28T10:00:00.000003Z "])
@pytest.mark.parametrize(
    "line",
    [
        "savevm_section_start ram, section_id 2",
        "savevm_section_end ram, section_id 2 -> 0",
        "vfio_save_block  (vf0) data_size 1048576",
        "vfio_load_state_device_data  (vf0) size 1048576 ret 0",
        "vfio_load_bufs_thread_start  (vf0)",
        "vfio_load_state_device_buffer_load_end  (vf0) idx 7",
        "multifd_send_end (vf0) channel 1 bytes 1048576",
        "multifd_send_thread_start 3",
        "vfio_load_device_config_state_end  (vf0)",
        "multifd_send_begin (vf0) channel 1 bytes 1048576",
        "migration_phase_end (flush_block) ",
    ],
)
def test_their_lines_are_known_behind_any_prefix(prefix: str, line: str) -> None:
    log = parse_log([f"{prefix or '2026-11-28T10:00:00.000003Z '}{line}"], "x")
    name = line.split(maxsplit=1)[0]
    assert [(event.name, event.time_ns % 1_000_000) for event in log] == ([(name, 3000)] if name in FORMS else [])
    assert (log.unknown, log.odd) == (0, ())


# Logs written by hand, in the documented formats:


@pytest.mark.parametrize("style", ["iso", "old"])
def test_four_devices_one_after_another_are_imported_to_the_millisecond(style: str, tmp_path: Path) -> None:
    imported = import_logs(
        source_log(FOUR_SOURCE, style=style).write(tmp_path / "src.log"),
        destination_log(FOUR_DESTINATION, style=style).write(tmp_path / "dst.log"),
    )
    devices = {spec.id: spec for spec in imported.scenario.devices}
    assert list(devices) == list(FOUR_SOURCE)
    for name, (prepare, main, saving) in FOUR_SOURCE.items():
        loading, starting = FOUR_DESTINATION[name]
        spec = devices[name]
        assert spec.flags == ALL_FLAGS
        assert spec.entry.parallel
        assert spec.latency[S.RUNNING, S.PRE_COPY] == 0.002
        assert spec.latency[S.PRE_COPY, S.PRE_COPY_P2P] == prepare / 1000
        assert spec.latency[S.PRE_COPY_P2P, S.STOP_COPY] == main / 1000
        assert spec.transfer_s == pytest.approx(saving / 1000, abs=1e-9)
        assert spec.latency[S.RESUMING, S.STOP] == loading / 1000
        assert spec.latency[S.STOP, S.RUNNING_P2P] == 0
        assert spec.latency[S.RUNNING_P2P, S.RUNNING] == starting / 1000
    sums = [sum(each[i] for each in FOUR_SOURCE.values()) for i in range(3)]
    starts = [sum(each[i] for each in FOUR_DESTINATION.values()) for i in range(2)]
    bounds = imported.scenario.plan().bounds
    # One millisecond more: from dst-precopy-bh-enter to the start.
    assert bounds.serial_s == pytest.approx((sum(sums) + sum(starts) + 1) / 1000)
    assert bounds.mechanism_s == pytest.approx((34 + 88 + sums[2] + 109 + 34 + 1) / 1000)
    assert imported.scenario.handlers == ()
    assert any("all devices are at one depth" in note for note in imported.notes)
    assert "# - RESUMING -> STOP holds the whole way" in imported.text
    again = parse_scenario(imported.text, tmp_path / "x.toml")
    assert (again.devices, again.handlers) == (imported.scenario.devices, ())


def test_without_precopy_the_way_to_stop_copy_is_part_of_the_transfer(tmp_path: Path) -> None:
    imported = import_logs(
        source_log(FOUR_SOURCE, precopy=False, stop_copy_ms=7).write(tmp_path / "src.log"),
        destination_log(FOUR_DESTINATION).write(tmp_path / "dst.log"),
    )
    spec = imported.scenario.devices[0]
    assert spec.flags == MigrationFlags.STOP_COPY | MigrationFlags.P2P
    assert spec.latency[S.RUNNING, S.RUNNING_P2P] == 0.031
    assert spec.latency[S.RUNNING_P2P, S.STOP] == 0.082
    assert spec.latency[S.STOP, S.STOP_COPY] == 0.007
    assert spec.transfer_s == pytest.approx(0.011, abs=1e-9)


@pytest.mark.parametrize("precopy", [True, False])
def test_a_device_without_p2p_goes_by_stop(precopy: bool, tmp_path: Path) -> None:
    imported = import_logs(
        source_log({"gpu": (0, 80, 10)}, precopy=precopy, p2p=False).write(tmp_path / "src.log"),
        destination_log({"gpu": (0, 150)}, p2p=False).write(tmp_path / "dst.log"),
    )
    (spec,) = imported.scenario.devices
    assert MigrationFlags.P2P not in spec.flags
    assert spec.latency[(S.PRE_COPY, S.STOP_COPY) if precopy else (S.RUNNING, S.STOP)] == 0.080
    assert spec.latency[S.RESUMING, S.STOP] == 0.150
    assert spec.latency[S.STOP, S.RUNNING] == 0


def test_where_only_changes_were_traced_they_begin_at_the_line_before(tmp_path: Path) -> None:
    imported = import_logs(
        source_log(FOUR_SOURCE, detail=False).write(tmp_path / "src.log"),
        destination_log(FOUR_DESTINATION, detail=False).write(tmp_path / "dst.log"),
    )
    spec = {spec.id: spec for spec in imported.scenario.devices}["0000:3b:00.2"]
    assert spec.flags == ALL_FLAGS
    assert spec.latency[S.PRE_COPY, S.PRE_COPY_P2P] == 0.032
    assert spec.latency[S.PRE_COPY_P2P, S.STOP_COPY] == 0.084
    assert spec.latency[S.RESUMING, S.STOP] == 0.107
    assert spec.latency[S.RUNNING_P2P, S.RUNNING] == 0.033
    assert any("does not say when a change of state began" in note for note in imported.notes)


def test_without_a_destination_s_log_its_arcs_are_nothing_and_that_is_said(tmp_path: Path) -> None:
    imported = import_logs(source_log(FOUR_SOURCE).write(tmp_path / "src.log"))
    assert all(spec.latency[S.RESUMING, S.STOP] == 0 for spec in imported.scenario.devices)
    assert any("without a log of the destination" in note for note in imported.notes)
    assert "# - without a log of the destination" in imported.text


def test_what_follows_the_last_change_of_a_stop_is_flushing_disks(tmp_path: Path) -> None:
    imported = import_logs(source_log(FOUR_SOURCE, handlers_ms=25).write(tmp_path / "src.log"))
    assert imported.scenario.handlers == ()
    assert imported.scenario.phases.flush_block_s == 0.025
    assert any("flush_block_s of [phases]: a guess" in note for note in imported.notes)


def test_a_handler_that_leaves_a_line_after_the_last_change_is_no_flushing(tmp_path: Path) -> None:
    log = source_log(FOUR_SOURCE, handlers_ms=25)
    stopped = next(place for place, line in enumerate(log.lines) if "src-vm-stopped" in line)
    last = log.lines[stopped - 1].split(" ")[0]
    log.lines.insert(stopped, f"{last[:-4]}{int(last[-4:-1]) + 400}Z virtio_set_status vdev 0x55ee val 0")
    imported = import_logs(log.write(tmp_path / "src.log"))
    (handler,) = imported.scenario.handlers
    assert (handler.stop_s, handler.depth) == (0.0004, -1)
    assert imported.scenario.phases.flush_block_s == 0.0246


def test_a_transfer_without_lines_for_each_device_is_shared(tmp_path: Path) -> None:
    log = source_log(FOUR_SOURCE)
    log.lines = [line for line in log.lines if "vfio_save" not in line]
    imported = import_logs(log.write(tmp_path / "src.log"))
    assert imported.scenario.plan().transfer_s == pytest.approx(0.050, abs=1e-6)
    assert any("shared equally" in note for note in imported.notes)


def test_other_names_on_the_destination_are_paired_in_order(tmp_path: Path) -> None:
    there = {name.replace("3b", "af"): times for name, times in FOUR_DESTINATION.items()}
    imported = import_logs(
        source_log(FOUR_SOURCE).write(tmp_path / "src.log"), destination_log(there).write(tmp_path / "dst.log")
    )
    specs = {spec.id: spec for spec in imported.scenario.devices}
    assert specs["0000:3b:00.4"].latency[S.RESUMING, S.STOP] == 0.109
    assert any("'0000:af:00.4' = '0000:3b:00.4'" in note for note in imported.notes)


def test_devices_that_only_the_destination_has_are_named(tmp_path: Path) -> None:
    there = FOUR_DESTINATION | {"vf9": (1, 1)}
    with pytest.raises(LogImportError, match=r"does? not have: 'vf9'"):
        import_logs(
            source_log(FOUR_SOURCE).write(tmp_path / "src.log"), destination_log(there).write(tmp_path / "dst.log")
        )


@pytest.mark.parametrize("name", ["a*[b]", 'quo"te\\', "ü ) state"])
def test_any_name_comes_through(name: str, tmp_path: Path) -> None:
    imported = import_logs(
        source_log({name: (1, 2, 3)}).write(tmp_path / "s\x07.log"),
        destination_log({name: (4, 5)}).write(tmp_path / "d.log"),
    )
    assert [spec.id for spec in imported.scenario.devices] == [name]


def test_a_name_that_no_device_can_have_is_refused(tmp_path: Path) -> None:
    log = source_log({"x\x1b[31m": (1, 2, 3)}).write(tmp_path / "src.log")
    with pytest.raises(ScenarioError, match="printable"):
        import_logs(log)


# The tree:


def test_depths_come_from_the_tree(tmp_path: Path) -> None:
    log = source_log({"vf0": (1, 2, 3), "gpu3": (1, 2, 3)}).write(tmp_path / "src.log")
    imported = import_logs(log, qtree=HOST_QTREE)
    assert {spec.id: spec.depth for spec in imported.scenario.devices} == {"vf0": VF_DEPTH, "gpu3": GPU_DEPTH}
    assert not any("depths are unknown" in note for note in imported.notes)


def test_devices_are_found_by_their_address_on_the_host(tmp_path: Path) -> None:
    tree = tmp_path / "qtree.txt"
    tree.write_text(
        'bus: main-system-bus\n  dev: host, id ""\n    bus: pcie.0\n      dev: vfio-pci, id "nic"\n'
        '        host = "0000:3b:00.1"\n      dev: port, id ""\n        bus: p0\n          dev: vfio-pci, id ""\n'
        '            host = "ffff:ff:ff.f"\n            sysfsdev = "/sys/bus/mdev/devices/c0ffee"\n',
        encoding="utf-8",
    )
    log = source_log({"0000:3b:00.1": (1, 2, 3), "c0ffee": (1, 2, 3)}).write(tmp_path / "src.log")
    imported = import_logs(log, qtree=tree)
    assert {spec.id: spec.depth for spec in imported.scenario.devices} == {"0000:3b:00.1": 2, "c0ffee": 3}


def test_a_device_that_is_not_in_the_tree_is_named(tmp_path: Path) -> None:
    log = source_log({"vf0": (1, 2, 3), "vf9": (1, 2, 3)}).write(tmp_path / "src.log")
    with pytest.raises(LogImportError, match=r"host.qtree.txt: the device 'vf9' of .* is not in this tree"):
        import_logs(log, qtree=HOST_QTREE)


@pytest.mark.parametrize("text", [None, "no tree", "bus: a\n    dev: too deep"])
def test_a_tree_that_cannot_be_read_is_an_error(text: str | None, tmp_path: Path) -> None:
    log = source_log({"vf0": (1, 2, 3)}).write(tmp_path / "src.log")
    if text is not None:
        (tmp_path / "tree").write_text(text, encoding="utf-8")
    with pytest.raises(LogImportError, match="tree: expected what QEMU's monitor prints"):
        import_logs(log, qtree=tmp_path / "tree")


# Several migrations, and none:


def two_migrations(folder: Path, *, second: str = "completed") -> Path:
    log = source_log({"vf0": (1, 2, 3)})
    later = source_log({"vf0": (10, 20, 30)})
    if second == "cancelled":
        at = next(i for i, line in enumerate(later.lines) if "new state device" in line)
        later.lines[at:] = []
        later.ms += 1
        later.add("migrate_set_state new state cancelling", "migration_call_notifiers type=3")
        later.add("vfio_migration_set_state  (vf0) new state RUNNING, recover state ERROR")
        later.add("vfio_migration_set_device_state  (vf0) state RUNNING", wait=1)
        later.add("runstate_set current_run_state 7 (finish-migrate) new_state 9 (running)")
        later.add("vm_state_notify running 1 reason 9 (running)", "migrate_set_state new state cancelled")
    log.lines += [line.replace("T18:09", "T18:10") for line in later.lines]
    return log.write(folder / "two.log")


def latency(imported: ImportedScenario) -> float:
    return imported.scenario.devices[0].latency[S.PRE_COPY, S.PRE_COPY_P2P]


def test_the_last_completed_migration_is_taken_unless_chosen(tmp_path: Path) -> None:
    log = two_migrations(tmp_path)
    assert latency(import_logs(log)) == 0.010
    assert latency(import_logs(log, migration=1)) == 0.001
    heads = [line for line in import_logs(log).report if "(source)" in line]
    assert [head.partition(": ")[2].split(", ")[:2] for head in heads] == [
        ["migration 1 (source): completed", "2026-11-23T18:09:25.000000Z"],
        ["migration 2 (source): completed", "2026-11-23T18:10:25.000000Z"],
    ]
    with pytest.raises(LogImportError, match=r"no migration 3 in the log; there are 1 .completed., 2 .completed."):
        import_logs(log, migration=3)


def test_one_that_did_not_complete_is_taken_only_if_chosen(tmp_path: Path) -> None:
    log = two_migrations(tmp_path, second="cancelled")
    assert latency(import_logs(log)) == 0.001
    chosen = import_logs(log, migration=2)
    assert latency(chosen) == 0.010
    assert any("did not complete: its status is 'cancelled'" in note for note in chosen.notes)


def test_a_destination_that_holds_as_many_migrations_is_paired_in_turn(tmp_path: Path) -> None:
    log = two_migrations(tmp_path)
    there = destination_log({"vf0": (4, 5)})
    later = destination_log({"vf0": (40, 50)})
    there.lines += [line.replace("T17:09", "T17:10") for line in later.lines]
    arrivals = there.write(tmp_path / "dst.log")
    for number, seconds in ((1, 0.004), (2, 0.040)):
        imported = import_logs(log, arrivals, migration=number)
        assert imported.scenario.devices[0].latency[S.RESUMING, S.STOP] == seconds
        assert any(f"in the same place as the source's is taken, {number}" in note for note in imported.notes)


def test_a_lost_answer_is_taken_from_the_line_of_the_change(tmp_path: Path) -> None:
    log = source_log({"vf0": (1, 2, 3), "vf1": (10, 20, 30)})
    log.lines = [line for line in log.lines if "set_device_state  (vf1) state PRE_COPY_P2P" not in line]
    imported = import_logs(log.write(tmp_path / "src.log"))
    latencies = {spec.id: spec.latency[S.PRE_COPY, S.PRE_COPY_P2P] for spec in imported.scenario.devices}
    assert latencies == {"vf0": 0.001, "vf1": 0.010}
    assert any("when 'vf1' came to PRE_COPY_P2P is missing" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (
            ("set_state  (vf1) new state STOP_COPY, recover state ERROR",),
            "'vf1' came to STOP_COPY, and the log does not",
        ),
        (
            (
                "set_device_state  (vf1) state STOP_COPY",
                "change  (vf1) running 0 reason finish-migrate device state STOP_C",
            ),
            "'vf1' is asked to go to STOP_COPY, and the log does not say when",
        ),
    ],
)
def test_what_lost_its_beginning_or_its_end_is_left_out_and_said(
    lost: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    log = source_log({"vf0": (1, 2, 3), "vf1": (10, 20, 30)})
    log.lines = [line for line in log.lines if not any(each in line for each in lost)]
    imported = import_logs(log.write(tmp_path / "src.log"))
    assert any(message in note and "time is left out" in note for note in imported.notes)
    assert imported.scenario.devices[1].latency.get((S.PRE_COPY_P2P, S.STOP_COPY), 0.0) == 0.0


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    log = source_log(FOUR_SOURCE).write(tmp_path / "src.log")
    plain = import_logs(log)
    log.write_text(log.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert import_logs(log).scenario == plain.scenario


def test_without_statuses_a_switchover_is_found_all_the_same(tmp_path: Path) -> None:
    log = source_log(FOUR_SOURCE)
    log.lines = [line for line in log.lines if "migrate_set_state" not in line]
    there = destination_log(FOUR_DESTINATION)
    there.lines = [line for line in there.lines if "migrate_set_state" not in line]
    imported = import_logs(log.write(tmp_path / "src.log"), there.write(tmp_path / "dst.log"))
    full = import_logs(
        source_log(FOUR_SOURCE).write(tmp_path / "src.log"),
        destination_log(FOUR_DESTINATION).write(tmp_path / "dst.log"),
    )
    assert imported.scenario.devices == full.scenario.devices


def cut(marker: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: lines[: next(i for i, line in enumerate(lines) if marker in line)]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: [], r"line 0: no switchover .*\(it is empty\)"),
        (lambda lines: ["hello"], r"line 1: no switchover .*\(none of its lines is one that QEMU traces\)"),
        (lambda lines: ["\x00\xff\x7fELF"], r"line 1: no switchover .*\(none of its lines is one that QEMU traces\)"),
        (
            cut("finish-migrate"),
            r"line \d+: no migration .* completed; there are 1 .active.: if one is only cut off",
        ),
        (cut("src-vm-stopped"), r"line \d+: no migration in the log completed"),
        (cut("src-downtime-end"), r"line \d+: no migration in the log completed; there are 1 .device."),
        (lambda lines: [line for line in lines if "vfio_" not in line], "no VFIO device changes its state"),
        (lambda lines: [line.partition(" ")[2] for line in lines], "line 1: the events have no timestamps"),
        (lambda lines: [*lines[20:], *lines[:20]], r"line \d+: timestamps run backwards"),
        (lambda lines: [x for x in lines if "finish-m" not in x and "src-d" not in x], "holds no switchover"),
    ],
)
def test_what_is_missing_is_said_with_file_and_line(
    edit: Callable[[list[str]], list[str]], message: str, tmp_path: Path
) -> None:
    log = source_log(FOUR_SOURCE)
    log.lines = edit(log.lines)
    with pytest.raises(LogImportError, match=rf"src\.log, .*{message}") as caught:
        import_logs(log.write(tmp_path / "src.log"))
    assert isinstance(caught.value, ScenarioError)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (cut("vm_state_notify"), r"line \d+: no migration into this machine completed"),
        (lambda lines: [], "line 0: no migration into this machine completed"),
        (
            lambda lines: [x for x in lines if "running" not in x],
            r"line \d+: the destination's machine was never started",
        ),
    ],
)
def test_a_destination_s_log_that_is_cut_off_is_an_error(
    edit: Callable[[list[str]], list[str]], message: str, tmp_path: Path
) -> None:
    there = destination_log(FOUR_DESTINATION)
    there.lines = edit(there.lines)
    with pytest.raises(LogImportError, match=rf"dst\.log, {message}"):
        import_logs(source_log(FOUR_SOURCE).write(tmp_path / "src.log"), there.write(tmp_path / "dst.log"))


def test_a_destination_s_log_in_the_source_s_place_is_recognized(tmp_path: Path) -> None:
    with pytest.raises(LogImportError, match="it is the log of a destination"):
        import_logs(destination_log(FOUR_DESTINATION).write(tmp_path / "dst.log"))


# Logs of a real QEMU, which had no VFIO device:


@pytest.mark.parametrize("name", ["flat", "host"])
def test_a_real_log_without_vfio_still_gives_phases_and_the_downtime_that_qemu_measured(name: str) -> None:
    file = CAPTURES / f"{name}-src.trace.log"
    with pytest.raises(LogImportError, match="no VFIO device changes its state") as caught:
        import_logs(file, CAPTURES / f"{name}-dst.trace.log")
    report = "\n".join(caught.value.report)
    assert "src-downtime-start to src-vm-stopped: " in report
    assert "dst-precopy-bh-announced to dst-precopy-bh-vm-started: " in report
    migration = LoggedMigrations(read_log(file)).completed("source")
    assert migration is not None
    measured = [
        answer["S"]["return"]["downtime"]
        for line in (CAPTURES / f"{name}-src.qmp.jsonl").read_text(encoding="utf-8").splitlines()
        if "downtime" in (answer := json.loads(line)).get("S", {}).get("return", {})
    ]
    assert measured  # whole milliseconds, from one whole millisecond to another
    assert migration.downtime_s is not None
    assert abs(migration.downtime_s * 1000 - measured[-1]) < 1
    assert f"downtime {migration.downtime_s * 1000:.3f} ms" in report


def test_a_real_log_of_a_cancelled_migration_says_so() -> None:
    with pytest.raises(LogImportError, match=r"no migration in the log completed; there are 1 .cancelled."):
        import_logs(CAPTURES / "cancel-src.trace.log")


# Whatever the files hold:

LINES = [
    line
    for file in sorted(CAPTURES.glob("*.trace.log"))
    for line in file.read_text(encoding="utf-8").splitlines()
    if "virtio" not in line
] + [*source_log(FOUR_SOURCE).lines, *destination_log(FOUR_DESTINATION).lines]
EVENTS = [line.partition(" ")[2] for line in LINES]


def try_import(source: str, destination: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "src.log", Path(folder) / "dst.log"]
        for file, text in zip(files, (source, destination or ""), strict=True):
            file.write_text(text, encoding="utf-8", errors="replace")
        for number in (None, 1):
            try:
                imported = import_logs(files[0], None if destination is None else files[1], migration=number)
            except LogImportError as error:
                assert str(error)  # noqa: PT017 - anything else is a failure
            else:
                assert imported.scenario.plan().bounds.serial_s >= 0


FUZZ = settings(max_examples=150)


@FUZZ
@given(st.lists(st.text() | st.sampled_from(LINES)), st.none() | st.lists(st.text() | st.sampled_from(LINES)))
def test_arbitrary_lines_are_an_error_at_worst(source: list[str], destination: list[str] | None) -> None:
    try_import("\n".join(source), None if destination is None else "\n".join(destination))


@FUZZ
@given(st.lists(st.sampled_from(EVENTS), max_size=80), st.none() | st.lists(st.sampled_from(EVENTS), max_size=80))
def test_events_in_any_order_are_an_error_at_worst(source: list[str], destination: list[str] | None) -> None:
    texts = [
        None if events is None else "".join(f"1@{number}.000000:{event}\n" for number, event in enumerate(events))
        for events in (source, destination)
    ]
    try_import(texts[0] or "", texts[1])


@FUZZ
@given(st.sampled_from(["flat", "host", "cancel", "hand"]), st.integers(0, 200), st.integers(0, 10_000), st.booleans())
def test_cut_and_shuffled_logs_are_an_error_at_worst(name: str, keep: int, seed: int, shuffle: bool) -> None:
    if name == "hand":
        texts = [source_log(FOUR_SOURCE).lines, destination_log(FOUR_DESTINATION).lines]
    else:
        texts = [
            (CAPTURES / f"{name}-{side}.trace.log").read_text(encoding="utf-8").splitlines() for side in ("src", "dst")
        ]
    if shuffle:
        for lines in texts:
            random.Random(seed).shuffle(lines)
    try_import("\n".join(texts[0][:keep]), "\n".join(texts[1][: max(keep, seed % 200)])[: -(seed % 7) or None])
