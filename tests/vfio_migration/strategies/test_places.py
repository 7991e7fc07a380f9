"""Places: never more than there are, in the order of the line, and none is lost."""

import pytest

from vfio_migration.strategies import Place, Places
from vmstate import VirtualClock
from vmstate.exploring import explore


def test_whoever_lined_up_first_is_first_and_never_more_than_there_are() -> None:
    clock = VirtualClock()
    places = Places(clock, 2)
    log: list[tuple[str, int]] = []
    inside: list[str] = []
    most = 0

    def work(name: str, place: Place, seconds: float) -> None:
        nonlocal most
        assert place.wait()
        inside.append(name)
        most = max(most, len(inside))
        log.append((name, clock.now()))
        clock.sleep(seconds)
        inside.remove(name)
        place.give_back()

    with clock.taking_part():
        begin = clock.now()
        threads = []
        for name, seconds in (("a", 0.003), ("b", 0.005), ("c", 0.001), ("d", 0.001)):
            place = places.line_up(name)
            threads.append(clock.start_thread(lambda n=name, p=place, s=seconds: work(n, p, s), name))  # type: ignore[misc]
        for thread in threads:
            assert clock.join(thread)
    assert [(name, (when - begin) // 1_000_000) for name, when in log] == [("a", 0), ("b", 0), ("c", 3), ("d", 4)]
    assert most == 2


def test_what_is_given_back_counts_once() -> None:
    places = Places(VirtualClock(), 1)
    first, second, third = (places.line_up(name) for name in "abc")
    assert first.wait()
    first.give_back()
    first.give_back()
    assert second.held
    assert not third.held
    assert second.wait()
    second.give_back()
    assert third.held


def test_who_has_given_back_while_in_line_goes_on_and_is_told_so() -> None:
    places = Places(VirtualClock(), 1)
    first, second, third = (places.line_up(name) for name in "abc")
    second.give_back()
    assert not second.wait()
    first.give_back()
    assert third.held
    assert not second.held


def test_who_has_given_back_before_coming_is_told_so() -> None:
    places = Places(VirtualClock(), 1)
    place = places.line_up("a")
    place.give_back()
    assert not place.wait()
    assert places.line_up("b").held


def test_in_every_schedule_a_place_that_becomes_free_just_when_somebody_lines_up_is_given_once() -> None:
    def test(clock: VirtualClock) -> None:
        places = Places(clock, 1)
        first = places.line_up("first")
        thread = clock.start_thread(first.give_back, "first")
        second = places.line_up("second")
        assert second.wait()
        clock.join(thread)
        second.give_back()
        assert places.line_up("third").held

    exploration = explore(test, policy="exhaustive", schedules=400, preempt=(Places, Place))
    exploration.check()
    assert exploration.complete or exploration.schedules == 400


@pytest.mark.parametrize("policy", ["exhaustive", "random"])
def test_in_every_schedule_all_get_a_place_and_never_two_at_once(policy: str) -> None:
    """One of them is given up just when its thread comes, or waits, or works; it does not count any more then."""

    def test(clock: VirtualClock) -> None:
        places = Places(clock, 1)
        inside: list[int] = []
        seen: list[list[int]] = []

        def work(number: int, place: Place) -> None:
            if place.wait():
                if number != 1:
                    inside.append(number)
                    seen.append(list(inside))
                clock.sleep(0.001)
                if number != 1:
                    inside.remove(number)
            place.give_back()

        line = [places.line_up(str(number)) for number in range(3)]
        threads = [
            clock.start_thread(lambda n=number, p=place: work(n, p), str(number))  # type: ignore[misc]
            for number, place in enumerate(line)
        ]
        clock.sleep(0.001)
        line[1].give_back()
        for thread in threads:
            clock.join(thread)
        assert seen == [[0], [2]]
        assert places.line_up("again").held

    exploration = explore(test, policy=policy, schedules=100, preempt=(Places, Place))
    exploration.check()
    assert exploration.complete or exploration.schedules == 100
