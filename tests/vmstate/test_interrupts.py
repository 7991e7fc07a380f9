"""The one policy for Ctrl-C: what it holds back, for how long, and what it leaves as it was."""

# ruff: noqa: PT012 - what else runs in the block, and what does not, is the point

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from vmstate import (
    BigLock,
    Clock,
    RealClock,
    VirtualClock,
    heard,
    take_interrupt,
    tell_of_interrupts,
    uncut,
    uncut_between_waits,
)

pytestmark = pytest.mark.usefixtures("ctrl_c")


def press() -> None:
    """Send the signal to this thread, which is the main one, as the system does; it is handled before this returns."""
    assert threading.current_thread() is threading.main_thread()
    signal.raise_signal(signal.SIGINT)


def untouched() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_first_is_raised_at_the_end_of_what_must_not_be_cut() -> None:
    went_on = []
    with pytest.raises(KeyboardInterrupt), uncut:
        press()
        went_on.append(1)
    assert went_on == [1]
    assert untouched()


def test_the_second_is_raised_at_once_and_ends_the_policy() -> None:
    went_on = []
    with pytest.raises(KeyboardInterrupt), uncut, uncut:
        press()
        press()
        went_on.append(1)
    assert went_on == []
    assert untouched()
    with pytest.raises(KeyboardInterrupt), uncut:
        press()
        went_on.append(2)
    assert went_on == [2]


def test_it_is_held_back_until_the_outermost_that_must_not_be_cut_ends() -> None:
    order = []
    with uncut_between_waits, pytest.raises(KeyboardInterrupt):
        with uncut:
            with uncut:
                press()
            order.append("between")
        order.append("never")
    assert order == ["between"]
    assert untouched()


def test_where_only_waits_hear_it_is_raised_at_the_next_wait() -> None:
    order = []
    with uncut_between_waits:
        press()
        order.append("on")
        with pytest.raises(KeyboardInterrupt), heard:
            order.append("never")
        with heard:
            order.append("later")
    assert order == ["on", "later"]
    assert untouched()


def test_a_wait_hears_one_that_comes_while_it_waits() -> None:
    order = []
    with uncut_between_waits, pytest.raises(KeyboardInterrupt), heard:
        press()
        order.append("never")
    assert order == []


def test_a_wait_in_what_must_not_be_cut_hears_nothing() -> None:
    order = []
    with pytest.raises(KeyboardInterrupt), uncut, uncut_between_waits:
        with heard:
            press()
            order.append("on")
        heard.look()
        order.append("and on")
    assert order == ["on", "and on"]


def test_who_tells_of_it_in_another_way_takes_it() -> None:
    with uncut:
        assert not take_interrupt()
        press()
        assert take_interrupt()
        assert not take_interrupt()
    assert untouched()


def test_it_joins_a_group_and_has_other_errors_as_its_cause() -> None:
    with pytest.raises(BaseExceptionGroup) as group, uncut:
        press()
        raise ExceptionGroup("handlers", [ValueError()])
    assert [type(each) for each in group.value.exceptions] == [ValueError, KeyboardInterrupt]
    with pytest.raises(KeyboardInterrupt) as alone, uncut:
        press()
        raise ValueError
    assert isinstance(alone.value.__cause__, ValueError)
    with pytest.raises(SystemExit), uncut:
        press()
        raise SystemExit(3)


def test_another_handler_is_called_when_ctrl_c_would_have_been_raised() -> None:
    called: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: called.append(number))
    try:
        with uncut_between_waits:
            press()
            assert called == []
            with heard:
                assert called == [signal.SIGINT]
                press()
                assert called == [signal.SIGINT] * 2
            press()
        assert called == [signal.SIGINT] * 3
    finally:
        signal.signal(signal.SIGINT, before)


def test_somebody_is_told_at_each_first_one_that_is_not_raised_where_it_comes() -> None:
    told: list[int] = []
    tell_of_interrupts(lambda: told.append(len(told)))
    try:
        with pytest.raises(KeyboardInterrupt):
            press()
        assert told == []
        with pytest.raises(KeyboardInterrupt), uncut:
            press()
            assert told == [0]
            press()
        assert told == [0]
        with pytest.raises(KeyboardInterrupt), uncut_between_waits, heard:
            press()
        assert told == [0, 1]
    finally:
        tell_of_interrupts(lambda: None)


def test_one_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uncut:
            press()
            press()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_somebody_puts_in_its_place_meanwhile_is_left_there() -> None:
    def mine(number: int, frame: FrameType | None) -> None:
        """Do nothing."""

    before = signal.getsignal(signal.SIGINT)
    try:
        with uncut:
            signal.signal(signal.SIGINT, mine)
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_nothing_to_do_with_it() -> None:
    seen: list[Any] = []

    def other() -> None:
        with uncut, uncut_between_waits, heard:
            seen.append(signal.getsignal(signal.SIGINT))
        seen.append(take_interrupt())

    thread = threading.Thread(target=other)
    with uncut_between_waits:
        ours = signal.getsignal(signal.SIGINT)
        thread.start()
        thread.join()
        assert seen == [ours, False]
        with pytest.raises(KeyboardInterrupt), heard:
            press()


CLOCKS: list[Callable[[], Clock]] = [RealClock, VirtualClock]


@pytest.mark.parametrize("make", CLOCKS)
def test_whoever_holds_the_big_lock_is_not_cut_and_lets_go_of_it(make: Callable[[], Clock]) -> None:
    lock, order = BigLock(make()), []
    with pytest.raises(KeyboardInterrupt), lock:
        press()
        with lock:
            order.append("on")
        assert lock.held
    assert not lock.held
    assert order == ["on"]
    lock.clock.join(lock.clock.start_thread(lock.acquire, "another"))


@pytest.mark.parametrize("make", CLOCKS)
@pytest.mark.parametrize("wait", ["sleep", "event", "join"])
def test_waits_of_a_clock_are_ended_by_it_and_the_clock_goes_on(wait: str, make: Callable[[], Clock]) -> None:
    clock = make()
    never, pressed = clock.event("never", outside=True), threading.Event()
    ident = threading.main_thread().ident or 0

    def press_from_outside() -> None:
        clock.sleep(0.01)
        signal.pthread_kill(ident, signal.SIGINT)
        pressed.set()

    with clock.taking_part(), pytest.raises(KeyboardInterrupt):
        waiting = clock.start_thread(never.wait, "waits")
        clock.start_thread(press_from_outside, "presses")
        if wait == "sleep":
            clock.sleep(1000)
        elif wait == "event":
            never.wait()
        else:
            clock.join(waiting)
    assert pressed.wait(30)
    assert untouched()
    never.set()
    clock.sleep(0.001)
    clock.join(waiting)
    assert not waiting.is_alive()
