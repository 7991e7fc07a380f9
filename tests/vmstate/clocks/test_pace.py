"""Waits that follow one another take what they take together."""

from dataclasses import dataclass, field

from vmstate import RealClock, VirtualClock, begin_ns, wait_until

MS = 1_000_000


@dataclass(frozen=True)
class Late(RealClock):
    """A real clock by which everybody wakes up 0.2 ms late."""

    moment: list[int] = field(default_factory=lambda: [10**12])

    def now(self) -> int:
        """Give the time, which passes only where somebody sleeps."""
        return self.moment[0]

    def sleep(self, seconds: float) -> None:
        """Sleep too long."""
        self.moment[0] += round(seconds * 1e9) + MS // 5


def test_a_thousand_waits_are_as_long_as_one() -> None:
    clock = Late()
    clock.sleep(1.0)  # whatever this thread waited for before is long over
    began = clock.now()
    for _ in range(1000):
        wait_until(clock, begin_ns(clock) + MS)
    assert clock.now() - began == 1000 * MS + MS // 5


def test_after_more_than_a_moment_a_wait_begins_when_it_does() -> None:
    clock = Late()
    wait_until(clock, clock.now() + MS)
    clock.moment[0] += 2 * MS
    assert begin_ns(clock) == clock.now()


def test_a_moment_that_is_past_is_not_waited_for() -> None:
    clock = Late()
    before = clock.now()
    wait_until(clock, before - MS)
    assert clock.now() == before


def test_in_virtual_time_nothing_is_late() -> None:
    clock = VirtualClock()
    with clock.taking_part():
        wait_until(clock, 5 * MS)
        assert begin_ns(clock) == clock.now() == 5 * MS
