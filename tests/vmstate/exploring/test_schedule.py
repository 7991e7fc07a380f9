"""The string of a schedule: short, versioned, and refused where it does not fit."""

from contextlib import suppress

import pytest
from suite import faults

from vmstate import VirtualClock
from vmstate.exploring import ReplayError, checkpoint, explore, parse_schedule, replay


def test_a_string_is_read_as_it_was_written() -> None:
    for name, preempt, timing in (("lost_update", (faults.Counter,), "exact"), ("quick_device", (), "any")):
        failure = explore(getattr(faults, name), preempt=preempt, timing=timing).failure
        assert failure is not None
        read = parse_schedule(failure.schedule)
        assert str(read) == failure.schedule
        assert (read.timing, read.policy) == (timing, "pct")
        assert read.preempt == tuple(f"suite.faults:{each.__qualname__}" for each in preempt)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no schedule"),
        ("vs1", "is no schedule"),
        ("vs1/exact/pct/-/1@add*x>2/3.00000000", "is no schedule"),
        ("vs1/sometimes/pct/-/-/3.00000000", "is no schedule"),
        ("vs1/exact/pct/-/-/3", "is no schedule"),
        ("vs2/exact/pct/-/-/3.00000000", "of version vs2; this one reads vs1"),
        ("x" * 500, "is no schedule"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        replay(faults.any_order, text)


@pytest.mark.parametrize("name", ["lost_update", "crosswise", "depth_three", "missing_join"])
def test_a_schedule_of_another_test_is_refused_or_passes_and_never_fails_in_another_way(name: str) -> None:
    failure = explore(getattr(faults, name), preempt=(faults.Counter,)).failure
    assert failure is not None
    for other in {"lost_update", "crosswise", "depth_three", "missing_join", "any_order"} - {name}:
        if {name, other} == {"depth_three", "any_order"}:
            continue  # the same threads at the same places
        with suppress(ReplayError):  # up to where the one failed, the other may have been the same
            replay(getattr(faults, other), failure.schedule)


def test_a_test_that_was_changed_refuses_its_schedule_or_passes() -> None:
    def make(changed: str) -> object:
        def test(clock: VirtualClock) -> None:
            order: list[str] = []

            def steps(name: str) -> None:
                order.append(name)
                checkpoint()
                if changed == "longer":
                    checkpoint()
                order.append(name)

            if changed != "shorter":
                faults.run_all(clock, lambda: steps("a"), lambda: steps("b"))
            assert changed == "mended" or order == ["a", "a", "b", "b"]

        return test

    failure = explore(make("")).failure  # type: ignore[arg-type]
    assert failure is not None
    replay(make("mended"), failure.schedule)  # type: ignore[arg-type]
    with pytest.raises(ReplayError):
        replay(make("shorter"), failure.schedule)  # type: ignore[arg-type]


def test_a_thread_that_cannot_go_on_there_is_named() -> None:
    failure = explore(faults.missing_join).failure
    assert failure is not None
    read = parse_schedule(failure.schedule)
    to = read.switches[0].to
    wrong = failure.schedule.replace(f">{to}", ">7")
    with pytest.raises(ReplayError, match="thread 7 cannot go on where thread"):
        replay(faults.missing_join, wrong)
