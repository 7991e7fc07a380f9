"""The pytest plugin, as a user's project meets it."""

import pytest

PAIR = """
    def test_it(vm_pair, vfio_device):
        vfio_device("vf0", latency=3600.0)
        assert vm_pair.migrate().completed
        assert {outcome}
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)


def run_alone(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=50)


def test_unused_it_loads_nothing_but_itself(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            ours = ("vmstate", "vfio_migration", "pytest_vfio_switchover", "structlog", "rich", "msgspec")
            assert {name.partition(".")[0] for name in sys.modules} & set(ours) == {"pytest_vfio_switchover"}
        """
    )
    run_alone(pytester).assert_outcomes(passed=1)


def test_machines_run_in_virtual_time_unless_marked(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_usual(vm_machine, vm_clock):
            assert type(vm_clock).__name__ == "VirtualClock"
            assert vm_machine.machine.clock is vm_clock

        @pytest.mark.vm_time("virtual")
        def test_virtual(vm_clock):
            assert type(vm_clock).__name__ == "VirtualClock"

        @pytest.mark.vm_time("real")
        def test_real(vm_pair):
            assert type(vm_pair.source.machine.clock).__name__ == "RealClock"
        """
    )
    run(pytester, "--strict-markers").assert_outcomes(passed=3)


@pytest.mark.parametrize("arguments", ["'unreal'", "", "'real', 'virtual'", "kind='real'"])
def test_a_time_that_there_is_not_is_refused(pytester: pytest.Pytester, arguments: str) -> None:
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.vm_time({arguments})\ndef test_it(vm_clock): pass\n")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_it*takes 'virtual' or 'real'*"])


def test_a_failed_test_shows_its_timeline(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PAIR.format(outcome="False"))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- machine timeline -*", "*vf0 *|*-*|", "*vf0 *|*-*|"])


def test_a_test_that_passes_or_records_nothing_shows_none(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PAIR.format(outcome="True") + "\n    def test_nothing(vm_machine):\n        assert False\n")
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*machine timeline*")


@pytest.mark.slow
def test_it_works_under_xdist_and_with_a_timeout(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    pytester.makepyfile(PAIR.format(outcome="False"))
    result = run_alone(pytester, "-n", "2", "--timeout", "20")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- machine timeline -*"])


def test_devices_go_to_both_sides_of_a_pair_or_to_the_machine(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_pair(vfio_device, vm_pair):
            vfio_device("vf0", fail="RESUMING -> STOP")
            assert set(vm_pair.source.mocks) == set(vm_pair.destination.mocks) == {"vf0"}
            assert vm_pair.migrate().status == "failed"
            assert vm_pair.migrate().completed

        def test_machine(vfio_device, vm_machine):
            device = vfio_device("vf0", depth=3)
            assert vm_machine.devices == {"vf0": device}
            assert device.vfio_device.device.depth == 3
        """
    )
    run(pytester).assert_outcomes(passed=2)


@pytest.mark.slow
def test_what_stalls_or_was_left_open_does_not_outlive_its_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import threading
        from vfio_migration import Watchdog

        def test_stall(vm_pair, vfio_device):
            vfio_device("vf0", stall="PRE_COPY_P2P -> STOP_COPY", threads="parked", watchdog=Watchdog(None, 5))
            vfio_device("vf1", threads="parked")
            assert vm_pair.migrate().lost_devices == ("vf0",)

        def test_afterwards():
            for thread in threading.enumerate():
                if thread is not threading.main_thread():
                    thread.join(10)
            assert threading.enumerate() == [threading.main_thread()]
        """
    )
    run_alone(pytester).assert_outcomes(passed=2)


def test_faults_that_were_never_met_are_in_the_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(vm_pair, vfio_device):
            vfio_device("vf0", fail="RESUMING -> STOP")
            assert not vm_pair.source.machine.stop()
            assert False
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(
        ["*faults that were never met*", "failure of RESUMING -> STOP of device 'vf0', destination"]
    )
