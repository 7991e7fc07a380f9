"""Logs of a real QEMU with real VFIO devices, with the patch and without: imported with no untrue note, forecast."""

import re
from datetime import datetime
from pathlib import Path

import pytest
from suite import DATA

from vfio_migration.forecast import predict
from vfio_migration.importing import ImportedScenario, import_logs
from vfio_migration.plan import blackout_parts
from vfio_migration.scenarios import override

SERIAL = {"11.1": DATA / "qemu-11.1.3-vfio" / "step20", "10.2": DATA / "qemu-vfio" / "serial-10.2"}
SERIAL |= {name: DATA / "qemu-vfio" / name for name in ("off-a", "virtio-off")}
PARALLEL = {name: DATA / "qemu-vfio" / name for name in ("parallel-virtio", "parallel-8", "on-a", "on-b")}
UNTRUE = ("missing", "left out", "is asked to go", "no end in", "does not say when", "not known here", "do not agree")


def took(stem: Path) -> float:
    """Give the seconds from `src-downtime-start` to the destination's `vm-started`: both logs are of one host."""
    ends = []
    for side, checkpoint in (("src", "src-downtime-start"), ("dst", "dst-precopy-bh-vm-started")):
        text = Path(f"{stem}-{side}.log").read_text(encoding="utf-8")
        (line,) = re.findall(rf"^(\S+)Z vmstate_downtime_checkpoint {checkpoint}$", text, re.MULTILINE)
        ends.append(datetime.fromisoformat(line))
    return (ends[1] - ends[0]).total_seconds()


def imported(stem: Path) -> ImportedScenario:
    return import_logs(f"{stem}-src.log", f"{stem}-dst.log", f"{stem}-qtree.txt")


def times(stem: Path, side: str) -> dict[str, float]:
    """Give when what is compared was first logged since the migration's set-up, in seconds."""
    text = Path(f"{stem}-{side}.log").read_text(encoding="utf-8")
    lines = re.findall(
        r"^(\S+)Z (?:vmstate_downtime_checkpoint (\S+)|vm_state_(notify) .*|(vfio_save_complete_precopy_start) .*)$",
        text[text.index("new state setup") :],
        re.MULTILINE,
    )
    found: dict[str, float] = {}
    for time, *names in lines:
        found.setdefault("".join(names), datetime.fromisoformat(time).timestamp())
    return found


@pytest.mark.parametrize("name", [*SERIAL, *PARALLEL])
def test_all_of_the_blackout_is_accounted_for_phase_by_phase(name: str) -> None:
    stem = (SERIAL | PARALLEL)[name]
    log = imported(stem)
    scenario = log.scenario.serial() if name in SERIAL else log.scenario
    parts: dict[str, float] = {}
    for part in blackout_parts(scenario.plan()):
        key = part.part if part.what in ("prepare", "main", "flush_block_s") else part.what
        parts[key] = parts.get(key, 0.0) + part.seconds
    source, there = times(stem, "src"), times(stem, "dst")
    saved, loaded = source["vfio_save_complete_precopy_start"], there["dst-precopy-loadvm-completed"]
    expected = {
        "pause_vcpus_s": source["notify"] - source["src-downtime-start"],
        "source_stop_s": source["src-vm-stopped"] - source["notify"],
        "final_query_s": saved - source["src-vm-stopped"],
        "load_state_s": loaded - source["src-non-iterable-saved"],
        "activate_block_s": there["notify"] - loaded,
        "destination_start_s": there["dst-precopy-bh-vm-started"] - there["notify"],
    }
    assert {key: parts[key] for key in expected} == pytest.approx(expected, abs=2e-6)
    sent = source["src-non-iterable-saved"] - saved
    assert parts["device states"] + parts["other_state_s"] == pytest.approx(sent, abs=2e-6)
    assert sum(parts.values()) == pytest.approx(took(stem), abs=5e-6)
    assert f"accounted for: {took(stem) * 1000:.3f} ms, of {took(stem) * 1000:.3f} ms in the logs" in log.report


@pytest.mark.parametrize("name", SERIAL)
def test_the_serial_forecast_is_what_the_switchover_took(name: str) -> None:
    stem = SERIAL[name]
    serial = predict(override(imported(stem).scenario, ["*.parallel=false"]))
    assert serial.switchover_s == pytest.approx(took(stem), rel=0.02)


@pytest.mark.parametrize("name", PARALLEL)
def test_the_forecast_of_a_parallel_log_is_what_its_switchover_took(name: str) -> None:
    log = imported(PARALLEL[name])
    assert predict(log.scenario).switchover_s == pytest.approx(took(PARALLEL[name]), rel=0.02)
    assert sum("is of parallel changes" in note for note in log.notes) == 2


def test_without_a_tree_the_depths_of_a_parallel_log_are_told_by_its_stages() -> None:
    stem = PARALLEL["parallel-virtio"]
    with_tree, without = imported(stem), import_logs(f"{stem}-src.log", f"{stem}-dst.log")
    assert {spec.id: spec.depth for spec in without.scenario.devices} == {
        spec.id: spec.depth for spec in with_tree.scenario.devices
    }
    assert any("told by which devices changed together" in note for note in without.notes)


@pytest.mark.parametrize("stem", [*SERIAL.values(), *PARALLEL.values()], ids=lambda stem: stem.name)
def test_there_is_no_untrue_note(stem: Path) -> None:
    log = imported(stem)
    assert [note for note in log.notes if any(word in note for word in UNTRUE)] == []
    assert not any("are not known here" in line for line in log.report)


def test_how_far_timestamps_run_back_is_said() -> None:
    notes = imported(PARALLEL["parallel-8"]).notes
    assert any(re.search(r"timestamps run back by up to 1\d\.\d ms", note) for note in notes)


@pytest.mark.parametrize("stem", [*SERIAL.values(), *PARALLEL.values()], ids=lambda stem: stem.name)
def test_a_device_s_own_transfer_is_what_its_lines_say(stem: Path) -> None:
    text = Path(f"{stem}-src.log").read_text(encoding="utf-8")
    spans = re.findall(
        r"^(\S+)Z vfio_save_complete_precopy_start  \((\S+)\)\n(?:.*\n)?(\S+)Z vfio_save_complete_precopy  ",
        text,
        re.MULTILINE,
    )
    expected = {
        name: (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
        for first, name, last in spans
    }
    found = {spec.id: spec.transfer_s for spec in imported(stem).scenario.devices}
    assert found == pytest.approx(expected, abs=1e-7)
