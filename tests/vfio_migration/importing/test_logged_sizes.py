"""What logs say in bytes, in the formats of QEMU's other trace events; right values by hand."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from suite import DATA, ROOT
from suite.qemu_logs import HandWritten, destination_log, logs_of_run, source_log

from vfio_migration.importing import ImportedScenario, import_logs
from vfio_migration.plan import blackout_parts
from vfio_migration.scenarios import parse_scenario
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock

STEP20 = DATA / "qemu-11.1.3-vfio"
SOURCE = {"vf0": (10.0, 20.0, 30.0), "vf1": (10.0, 20.0, 40.0)}
DESTINATION = {"vf0": (50.0, 10.0), "vf1": (50.0, 10.0)}
TREE = (
    'bus: main-system-bus\n  dev: q35-pcihost, id ""\n'
    "    below-4g-mem-size = {} (2 GiB)\n    above-4g-mem-size = {} (6 GiB)\n"
)
WINDOW = "migrate_transferred transferred 100000000 time_spent 100 bandwidth {} switchover_bw {} max_size {}"


def add(log: HandWritten, marker: str, *lines: str, ms: float = 0.0, last: bool = False) -> None:
    """Put lines behind the first (or last) one with this marker, so much later than it."""
    places = [place for place, line in enumerate(log.lines) if marker in line]
    place = places[-1 if last else 0]
    moment = datetime.fromisoformat(log.lines[place].partition(" ")[0]) + timedelta(milliseconds=ms)
    log.lines[place + 1 : place + 1] = [f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z {line}" for line in lines]


def source() -> HandWritten:
    log = source_log(SOURCE)
    for name, size in (("vf0", 20_000_000), ("vf1", 10_000_000)):
        add(log, f"vfio_save_complete_precopy_start  ({name})", *[f"vfio_save_block  ({name}) data_size {size}"] * 2)
    return log


def destination() -> HandWritten:
    """Write the log of one that has loaded all 8 ms after the source's last byte, by the same clock."""
    log = destination_log(DESTINATION)
    log.lines = [re.sub(r"T17:", "T18:", line) for line in log.lines]  # one host, one clock
    log.lines = [shifted(line, 190) for line in log.lines]
    return log


def shifted(line: str, ms: float) -> str:
    time, _, event = line.partition(" ")
    return f"{datetime.fromisoformat(time) + timedelta(milliseconds=ms):%Y-%m-%dT%H:%M:%S.%f}Z {event}"


def imported(folder: Path, log: HandWritten, there: HandWritten | None = None, tree: str = "") -> ImportedScenario:
    file = log.write(folder / "src.log")
    there_file = there.write(folder / "dst.log") if there else None
    (folder / "tree.txt").write_text(tree, encoding="utf-8")
    return import_logs(file, there_file, folder / "tree.txt" if tree else None)


def took(log: ImportedScenario) -> float:
    return sum(part.seconds for part in blackout_parts(log.scenario.serial().plan()))


def test_a_real_tree_says_how_large_memory_is_and_the_log_does_not_say_the_rest() -> None:
    log = import_logs(STEP20 / "step20-src.log", STEP20 / "step20-dst.log", STEP20 / "step20-qtree.txt")
    around = log.scenario.surroundings
    assert around.ram is not None
    assert (around.ram.size, around.ram.dirty_rate, around.link) == (32 << 20, 0.0, None)
    (note,) = (note for note in log.notes if note.startswith("the logs do not say"))
    assert "dirty_rate" not in log.text
    for what in ("how fast the guest dirties memory", "what the link does", "how large states are", "how long loading"):
        assert what in note
    assert "how large memory is" not in note
    assert f"# - {note}" in log.text
    # 32 MiB in the 138.247 ms from `active` to `src-downtime-start`
    assert any("2.43e+08 bytes per second for bandwidth of [link]; a guess that is not taken" in n for n in log.notes)


