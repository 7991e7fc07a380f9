from collections.abc import Callable
from typing import Any

import pytest

from vfio_migration.recorded.timeline import build_timeline
from vfio_migration.testing import (
    MachineRig,
    PairRig,
    assert_disjoint,
    assert_order,
    assert_overlap,
    assert_switchover_under,
)


@pytest.fixture
def stopped(vm_machine: MachineRig) -> MachineRig:
    """Two devices and a handler at depth 1, a slow handler at depth 2, a plain one; the machine was stopped."""
    vm_machine.add_device("vf0", latency=0.1)
    vm_machine.add_device("vf1", latency=0.2)
    vm_machine.add_handler("disk", depth=1, seconds=0.05)
    vm_machine.add_handler("deep", depth=2, seconds=0.3, prepare=True)
    vm_machine.add_handler("plain")
    vm_machine.machine.stop()
    return vm_machine


@pytest.mark.parametrize(
    "what",
    [
        ("deep: main", "disk", "plain"),
        ("deep: prepare", "vf*: RUNNING -> RUNNING_P2P", "deep: main", "vf*: RUNNING_P2P -> STOP"),
        ("vf0: * -> RUNNING_P2P", "vf1: * -> STOP"),
    ],
)
def test_an_order_that_is_kept_is_no_failure(stopped: MachineRig, what: tuple[str, ...]) -> None:
    assert_order(stopped.recorder, *what)
    assert_order(stopped.timeline, *what, machine="vm")
    assert_order(stopped.recorder.events, *what)


@pytest.mark.parametrize(
    ("what", "out_of_order"),
    [
        (("disk", "deep: main"), ("deep: main", "disk: main")),
        (("vf0: * -> STOP", "vf1: * -> STOP"), ("vf1: RUNNING_P2P -> STOP", "vf0: RUNNING_P2P -> STOP")),
        (("deep", "disk", "vf0"), ("disk", "vf0: RUNNING -> RUNNING_P2P")),
        (("plain", "disk"), ("disk", "plain")),
    ],
)
def test_the_first_pair_out_of_order_is_named_and_drawn(
    stopped: MachineRig, what: tuple[str, ...], out_of_order: tuple[str, str]
) -> None:
    with pytest.raises(AssertionError, match="should have ended before") as caught:
        assert_order(stopped.recorder, *what)
    text = str(caught.value)
    assert all(each in text for each in out_of_order)
    assert "#" in text
    assert "|" in text


def test_what_overlaps_and_what_does_not(stopped: MachineRig) -> None:
    assert_overlap(stopped.recorder, "vf0", "vf1")
    assert_overlap(stopped.recorder, "disk", "vf*: RUNNING_P2P -> STOP")
    assert_disjoint(stopped.recorder, "deep", "vf*")
    with pytest.raises(AssertionError, match="never went on at the same time"):
        assert_overlap(stopped.recorder, "deep", "vf0")
    with pytest.raises(AssertionError, match="went on at the same time"):
        assert_disjoint(stopped.recorder, "vf0", "vf1")


@pytest.mark.parametrize(
    "check",
    [
        lambda recorder: assert_order(recorder, "nobody", "disk"),
        lambda recorder: assert_overlap(recorder, "disk", "nobody"),
        lambda recorder: assert_disjoint(recorder, "disk", "disk: prepare"),
        lambda recorder: assert_order(recorder, "disk", "deep", side="source"),
    ],
)
def test_what_was_never_recorded_is_an_error_that_names_what_was(
    stopped: MachineRig, check: Callable[[Any], None]
) -> None:
    with pytest.raises(ValueError, match="nothing recorded matches"):
        check(stopped.recorder)


def test_an_order_needs_two_things(stopped: MachineRig) -> None:
    with pytest.raises(ValueError, match="two things"):
        assert_order(stopped.recorder, "disk")


def test_things_that_take_no_time_have_an_order_too(vm_machine: MachineRig) -> None:
    for name, depth in (("first", 2), ("second", 1)):
        vm_machine.add_handler(name, depth=depth)
    vm_machine.machine.stop()
    assert_order(vm_machine.recorder, "first", "second")
    with pytest.raises(AssertionError, match="events"):
        assert_order(vm_machine.recorder, "second", "first")


def test_a_switchover_is_measured_on_report_recorder_and_timeline(vm_pair: PairRig) -> None:
    vm_pair.add_device("vf0", latency=0.01)
    report = vm_pair.migrate()
    for measured in (report, vm_pair.recorder, vm_pair.timeline):
        assert_switchover_under(measured, 0.0501)
        with pytest.raises(AssertionError, match=r"but took 0\.05 s"):
            assert_switchover_under(measured, 0.05)
    with pytest.raises(AssertionError, match="vf0: PRE_COPY -> PRE_COPY_P2P"):
        assert_switchover_under(vm_pair.recorder, 0.05)


def test_a_switchover_that_was_not_reached_is_not_short(vm_pair: PairRig) -> None:
    vm_pair.add_device("vf0", fail="RUNNING -> PRE_COPY")
    report = vm_pair.migrate()
    with pytest.raises(AssertionError, match="not reached: the migration is 'failed'"):
        assert_switchover_under(report, 1)
    with pytest.raises(AssertionError, match="no complete switchover"):
        assert_switchover_under(build_timeline([]), 1)
