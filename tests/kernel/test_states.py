"""S1 to S6 held against the kernel's own state machine: all pairs of states, every step between them."""

import errno
from collections.abc import Callable

import pytest
from suite.mtty import STATES, S, bring, kernel_steps, name_of, refused, saved

from vfio_migration import ALL_FLAGS, DeviceState, transition_path
from vfio_migration.errors import BlockedTransitionError
from vfio_migration.kernel import KernelDevice
from vfio_migration.testing import check_backend

Opening = Callable[..., KernelDevice]
SESSIONS = (S.PRE_COPY, S.PRE_COPY_P2P, S.STOP_COPY)
PAIRS = [(current, target) for current in STATES for target in DeviceState]


def expected(current: DeviceState, target: DeviceState) -> tuple[DeviceState, ...] | None:
    """The path that the design says; None: refused."""
    try:
        return transition_path(current, target)
    except BlockedTransitionError:
        return None


def brought(device: KernelDevice, state: DeviceState, content: bytes) -> None:
    bring(device, state)
    if state is S.RESUMING:
        device.write(content)


def test_the_device_has_all_features(opened: Opening) -> None:
    assert opened().flags == ALL_FLAGS


def test_all_pairs_take_the_kernel_the_way_that_the_design_says(opened: Opening) -> None:
    device = opened()
    content = saved(device)
    differ = []
    with kernel_steps() as steps:
        for current, target in PAIRS:
            brought(device, current, content)
            steps()
            path = expected(current, target)
            try:
                device.set_arc(target)
            except OSError as error:
                went: object = name_of(error.errno)
            else:
                went = (*(at for at, _ in steps()[1:]), device.state) if target is not current else ()
            if went != ("EINVAL" if path is None else path):
                differ.append(f"{current.name} to {target.name}: the kernel {went}, the design {path}")
    assert differ == []
    assert len(PAIRS) == 56


@pytest.mark.parametrize("current", STATES)
def test_each_step_of_each_way_arrives_with_a_descriptor_where_the_design_says(
    current: DeviceState, opened: Opening
) -> None:
    device = opened()
    content = saved(device)
    for target in DeviceState:
        brought(device, current, content)
        at = current
        for step in expected(current, target) or ():
            session = device._session
            device.set_arc(step)
            assert device.state is step
            begins = step is S.RESUMING or (step in SESSIONS and at not in SESSIONS)
            goes_on = step in SESSIONS and at in SESSIONS
            assert (device._session is not None) == (begins or goes_on), f"{at.name} to {step.name}"
            assert (device._session is session) == (goes_on or (session is None and not begins))
            at = step


def test_what_is_refused_changes_nothing(opened: Opening) -> None:
    device = opened()
    content = saved(device)
    blocked = [(current, target) for current, target in PAIRS if expected(current, target) is None]
    assert (S.STOP_COPY, S.PRE_COPY) in blocked
    assert (S.RUNNING, S.ERROR) in blocked
    for current, target in blocked:
        brought(device, current, content)
        session = device._session
        error = refused(lambda target=target: device.set_arc(target))  # type: ignore[misc]
        assert error.errno == errno.EINVAL
        assert (device.state, device._session) == (current, session)


@pytest.mark.parametrize("current", STATES)
def test_a_reset_leads_to_running_from_everywhere(current: DeviceState, opened: Opening) -> None:
    device = opened()
    bring(device, current)
    device.reset()
    assert device.state is S.RUNNING
    assert device._session is None


def test_it_is_a_backend(opened: Opening) -> None:
    check_backend(opened)


def test_pre_copy_says_what_it_has_and_comes_to_a_temporary_end(opened: Opening) -> None:
    device = opened()
    bring(device, S.PRE_COPY)
    first = device.pending()
    assert first == device.initial_pending() > 0
    assert len(device.read(1 << 20)) == first
    assert device.pending() == 0
    assert device.read(1 << 20) == b""  # for now
    device.set_arc(S.PRE_COPY_P2P)
    assert device.pending() == 0
    device.set_arc(S.STOP_COPY)
    assert device.pending() == 0  # the kernel says EINVAL: there is no pre-copy any more
    rest = 0
    while piece := device.read(10):
        rest += len(piece)
    assert rest > 0
    device.reset()
    assert device.stop_size() == first + rest == len(saved(device))
