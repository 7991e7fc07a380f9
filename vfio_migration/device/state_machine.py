"""
The state machine of a device that migrates: the kernel's side (uAPI `vfio_device_mig_state`).

The rules are those of the uAPI's description of `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` and of the
kernel's `vfio_mig_get_next_state`.
"""

from collections import deque
from enum import IntEnum, IntFlag
from functools import cache

from vfio_migration.errors import BlockedTransitionError


class DeviceState(IntEnum):
    """What a device is doing; the numbers are the uAPI's."""

    ERROR = 0
    STOP = 1
    RUNNING = 2
    STOP_COPY = 3
    RESUMING = 4
    RUNNING_P2P = 5
    PRE_COPY = 6
    PRE_COPY_P2P = 7

    @property
    def qapi(self) -> str:
        """QAPI's spelling, as in the event `VFIO_MIGRATION`."""
        return self.name.lower().replace("_", "-")


class MigrationFlags(IntFlag):
    """What a device can do (uAPI `VFIO_MIGRATION_*`). STOP_COPY goes without saying."""

    STOP_COPY = 1
    P2P = 2
    PRE_COPY = 4


ALL_FLAGS = MigrationFlags.STOP_COPY | MigrationFlags.P2P | MigrationFlags.PRE_COPY

_S = DeviceState
_NEEDS = {
    _S.RUNNING_P2P: MigrationFlags.P2P,
    _S.PRE_COPY: MigrationFlags.PRE_COPY,
    _S.PRE_COPY_P2P: MigrationFlags.P2P | MigrationFlags.PRE_COPY,
}
_ARCS = {
    _S.STOP: (_S.RUNNING_P2P, _S.STOP_COPY, _S.RESUMING),
    _S.RUNNING: (_S.RUNNING_P2P, _S.PRE_COPY),
    _S.STOP_COPY: (_S.STOP,),
    _S.RESUMING: (_S.STOP,),
    _S.RUNNING_P2P: (_S.RUNNING, _S.STOP, _S.PRE_COPY_P2P),
    _S.PRE_COPY: (_S.RUNNING, _S.PRE_COPY_P2P),
    _S.PRE_COPY_P2P: (_S.PRE_COPY, _S.RUNNING_P2P, _S.STOP_COPY),
}
SAVING = frozenset({_S.PRE_COPY, _S.PRE_COPY_P2P, _S.STOP_COPY})
_TRANSFERRING = SAVING | {_S.RESUMING}


def supported(state: DeviceState, flags: MigrationFlags) -> bool:
    """Whether a device with these features has this state."""
    needs = _NEEDS.get(state, MigrationFlags.STOP_COPY)
    return needs & (flags | MigrationFlags.STOP_COPY) == needs


def next_state(current: DeviceState, target: DeviceState, flags: MigrationFlags = ALL_FLAGS) -> DeviceState:
    """
    Give the state that the next arc leads to on the way to `target`; `current` if that is the target.

    Raises:
        BlockedTransitionError: EINVAL: a state that the device does not have, ERROR at either end, or no
            way. (uAPI: `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`; kernel: `vfio_mig_get_next_state`.)

    """
    path = transition_path(current, target, flags)
    return path[0] if path else DeviceState(current)


def transition_path(
    current: DeviceState, target: DeviceState, flags: MigrationFlags = ALL_FLAGS
) -> tuple[DeviceState, ...]:
    """
    Give the states that a device enters one after another on its way, the target last; none if it is there.

    Raises what `next_state` raises.
    """
    return _path(current, target, flags)  # called for every arc, so that all else is done once


def is_arc(current: DeviceState, target: DeviceState, flags: MigrationFlags = ALL_FLAGS) -> bool:
    """Whether a device with these features goes from the one state to the other in one step."""
    try:
        return len(transition_path(current, target, flags)) == 1
    except BlockedTransitionError:
        return False


@cache
def _path(current: DeviceState, target: DeviceState, flags: MigrationFlags) -> tuple[DeviceState, ...]:
    current, target, flags = DeviceState(current), DeviceState(target), MigrationFlags(flags)
    what = f"{current.name} to {target.name}"
    if DeviceState.ERROR in (current, target):
        raise BlockedTransitionError(f"{what}: only a reset leaves ERROR, and nothing may ask for it")
    for state in (current, target):
        if not supported(state, flags):
            raise BlockedTransitionError(f"{what}: {state.name} needs {_NEEDS[state]!r}, the device has {flags!r}")
    way = _shortest_way(current, target)
    if way is None:
        raise BlockedTransitionError(f"{what}: blocked; go to STOP first")
    return tuple(state for state in way if supported(state, flags))


def _shortest_way(current: DeviceState, target: DeviceState) -> tuple[DeviceState, ...] | None:
    """Search breadth first, never entering a state that transfers data on the way to another."""
    if current is _S.STOP_COPY and target in (_S.PRE_COPY, _S.PRE_COPY_P2P):
        return None  # what was pre-copied is stale once the device has stopped
    within_saving = current in SAVING and target in SAVING
    ways: deque[tuple[DeviceState, ...]] = deque([()])
    seen = {current}
    while ways:
        way = ways.popleft()
        place = way[-1] if way else current
        if place is target:
            return way
        if place is not current and place in _TRANSFERRING and not (within_saving and place in SAVING):
            continue
        for following in _ARCS[place]:
            if following not in seen:
                seen.add(following)
                ways.append((*way, following))
    return None
