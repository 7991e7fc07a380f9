"""Run states of a machine and the transitions between them that QEMU allows."""

from enum import StrEnum

from vmstate.errors import InvalidTransitionError


class RunState(StrEnum):
    """What the machine is doing, in QAPI's spelling and order (QAPI `RunState`)."""

    DEBUG = "debug"
    INMIGRATE = "inmigrate"
    INTERNAL_ERROR = "internal-error"
    IO_ERROR = "io-error"
    PAUSED = "paused"
    POSTMIGRATE = "postmigrate"
    PRELAUNCH = "prelaunch"
    FINISH_MIGRATE = "finish-migrate"
    RESTORE_VM = "restore-vm"
    RUNNING = "running"
    SAVE_VM = "save-vm"
    SHUTDOWN = "shutdown"
    SUSPENDED = "suspended"
    WATCHDOG = "watchdog"
    GUEST_PANICKED = "guest-panicked"
    COLO = "colo"

    @property
    def live(self) -> bool:
        """Whether the machine counts as started (QEMU's `runstate_is_live`)."""
        return self in _LIVE

    @property
    def number(self) -> int:
        """The number that QEMU's trace logs print for this state."""
        return _NUMBERS[self]

    def may_become(self, new: "RunState") -> bool:
        """Whether QEMU allows this state to be followed by `new`; the same state always is."""
        return new is self or new in _TRANSITIONS[self]


def check_transition(current: RunState, new: RunState, machine: str) -> None:
    """
    Raise unless a machine may go from one state to the other (QEMU's `runstate_set`, which aborts).

    Raises:
        InvalidTransitionError: it may not; the message names both states and what is allowed.

    """
    if not current.may_become(new):
        allowed = ", ".join(sorted(_TRANSITIONS[current]))
        raise InvalidTransitionError(
            f"machine {machine!r} cannot go from run state '{current}' to '{new}': "
            f"from '{current}' QEMU allows {allowed}"
        )


_R = RunState
_LIVE = frozenset({_R.RUNNING, _R.SUSPENDED})
_NUMBERS = {state: number for number, state in enumerate(RunState)}

_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    _R.DEBUG: frozenset({_R.FINISH_MIGRATE, _R.PRELAUNCH, _R.RUNNING, _R.SUSPENDED}),
    _R.INMIGRATE: frozenset(
        {
            _R.COLO,
            _R.FINISH_MIGRATE,
            _R.GUEST_PANICKED,
            _R.INTERNAL_ERROR,
            _R.IO_ERROR,
            _R.PAUSED,
            _R.POSTMIGRATE,
            _R.PRELAUNCH,
            _R.RUNNING,
            _R.SHUTDOWN,
            _R.SUSPENDED,
            _R.WATCHDOG,
        }
    ),
    _R.INTERNAL_ERROR: frozenset({_R.FINISH_MIGRATE, _R.PAUSED, _R.PRELAUNCH}),
    _R.IO_ERROR: frozenset({_R.FINISH_MIGRATE, _R.PRELAUNCH, _R.RUNNING}),
    _R.PAUSED: frozenset({_R.COLO, _R.FINISH_MIGRATE, _R.POSTMIGRATE, _R.PRELAUNCH, _R.RUNNING, _R.SUSPENDED}),
    _R.POSTMIGRATE: frozenset({_R.FINISH_MIGRATE, _R.PRELAUNCH, _R.RUNNING}),
    _R.PRELAUNCH: frozenset({_R.FINISH_MIGRATE, _R.INMIGRATE, _R.RUNNING, _R.SUSPENDED}),
    _R.FINISH_MIGRATE: frozenset(
        {
            _R.COLO,
            _R.GUEST_PANICKED,
            _R.INTERNAL_ERROR,
            _R.IO_ERROR,
            _R.PAUSED,
            _R.POSTMIGRATE,
            _R.PRELAUNCH,
            _R.RUNNING,
            _R.SHUTDOWN,
            _R.SUSPENDED,
            _R.WATCHDOG,
        }
    ),
    _R.RESTORE_VM: frozenset({_R.PRELAUNCH, _R.RUNNING, _R.SUSPENDED}),
    _R.RUNNING: frozenset(
        {
            _R.COLO,
            _R.DEBUG,
            _R.FINISH_MIGRATE,
            _R.GUEST_PANICKED,
            _R.INTERNAL_ERROR,
            _R.IO_ERROR,
            _R.PAUSED,
            _R.RESTORE_VM,
            _R.SAVE_VM,
            _R.SHUTDOWN,
            _R.SUSPENDED,
            _R.WATCHDOG,
        }
    ),
    _R.SAVE_VM: frozenset({_R.RUNNING, _R.SUSPENDED}),
    _R.SHUTDOWN: frozenset({_R.COLO, _R.FINISH_MIGRATE, _R.PAUSED, _R.PRELAUNCH}),
    _R.SUSPENDED: frozenset(
        {
            _R.COLO,
            _R.FINISH_MIGRATE,
            _R.PAUSED,
            _R.PRELAUNCH,
            _R.RESTORE_VM,
            _R.RUNNING,
            _R.SAVE_VM,
            _R.SHUTDOWN,
        }
    ),
    _R.WATCHDOG: frozenset({_R.COLO, _R.FINISH_MIGRATE, _R.PRELAUNCH, _R.RUNNING}),
    _R.GUEST_PANICKED: frozenset({_R.FINISH_MIGRATE, _R.PRELAUNCH, _R.RUNNING}),
    _R.COLO: frozenset({_R.PRELAUNCH, _R.RUNNING, _R.SHUTDOWN}),
}
