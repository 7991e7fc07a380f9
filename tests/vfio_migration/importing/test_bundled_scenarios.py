"""The log of a run of each bundled scenario: imported, it takes what the run took."""

from pathlib import Path

import pytest
from suite.qemu_logs import logs_of_run

from vfio_migration.forecast import predict
from vfio_migration.importing import ImportedScenario, import_logs
from vfio_migration.scenarios import bundled_scenarios, override
from vfio_migration.scenarios.file import load_scenario
from vfio_migration.scenarios.model import Scenario

# Running the GPUs takes seconds even in virtual time, as each megabyte of theirs is one; smaller ones do the same.
SMALLER = {"gpus": ["gpu*.state_size=100 MB", "gpu*.precopy_size=10 MB", "ram.size=1 GB"]}
CHANNELS = ["parameters.multifd_channels=4"]
MICROSECONDS = 1e-5  # for times in a log that are to one of them


def bundled(name: str, *, serial: bool, channels: bool) -> Scenario:
    scenario = override(load_scenario(name), [*SMALLER.get(name, []), *(CHANNELS if channels else [])])
    return scenario.serial() if serial else scenario


def took(imported: ImportedScenario, *, serial: bool) -> float | None:
    return predict(imported.scenario.serial() if serial else imported.scenario).switchover_s


def rewritten(files: tuple[Path, Path], *without: str) -> tuple[Path, Path]:
    """Leave out lines whose event begins like this."""
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(each for each in lines if not each.split()[1].startswith(without)), encoding="utf-8")
    return files


@pytest.mark.parametrize("channels", [False, True], ids=["main channel", "multifd"])
@pytest.mark.parametrize("serial", [True, False], ids=["serial", "parallel"])
@pytest.mark.parametrize("name", list(bundled_scenarios()))
def test_a_run_s_log_is_forecast_to_take_what_the_run_took(
    name: str, serial: bool, channels: bool, tmp_path: Path
) -> None:
    scenario = bundled(name, serial=serial, channels=channels)
    imported = import_logs(*logs_of_run(scenario, tmp_path))
    expected = scenario.plan()
    assert took(imported, serial=serial) == pytest.approx(expected.bounds.mechanism_s, abs=MICROSECONDS)
    plan = (imported.scenario.serial() if serial else imported.scenario).plan()
    assert plan.transfer_s == pytest.approx(expected.transfer_s, abs=MICROSECONDS)
    channels_of_run = scenario.surroundings.parameters.multifd_channels
    assert imported.scenario.surroundings.parameters.multifd_channels == channels_of_run
    assert any("threads saved" in note for note in imported.notes) == bool(channels_of_run)


@pytest.mark.parametrize("serial", [True, False], ids=["serial", "parallel"])
def test_of_a_qemu_that_writes_no_packets_sizes_and_channels_are_guesses_and_the_times_are_not(
    serial: bool, tmp_path: Path
) -> None:
    scenario = bundled("mlx5", serial=serial, channels=True)
    files = rewritten(logs_of_run(scenario, tmp_path), "multifd_send", "vfio_save_block", "savevm_section")
    imported = import_logs(*files)
    assert took(imported, serial=serial) == pytest.approx(scenario.plan().bounds.mechanism_s, abs=MICROSECONDS)
    assert imported.scenario.surroundings.parameters.multifd_channels == 4
    for spec in imported.scenario.devices:
        assert spec.entry.state_size == 31 << 20  # in packets of 1 MiB; 31,000,000 bytes were sent
        # Of 30 MB at 160 MB/s, and what pre-copy left.
        assert (spec.entry.state_size or 0) / (spec.entry.write_rate or 1) == pytest.approx(0.19375, rel=0.01)
        assert spec.entry.config_load == pytest.approx(0.010, abs=MICROSECONDS)
    assert any("one for each thread, a guess" in note for note in imported.notes)
    assert any("each packet that was loaded" in note for note in imported.notes)


def test_what_the_channels_say_of_themselves_counts_them(tmp_path: Path) -> None:
    source, destination = rewritten(logs_of_run(bundled("mlx5", serial=True, channels=True), tmp_path), "multifd_send")
    text = source.read_text(encoding="utf-8")
    moment = text[text.index("new state active") - len("1970-01-01T00:00:00.000000Z migrate_set_state ") :].split()[0]
    active = f"{moment} migrate_set_state new state active\n"
    assert active in text
    begun = "".join(f"{moment} multifd_send_thread_start {number}\n" for number in range(7))
    source.write_text(text.replace(active, active + begun), encoding="utf-8")
    imported = import_logs(source, destination)
    assert imported.scenario.surroundings.parameters.multifd_channels == 7


def test_a_device_beside_the_threads_stays_on_the_main_channel(tmp_path: Path) -> None:
    scenario = override(bundled("mlx5", serial=True, channels=True), ["vf2.multifd=false"])
    imported = import_logs(*logs_of_run(scenario, tmp_path))
    assert {spec.id: spec.entry.multifd for spec in imported.scenario.devices} == {
        "vf0": "auto",
        "vf1": "auto",
        "vf2": False,
        "vf3": "auto",
    }
    assert took(imported, serial=True) == pytest.approx(scenario.plan().bounds.mechanism_s, abs=MICROSECONDS)


@pytest.mark.parametrize("channels", [False, True], ids=["main channel", "multifd"])
def test_where_clocks_differ_what_is_loaded_takes_what_its_own_lines_say(channels: bool, tmp_path: Path) -> None:
    scenario = bundled("mlx5", serial=True, channels=channels)
    source, destination = logs_of_run(scenario, tmp_path)
    text = destination.read_text(encoding="utf-8")
    destination.write_text(text.replace("1970-01-01T", "1970-01-02T"), encoding="utf-8")
    imported = import_logs(source, destination)
    assert any("clocks of the two logs do not agree" in note for note in imported.notes)
    assert not any("too slow" in note for note in imported.notes)
    # How the first piece began to load is not said, which is 6 of 194 ms a device.
    assert took(imported, serial=True) == pytest.approx(scenario.plan().bounds.mechanism_s, rel=0.01)


def test_loading_without_lines_of_its_own_is_load_state_where_both_sides_began_together(tmp_path: Path) -> None:
    scenario = bundled("mlx5", serial=True, channels=False)
    imported = import_logs(*rewritten(logs_of_run(scenario, tmp_path), "vfio_load_"))
    assert took(imported, serial=True) == pytest.approx(scenario.plan().bounds.mechanism_s, abs=MICROSECONDS)
    assert imported.scenario.phases.load_state_s > 0.5
    assert all(spec.entry.write_rate is None for spec in imported.scenario.devices)
