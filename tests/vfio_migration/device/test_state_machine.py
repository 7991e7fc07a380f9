import errno
from itertools import product

import pytest
from suite.machines import ARCS, FEATURES, S

from vfio_migration import BlockedTransitionError, DeviceState, MigrationFlags, next_state, transition_path
from vfio_migration.device.state_machine import ALL_FLAGS

# The next state on the way from a row's state to a column's, with all features (S3, S4), written by hand; "-": EINVAL.
_TABLE = """
              ERROR  STOP         RUNNING      STOP_COPY     RESUMING     RUNNING_P2P  PRE_COPY     PRE_COPY_P2P
ERROR         -      -            -            -             -            -            -            -
STOP          -      STOP         RUNNING_P2P  STOP_COPY     RESUMING     RUNNING_P2P  RUNNING_P2P  RUNNING_P2P
RUNNING       -      RUNNING_P2P  RUNNING      RUNNING_P2P   RUNNING_P2P  RUNNING_P2P  PRE_COPY     RUNNING_P2P
STOP_COPY     -      STOP         STOP         STOP_COPY     STOP         STOP         -            -
RESUMING      -      STOP         STOP         STOP          RESUMING     STOP         STOP         STOP
RUNNING_P2P   -      STOP         RUNNING      STOP          STOP         RUNNING_P2P  RUNNING      PRE_COPY_P2P
PRE_COPY      -      RUNNING      RUNNING      PRE_COPY_P2P  RUNNING      RUNNING      PRE_COPY     PRE_COPY_P2P
PRE_COPY_P2P  -      RUNNING_P2P  RUNNING_P2P  STOP_COPY     RUNNING_P2P  RUNNING_P2P  PRE_COPY     PRE_COPY_P2P
"""
_COLUMNS, *_ROWS = (line.split() for line in _TABLE.strip().splitlines())
_NEXT = {
    (DeviceState[row[0]], DeviceState[column]): None if cell == "-" else DeviceState[cell]
    for row in _ROWS
    for column, cell in zip(_COLUMNS, row[1:], strict=True)
}
_NEEDS = {S.RUNNING_P2P: {"P2P"}, S.PRE_COPY: {"PRE_COPY"}, S.PRE_COPY_P2P: {"P2P", "PRE_COPY"}}


def has(flags: MigrationFlags, state: DeviceState) -> bool:
    features = {"P2P"} if flags & 2 else set()
    return _NEEDS.get(state, set()) <= features | ({"PRE_COPY"} if flags & 4 else set())


def expected(current: DeviceState, target: DeviceState, flags: MigrationFlags) -> DeviceState | None:
    """What the kernel answers: look it up, and look further while the answer is a state that the device lacks."""
    if not (has(flags, current) and has(flags, target)):
        return None
    following = _NEXT[current, target]
    while following is not None and not has(flags, following):
        following = _NEXT[following, target]
    return following


CASES = [
    pytest.param(*case, id=f"{case[0].name}-{case[1].name}-{int(case[2])}")
    for case in product(DeviceState, DeviceState, FEATURES)
]


def test_the_cases_are_all_256() -> None:
    assert len(CASES) == 256
    assert len(_NEXT) == 64


@pytest.mark.parametrize(("current", "target", "flags"), CASES)
def test_next_state_answers_as_the_kernel(current: DeviceState, target: DeviceState, flags: MigrationFlags) -> None:
    following = expected(current, target, flags)
    if following is not None:
        assert next_state(current, target, flags) is following
        return
    for ask in (next_state, transition_path):  # S6: EINVAL, never a loop
        with pytest.raises(BlockedTransitionError) as caught:
            ask(current, target, flags)
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(("current", "target", "flags"), CASES)
def test_walking_next_state_reaches_the_target_along_the_path(
    current: DeviceState, target: DeviceState, flags: MigrationFlags
) -> None:
    if expected(current, target, flags) is None:
        with pytest.raises(BlockedTransitionError):
            transition_path(current, target, flags)
        return
    path = transition_path(current, target, flags)
    place = current
    for entered in path:
        place = next_state(place, target, flags)
        assert place is entered
    assert place is target
    assert len(set(path)) == len(path) <= 4
    assert current not in path


def test_with_all_features_every_step_is_an_arc() -> None:
    steps = set()
    for current, target in product(DeviceState, DeviceState):
        if expected(current, target, ALL_FLAGS) is not None:
            path = transition_path(current, target)
            steps |= set(zip((current, *path), path, strict=False))
    assert steps == ARCS


def test_the_way_to_a_blocked_state_is_to_go_to_stop_first() -> None:
    for target in (S.PRE_COPY, S.PRE_COPY_P2P):
        with pytest.raises(BlockedTransitionError, match="STOP"):
            next_state(S.STOP_COPY, target)
        assert transition_path(S.STOP, target)[-1] is target


def test_plain_numbers_are_taken_for_states_and_flags() -> None:
    path = transition_path(2, 3, 7)  # type: ignore[arg-type]
    assert path == (S.RUNNING_P2P, S.STOP, S.STOP_COPY)
    assert all(isinstance(state, DeviceState) for state in path)


def test_stop_copy_goes_without_saying() -> None:
    assert next_state(S.STOP, S.STOP_COPY, MigrationFlags(0)) is S.STOP_COPY


def test_numbers_and_spellings_are_the_uapi_s_and_qapi_s() -> None:
    assert {state.name: (int(state), state.qapi) for state in DeviceState} == {
        "ERROR": (0, "error"),
        "STOP": (1, "stop"),
        "RUNNING": (2, "running"),
        "STOP_COPY": (3, "stop-copy"),
        "RESUMING": (4, "resuming"),
        "RUNNING_P2P": (5, "running-p2p"),
        "PRE_COPY": (6, "pre-copy"),
        "PRE_COPY_P2P": (7, "pre-copy-p2p"),
    }
    assert {flag.name: int(flag) for flag in MigrationFlags} == {"STOP_COPY": 1, "P2P": 2, "PRE_COPY": 4}
