"""A shrunk schedule cannot lose a switch without losing the failure."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite import faults

from vmstate.exploring import explore, parse_schedule
from vmstate.exploring.chooser import Noted
from vmstate.exploring.lines import names_of
from vmstate.exploring.policies import Replayed
from vmstate.exploring.run import Way, runner_of
from vmstate.exploring.schedule import Switch
from vmstate.exploring.shrinking import shrink


@pytest.mark.parametrize("policy", ["pct", "random"])
@pytest.mark.parametrize(
    ("name", "preempt", "fewest"),
    [("lost_update", (faults.Counter,), 1), ("crosswise", (), 1), ("depth_three", (), 2), ("missing_join", (), 1)],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_switch_of_a_shrunk_schedule_can_be_left_out(
    name: str, preempt: tuple[object, ...], fewest: int, policy: str, seed: int
) -> None:
    test = getattr(faults, name)
    failure = explore(test, policy=policy, preempt=preempt, seed=seed).failure
    assert failure is not None
    switches = parse_schedule(failure.schedule).switches
    assert len(switches) == fewest
    with runner_of(test, Way("exact", names_of(preempt))) as runner:
        assert runner.run(Replayed(switches)).failure is not None
        for size in range(len(switches)):
            assert all(
                runner.run(Replayed(few)).failure is None
                for few in combinations(switches, size)
                if size >= len(switches) - 1
            )


@given(st.sets(st.integers(0, 40), max_size=6), st.integers(41, 80))
def test_what_matters_is_all_that_is_left(matter: set[int], count: int) -> None:
    def attempt(switches: Sequence[Switch]) -> Noted | None:
        if not matter <= {switch.visit for switch in switches}:
            return None
        noted = Noted(switches=list(switches))
        return replace(noted, switches_of_failure=len(switches))

    left = shrink([Switch(0, "here", number, 1) for number in range(count)], attempt)
    assert {switch.visit for switch in left} == matter