def test_states_are_as_large_as_what_was_sent_after_the_stop(tmp_path: Path) -> None:
    log = source()
    add(log, "new state active", "vfio_save_block  (vf0) data_size 999", ms=5)
    specs = {spec.id: spec for spec in imported(tmp_path, log).scenario.devices}
    assert {name: spec.entry.state_size for name, spec in specs.items()} == {"vf0": 40_000_000, "vf1": 20_000_000}
    assert {name: spec.transfer_s for name, spec in specs.items()} == pytest.approx({"vf0": 0.030, "vf1": 0.040})


@pytest.mark.parametrize(
    "line",
    [
        f"vfio_state_pending  (vf0) stopcopy size 5000, {'precopy initial size 0, ' * 2}exact 1, final 1",
        "vfio_query_stop_copy_size  (vf0) stopcopy size 5000 ret 0",
        "vfio_state_pending_exact  (vf0) precopy 0x0 postcopy 0x0 stopcopy size 0x1388 precopy initial size 0x0",
        "vfio_state_pending_exact  (vf0) precopy 0 postcopy 0 stopcopy size 5000 precopy initial size 0",
    ],
)
def test_without_lines_of_what_was_sent_a_state_is_what_its_device_said_and_that_is_a_guess(
    line: str, tmp_path: Path
) -> None:
    log = source_log(SOURCE)
    add(log, "new state active", line, ms=5)
    found = imported(tmp_path, log)
    assert found.scenario.devices[0].entry.state_size == 5000
    assert found.scenario.devices[0].transfer_s == pytest.approx(0.030)
    assert any("would have to send" in note and "a guess" in note for note in found.notes)


def busy_source() -> HandWritten:
    """Write the log of a source that says what it sent and what was dirty, with 300 ms for memory's rest."""
    log = source()
    device = next(place for place, line in enumerate(log.lines) if "new state device" in line)
    log.lines[device + 1 :] = [shifted(line, 300) for line in log.lines[device + 1 :]]
    add(log, "new state active", "migration_bitmap_sync_end dirty_pages 2000000", ms=1)
    add(log, "dirty_pages 2000000", WINDOW.format(2_000_000, 0, 600_000_000), ms=10)
    add(log, "max_size 600000000", WINDOW.format(1_000_000, 0, 300_000_000), ms=10)
    add(log, "max_size 300000000", "migration_bitmap_sync_end dirty_pages 100", ms=10)
    return log


def test_link_limit_and_dirtying_come_from_windows_and_looks_and_the_switchover_stays_as_long(tmp_path: Path) -> None:
    log, there = busy_source(), destination()
    there.lines = [shifted(line, 300) for line in there.lines]
    found = imported(tmp_path, log, there, TREE.format(2 << 30, 6 << 30) + VFS)
    around = found.scenario.surroundings
    assert around.link is not None
    assert around.ram is not None
    assert (around.link.bandwidth, around.parameters.downtime_limit_s) == (2e9, 0.3)
    assert around.ram.size == 8 << 30
    assert around.ram.dirty_rate == pytest.approx(100 * 4096 / 0.030)
    # 60 ms of stop, 370 of transfer, 8 and 1 before the start, 120 of start.
    assert took(found) == pytest.approx(0.559, abs=2e-5)
    (ram,) = (part for part in blackout_parts(found.scenario.plan()) if part.what == "RAM")
    assert 0.05 < ram.seconds == pytest.approx(0.3 - found.scenario.phases.final_query_s, abs=2e-5)
    # Of the 30 ms that saving took, 40 MB are 20 ms on the link.
    spec = found.scenario.devices[0].entry
    assert spec.rate == pytest.approx(40_000_000 / 0.010)
    assert run_once(found.scenario, VirtualClock()).completed
    assert sum("a guess" in note for note in found.notes) >= 2


VFS = '  dev: vfio-pci, id "vf0"\n  dev: vfio-pci, id "vf1"\n'


