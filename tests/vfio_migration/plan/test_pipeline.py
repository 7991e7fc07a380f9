from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_migration.device import CHUNK
from vfio_migration.plan.pipeline import Flow, Pipeline
from vfio_migration.plan.planned_state import PlannedState

rates = st.one_of(st.none(), st.floats(1e6, 1e12))


@settings(max_examples=100)
@given(
    rates, rates, rates, st.integers(0, 10**8), st.integers(1, 3 * CHUNK), st.integers(0, 2000), st.integers(0, CHUNK)
)
def test_a_run_of_equal_chunks_is_the_same_as_one_after_another(
    bandwidth: float | None,
    rate: float | None,
    write_rate: float | None,
    latency: int,
    before: int,
    count: int,
    rest: int,
) -> None:
    """Whatever came before, what comes next, and whoever is the slowest: to 10 ns."""
    at_once = Pipeline(bandwidth, latency, now=17)
    at_once.send(before)
    one_by_one = deepcopy(at_once)
    flow, same = (Flow(PlannedState(rate=rate, write_rate=write_rate), loaded=3) for _ in range(2))
    at_once.carry(flow, count * CHUNK + rest)
    for _ in range(count):
        one_by_one.carry(same, CHUNK)
    one_by_one.carry(same, rest)
    for pipeline in (at_once, one_by_one):
        pipeline.send(before)
    assert (flow, at_once.carried) == (same, one_by_one.carried)
    for what in ("now", "done", "busy"):
        assert getattr(at_once, what) == pytest.approx(getattr(one_by_one, what), abs=10)


def test_sixteen_terabytes_are_reckoned_in_a_step() -> None:
    """Read in 16,000 s, sent in 8,000 s, one after the other."""
    pipeline = Pipeline(2e9)
    pipeline.carry(Flow(PlannedState(rate=1e9)), 16 * 10**12)
    assert pipeline.now == pytest.approx(24_000 * 10**9, rel=1e-6)
