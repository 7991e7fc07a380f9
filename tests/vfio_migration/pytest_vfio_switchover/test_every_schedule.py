"""`@pytest.mark.vm_schedules`: fixtures made anew for each schedule, and a failure that can be replayed. Rule X5."""

import re
import shlex

import pytest

RACE = """
    import pytest
    from vmstate.exploring import checkpoint

    @pytest.fixture
    def log():
        return []

    @pytest.mark.vm_schedules(policy="exhaustive", schedules=200)
    def test_race(vm_machine, vfio_device, vm_clock, log):
        vfio_device("vf0", latency=0.01)

        def note(name):
            checkpoint()
            log.append(name)

        threads = [vm_clock.start_thread(lambda name=name: note(name), name) for name in "ab"]
        vm_machine.machine.stop()
        for thread in threads:
            vm_clock.join(thread)
        assert sorted(log) == ["a", "b"]
        assert {wrong} or log == ["a", "b"]
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "--strict-markers", *options)


def schedule_of(result: pytest.RunResult) -> str:
    # A set: where the variable CI is set, pytest's summary at the end repeats the whole message.
    (command,) = {line.partition("or: ")[2] for line in result.outlines if "or: pytest " in line}
    words = shlex.split(command)
    assert words[:3] == ["pytest", "test_it.py::test_race", "--vm-schedule"]
    return words[3]


def test_a_race_is_found_and_the_command_that_is_shown_replays_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=RACE.format(wrong=False))
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ScheduleFailure: schedule * fails*", "*1 switch, marked*", "*- machine timeline -*"])
    schedule = schedule_of(result)
    for _ in range(3):
        again = run(pytester, "test_it.py::test_race", "--vm-schedule", schedule)
        again.assert_outcomes(failed=1)
        again.stdout.fnmatch_lines(["E*AssertionError*"])
        again.stdout.no_fnmatch_line("*ScheduleFailure*")


def test_what_holds_in_all_schedules_passes_with_fixtures_that_are_new_in_each(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=RACE.format(wrong=True))
    run(pytester).assert_outcomes(passed=1)


def test_the_users_own_fixtures_are_made_and_torn_down_in_each_schedule(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        made, closed, modules = [], [], []

        @pytest.fixture(scope="module")
        def once():
            modules.append(1)

        @pytest.fixture
        def loaded(vm_pair, once):
            assert len(made) == len(closed)
            vm_pair.add_device("vf0", latency=0.01)
            vm_pair.add_device("vf1", latency=0.01)
            made.append(vm_pair)
            yield vm_pair
            closed.append(vm_pair)

        @pytest.mark.vm_schedules(schedules=7, seed=1, depth=2)
        def test_pair(loaded, vm_clock, tmp_path):
            assert loaded.clock is vm_clock
            (tmp_path / "file").touch(exist_ok=False)
            assert loaded.migrate().completed

        def test_afterwards(vm_clock):
            assert len(made) == len(closed) == 1 + 7  # the first is what pytest itself sets up
            assert len({id(pair) for pair in made}) == 8
            assert modules == [1]
            vm_clock.sleep(1)
        """
    )
    run(pytester).assert_outcomes(passed=2)


def test_the_command_line_says_how_many_are_tried(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        tried = []

        @pytest.mark.vm_schedules(policy="random", schedules=500, timing="any")
        def test_count(vm_clock):
            tried.append(vm_clock)

        def test_afterwards():
            assert len(tried) == 12
        """
    )
    run(pytester, "--vm-schedules", "12").assert_outcomes(passed=2)


def test_a_line_of_the_test_itself_can_be_preempted(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        class Counter:
            n = 0

            def add(self):
                x = self.n
                self.n = x + 1

        @pytest.mark.vm_schedules(preempt=(Counter,), policy="random")
        def test_race(vm_clock):
            counter = Counter()
            threads = [vm_clock.start_thread(counter.add, name) for name in "ab"]
            for thread in threads:
                vm_clock.join(thread)
            assert counter.n == 2
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*self.n = x + 1*"])


def test_a_schedule_that_does_not_fit_is_said_to(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=RACE.format(wrong=True))
    result = run(pytester, "--vm-schedule", "vs1/exact/pct/-/1@elsewhere*1>2/9.00000000")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*ReplayError: the schedule does not fit this test (any more)*"])


def test_a_skip_is_a_skip(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.vm_schedules
        def test_it(vm_clock):
            pytest.skip("not here")
        """
    )
    run(pytester).assert_outcomes(skipped=1)


@pytest.mark.parametrize("arguments", ["3", "policies='pct'", "policy='best'", "schedules=0"])
def test_what_there_is_not_is_refused(pytester: pytest.Pytester, arguments: str) -> None:
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.vm_schedules({arguments})\ndef test_it(vm_clock): pass\n")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"E.*(takes policy=|must be)"])


def test_real_time_has_no_schedules(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.vm_time("real")
        @pytest.mark.vm_schedules
        def test_it(vm_clock): pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*in virtual time, not in real time*"])


@pytest.mark.slow
def test_it_works_under_xdist(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    pytester.makepyfile(test_it=RACE.format(wrong=False))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", timeout=50)
    result.assert_outcomes(failed=1)
    alone = run(pytester)
    assert schedule_of(result) == schedule_of(alone)
    assert re.search(r"1 switch, marked \*", result.stdout.str())