def test_memory_for_whose_rest_the_log_has_no_time_is_not_written(tmp_path: Path) -> None:
    log = source()
    add(log, "new state active", WINDOW.format(2_000_000, 0, 600_000_000), ms=10)
    found = imported(tmp_path, log, tree=TREE.format(2 << 30, 6 << 30) + VFS)
    assert found.scenario.surroundings.ram is None
    assert found.scenario.surroundings.link is not None
    assert took(found) == pytest.approx(0.130, abs=2e-5)
    assert any("memory is not written" in note for note in found.notes)


def test_a_bandwidth_that_was_given_is_a_parameter(tmp_path: Path) -> None:
    log = source()
    add(log, "new state active", WINDOW.format(2_000_000, 500_000, 100_000_000), ms=1)
    parameters = imported(tmp_path, log).scenario.surroundings.parameters
    assert (parameters.switchover_bandwidth, parameters.downtime_limit_s) == (5e8, 0.2)


def test_a_link_with_which_there_would_be_no_switchover_is_not_written(tmp_path: Path) -> None:
    log = source()
    add(log, "new state active", "migration_bitmap_sync_end dirty_pages 2000000", ms=1)
    add(log, "dirty_pages 2000000", WINDOW.format(1000, 0, 300_000), ms=10)
    add(log, "max_size 300000", "migration_bitmap_sync_end dirty_pages 1000000", ms=10)
    found = imported(tmp_path, log, tree=TREE.format(2 << 30, 0) + VFS)
    assert found.scenario.surroundings.link is None
    assert found.scenario.surroundings.ram is None
    assert not found.scenario.plan().never
    assert any("never be decided: it is not written" in note for note in found.notes)


def test_loading_is_what_passes_to_the_lines_that_say_so(tmp_path: Path) -> None:
    plain = imported(tmp_path, source(), destination())
    there = destination()
    marker = "dst-precopy-loadvm-completed"
    place = next(place for place, line in enumerate(there.lines) if marker in line)
    loads = []
    for ms, line in (
        (-6.0, "vfio_load_state  (vf0) data 0xffffffffef100004"),
        (-4.0, "vfio_load_state_device_data  (vf0) size 40000000 ret 0"),
        (-4.0, "vfio_load_device_config_state_start  (vf0)"),
        (-3.0, "vfio_load_device_config_state_end  (vf0)"),
    ):
        loads.append(shifted(f"{there.lines[place].partition(' ')[0]} {line}", ms))
    there.lines[place:place] = loads
    found = imported(tmp_path, source(), there)
    spec = found.scenario.devices[0].entry
    assert (spec.write_rate, spec.config_load) == pytest.approx((40_000_000 / 0.002, 0.001))
    assert took(found) == pytest.approx(took(plain), abs=2e-5)
    assert found.scenario.phases.load_state_s < plain.scenario.phases.load_state_s
    assert any(note.startswith("write_rate is from the line") for note in found.notes)


@pytest.mark.parametrize("number", range(3))
def test_the_log_of_a_run_with_memory_and_a_link_is_as_long_as_the_run(number: int, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    scenario = parse_scenario(
        re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[number], tmp_path / "x"
    )
    log, plan = import_logs(*logs_of_run(scenario, tmp_path)), scenario.plan()
    found = log.scenario.plan()
    assert found.bounds.mechanism_s == pytest.approx(plan.bounds.mechanism_s, abs=1e-5)
    assert (found.source_stop_s, found.destination_start_s) == pytest.approx(
        (plan.source_stop_s, plan.destination_start_s), abs=1e-5
    )
    (said,) = re.findall(r"accounted for: (\S+) ms, of (\S+) ms in the logs", "\n".join(log.report))
    assert [float(number) / 1000 for number in said] == pytest.approx([plan.bounds.mechanism_s] * 2, abs=1e-5)
