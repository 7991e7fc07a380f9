import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.handlers import PATIENCE_S

from vmstate import RealClock, seconds_to_ns

NS = 1_000_000_000


@pytest.mark.parametrize(
    ("seconds", "nanoseconds"),
    [
        (0, 0),
        (-0.0, 0),
        (1, NS),
        (0.1, 100_000_000),
        (0.3, 300_000_000),
        (1e-9, 1),
        (0.4e-9, 0),
        (0.6e-9, 1),
        (0.5e-9, 0),  # halves to even
        (1.5 / NS, 2),
        (2.5 / NS, 2),
        (3600.000_000_001, 3600 * NS + 1),
        (10**30, 10**39),  # whole seconds have no limit
    ],
)
def test_seconds_become_whole_nanoseconds_with_halves_to_even(seconds: float, nanoseconds: int) -> None:
    result = seconds_to_ns(seconds)
    assert result == nanoseconds
    assert type(result) is int


@given(st.integers(0, 10**15))
def test_nanoseconds_survive_as_seconds_for_more_than_a_week(nanoseconds: int) -> None:
    assert seconds_to_ns(nanoseconds / NS) == nanoseconds


@given(st.floats(0, 1e290), st.floats(0, 1e290))
def test_order_is_kept(one: float, other: float) -> None:
    assert seconds_to_ns(min(one, other)) <= seconds_to_ns(max(one, other))


@pytest.mark.parametrize("seconds", [-1, -1e-12, math.inf, -math.inf, math.nan])
def test_a_time_that_is_negative_or_not_finite_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"in seconds; got {seconds!r}"):
        seconds_to_ns(seconds)


def test_a_finite_time_is_never_too_large() -> None:
    """What is refused is said: negative or not finite, nothing else."""
    assert seconds_to_ns(1e300) >= 10**308


def test_real_clocks_are_equal_so_that_machines_can_migrate_into_one_another() -> None:
    assert RealClock() == RealClock()
    assert len({RealClock(), RealClock()}) == 1


def test_now_is_whole_nanoseconds_and_never_goes_back() -> None:
    clock = RealClock()
    moments = [clock.now() for _ in range(100)]
    assert moments == sorted(moments)
    assert {type(moment) for moment in moments} == {int}


def test_sleep_sleeps_for_so_many_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("vmstate.clocks.clock.time.sleep", slept.append)
    RealClock().sleep(0.25)
    assert slept == [0.25]


def test_a_thread_is_a_daemon_with_its_name_and_can_be_joined() -> None:
    clock = RealClock()
    go_on = clock.event("go on")
    names: list[str] = []

    def work() -> None:
        go_on.wait(PATIENCE_S)
        names.append(threading.current_thread().name)

    thread = clock.start_thread(work, "worker of mine")
    assert thread.daemon
    assert clock.join(thread, 0) is False
    go_on.set()
    assert clock.join(thread, PATIENCE_S) is True
    assert names == ["worker of mine"]
    assert clock.join(thread) is True


def test_a_lock_has_no_owner_and_gives_up_waiting_after_its_time_out() -> None:
    lock = RealClock().lock("lock")
    assert lock.acquire()
    assert lock.acquire(blocking=False) is False
    assert lock.acquire(timeout=0) is False
    releaser = threading.Thread(target=lock.release, daemon=True)
    releaser.start()
    assert lock.acquire(timeout=PATIENCE_S)
    releaser.join(PATIENCE_S)


def test_an_event_is_a_flag_that_can_be_waited_for() -> None:
    event = RealClock().event("event", outside=True)
    assert not event.is_set()
    assert event.wait(0) is False
    event.set()
    assert event.is_set()
    assert event.wait(PATIENCE_S) is True
    event.clear()
    assert not event.is_set()


def test_taking_part_nests_and_lets_errors_pass() -> None:
    clock = RealClock()
    with pytest.raises(ValueError, match="inside"), clock.taking_part(), clock.taking_part():
        raise ValueError("inside")
