import signal
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest
from hypothesis import HealthCheck, settings

# No test depends on how quick the machine is: what takes too long is ended by pytest-timeout. The suite tries the same
# examples each time, so that who breaks nothing sees nothing fail; `--hypothesis-profile=search` looks for others.
_NO_CLOCK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", _NO_CLOCK, derandomize=True)
settings.register_profile("search", _NO_CLOCK, derandomize=False, print_blob=True)
settings.load_profile("suite")

pytest_plugins = ["pytester"]

# Tests that are slow not each by itself: what they show others show too, more briefly, or what they are about is not
# what somebody breaks who changes something else. In one place, as the suite's time is one: a minute, on two
# processors.
_SLOW_TOGETHER = (
    "test_guide.py::*Every schedule*",
    "test_readme.py::test_the_commands_run_one_after_another[[]blackout.md]",
    "test_readme.py::test_the_commands_run_one_after_another[[]exploring.md]",
    "test_readme.py::test_the_commands_run_one_after_another[[]forecast.md]",
    "test_readme.py::test_the_commands_run_one_after_another[[]import.md]",
    "test_readme.py::test_the_commands_run_one_after_another[[]measure.md]",
    "test_readme.py::test_the_commands_run_one_after_another[[]reference.md]",
    "test_readme.py::test_the_commands_run_one_after_another[[]strategies.md]",
    "vfio_migration/cli/test_explore_command.py::*",
    "vfio_migration/cli/test_streams.py::*",
    "vfio_migration/cli/test_two_ends.py::test_a_destination_that_does_not*",
    "vfio_migration/cli/test_two_ends.py::test_a_device_that_fails*",
    "vfio_migration/cli/test_two_ends.py::test_a_scenario*qemu-0]",
    "vfio_migration/device/test_mock.py::test_reading_takes_size*",
    "vfio_migration/drawing/test_page.py::test_every_span*",
    "vfio_migration/drawing/test_page.py::test_with_many_devices*",
    "vfio_migration/drawing/test_page_in_browser.py::*",
    "vfio_migration/drawing/test_picture.py::*",
    "vfio_migration/drawing/test_terminal.py::test_a_result_is_plain_text*",
    "vfio_migration/emulator/board/test_boards.py::test_errors_of_device_add*",
    "vfio_migration/emulator/board/test_coming_and_going.py::test_tree_and_objects*",
    "vfio_migration/emulator/process/test_process.py::test_a_migration_between*",
    "vfio_migration/emulator/wire/test_json_reader.py::test_what_json_dumps*",
    "vfio_migration/fleet/test_forecast.py::test_sample_k*[[]side*",
    "vfio_migration/fleet/test_forecast.py::test_sample_k*simulated]",
    "vfio_migration/fleet/test_sweep.py::test_the_command*",
    "vfio_migration/forecast/test_prediction.py::test_a_device_can_use_up_its_slack*",
    "vfio_migration/forecast/test_prediction.py::test_what_a_device_contributes*",
    "vfio_migration/forecast/test_prediction.py::*[[]strategy1]",
    "vfio_migration/forecast/test_prediction.py::*[[]strategy2]",
    "vfio_migration/forecast/test_prediction.py::*[[]strategy3]",
    "vfio_migration/importing/test_bundled_scenarios.py::*",
    "vfio_migration/importing/test_launch_costs.py::*",
    "vfio_migration/importing/test_logs.py::test_arbitrary_lines*",
    "vfio_migration/importing/test_samples.py::*",
    "vfio_migration/live/test_answers.py::test_whatever_is_altered*",
    "vfio_migration/live/test_control.py::*-base]",
    "vfio_migration/live/test_control.py::*-exit]",
    "vfio_migration/live/test_matrix.py::*everybody*",
    "vfio_migration/live/test_matrix.py::*parked*",
    "vfio_migration/live/test_multifd.py::*parked*",
    "vfio_migration/live/test_stream.py::test_a_stream_cut_short*",
    "vfio_migration/live/test_two_ends.py::test_others_are*",
    "vfio_migration/live/test_two_ends_at_worst_moments.py::*",
    "vfio_migration/plan/test_migration.py::test_it_is_the_same*",
    "vfio_migration/plan/test_switchover.py::test_ideal_is_at_most*",
    "vfio_migration/pytest_vfio_switchover/test_every_schedule.py::*",
    "vfio_migration/scenarios/test_runner.py::*-host]",
    "vfio_migration/scenarios/test_runner.py::*[[]host]*",
    "vfio_migration/strategies/test_every_schedule_of_them.py::*",
    "vfio_migration/strategies/test_page.py::*",
    "vfio_migration/strategies/test_pass_s.py::*",
    "vfio_migration/strategies/test_passes.py::*-pool:4*",
    "vfio_migration/strategies/test_passes.py::*per-change*",
    "vfio_migration/test_ctrl_c_at_each_line.py::*",
    "vfio_migration/test_every_schedule.py::*",
    "vmstate/exploring/test_explore.py::test_a_loop_that_spins*",
    "vmstate/exploring/test_explore.py::test_exhaustive*",
    "vmstate/exploring/test_explore.py::test_what_is_right*",
)


@pytest.hookimpl(tryfirst=True)  # before `-m` is looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the slow tests what would make the suite take longer than a minute."""
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        if any(fnmatchcase(name, pattern) for pattern in _SLOW_TOGETHER):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, here and in processes started here, also where SIGINT was ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
