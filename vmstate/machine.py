"""A machine: its run state, its handlers under its big lock, and what migrates with it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from vmstate.big_lock import BigLock
from vmstate.callback_errors import CallbackErrors, fails_a_test
from vmstate.clocks import Clock, RealClock
from vmstate.errors import InvalidTransitionError, RegistrationError, StartRefusedError
from vmstate.handlers import Callback, HandlerEntry, HandlerList, PassKind
from vmstate.log import get_logger
from vmstate.migratable import Attempt, Migratable
from vmstate.monitor import Monitor, MonitorEvent
from vmstate.run_state import RunState, check_transition
from vmstate.trace import TraceEvent, TraceSink


class Machine:
    """
    A virtual machine as far as its run state and the handlers of its changes go.

    Handlers run in the thread that starts or stops the machine, under the big lock. The run state and all
    that migrates with the machine are guarded by the big lock; reading `run_state` needs none.

    `traced` says whether anybody takes trace events; where many things happen, ask before gathering an event's fields.
    """

    def __init__(
        self,
        name: str = "vm",
        *,
        run_state: RunState = RunState.PRELAUNCH,
        clock: Clock | None = None,
        trace: TraceSink | None = None,
    ) -> None:
        if isinstance(clock, type):
            raise TypeError(f"a machine needs a clock, not a class of clocks: give {clock.__name__}()")
        self.name = name
        self.clock: Clock = clock if clock is not None else RealClock()
        self.big_lock = BigLock(self.clock, name)
        self.handlers = HandlerList(self.big_lock)
        self.monitor = Monitor(name)
        self._trace = trace
        self.traced: Final = trace is not None
        if trace is not None:
            self.handlers.wrap_callbacks(self._traced)
        self._run_state = RunState(run_state)
        self._was_suspended = False
        self._autostart = True  # in `inmigrate`: whether to run once the migration is in
        self._resuming = False
        self._in_change = False  # guarded by the big lock
        self._attempt: Attempt | None = None
        # Replaced under the big lock and never changed, so that whoever reads it needs no lock: a dict that another
        # thread changes cannot be copied.
        self._migratables: dict[str, Migratable] = {}
        self._run_state_watchers: tuple[Callable[[RunState, RunState], object], ...] = ()
        self._raised = CallbackErrors()  # outside of migrations; raised by the change under way

    @property
    def run_state(self) -> RunState:
        """What the machine is doing."""
        return self._run_state

    @property
    def was_suspended(self) -> bool:
        """Whether the machine is `suspended`, or goes back to that when it is started."""
        return self._was_suspended or self._run_state is RunState.SUSPENDED

    @property
    def autostart(self) -> bool:
        """Whether a machine in `inmigrate` is to run once the migration is in."""
        return self._autostart

    @property
    def attempt(self) -> Attempt | None:
        """The migration that this machine is sending or receiving; none that only has its end to tell."""
        attempt = self._attempt
        return None if attempt is None or getattr(attempt, "over", False) else attempt

    @property
    def migratables(self) -> tuple[Migratable, ...]:
        """What migrates with this machine, in order of registration."""
        return tuple(self._migratables.values())

    def start(self) -> None:
        """
        Start the machine; nothing happens if it is live already (QEMU's `vm_start`, the monitor's `cont`).

        In `inmigrate` it is only noted that the machine is to run once the migration is in.

        Raises:
            StartRefusedError: it is in `finish-migrate`, `shutdown` or `internal-error`.
            InvalidTransitionError: QEMU knows no way from its run state to a live one.
            NestedNotificationError: called from a handler of this machine; nothing was changed.
            BigLockError: called from a state-change thread of this machine; nothing was changed.
            BaseExceptionGroup: what handlers raised; all were called, and the machine runs.

        """
        with self._changing("start"):
            if self._run_state is RunState.INMIGRATE:
                self._autostart = True
            elif not self._run_state.live and not self._resuming:
                reason = _START_REFUSED.get(self._run_state)
                if reason is not None:
                    raise StartRefusedError(
                        f"machine {self.name!r} cannot be started in run state '{self._run_state}': {reason}"
                    )
                self.resume()

    def stop(self, state: RunState = RunState.PAUSED) -> int:
        """
        Stop a live machine (QEMU's `vm_stop`); nothing happens, and the result is 0, if it is not live.

        In `inmigrate` it is only noted that the machine is to stay once the migration is in.

        Returns what `HandlerList.notify` returns.

        Raises:
            ValueError: `state` is a live state, or none at all.
            InvalidTransitionError: QEMU does not allow it to follow the machine's run state.
            NestedNotificationError: called from a handler of this machine; nothing was changed.
            BigLockError: called from a state-change thread of this machine; nothing was changed.
            BaseExceptionGroup: what handlers raised; all were called, and the machine is stopped.

        """
        return self._stop(RunState(state), announce=True)

    def shutdown(self) -> int:
        """Stop a live machine with `shutdown`, announcing no STOP (QEMU's `vm_shutdown`); raises as `stop`."""
        return self._stop(RunState.SHUTDOWN, announce=False)

    def set_run_state(self, state: RunState) -> None:
        """
        Set the run state and call no handler (QEMU's `runstate_set`); the current state is always allowed.

        Raises:
            InvalidTransitionError: QEMU does not allow this transition; nothing was changed.
            NestedNotificationError: called from a handler of this machine; nothing was changed.
            BigLockError: called from a state-change thread of this machine; nothing was changed.

        """
        with self._changing("set the run state of"):
            self._set(RunState(state))

    def prepare_incoming(self) -> None:
        """
        Wait for a migration: go to `inmigrate`, from a stopped state by way of `prelaunch`.

        Does nothing to a machine that is in `inmigrate` already, so a start or stop noted there stays noted.

        Raises:
            InvalidTransitionError: the machine is live, or in a state from which there is no way.

        """
        with self._changing("prepare for an incoming migration"):
            state = self._run_state
            if state is RunState.INMIGRATE:
                return
            if state.live:
                raise InvalidTransitionError(
                    f"machine {self.name!r} is '{state}' and cannot become the destination of a migration: "
                    "stop it first"
                )
            check_transition(state, RunState.PRELAUNCH, self.name)
            self._set(RunState.PRELAUNCH)
            self._set(RunState.INMIGRATE)
            self._autostart = True

    def watch_run_state(self, watcher: Callable[[RunState, RunState], object]) -> None:
        """Have `watcher(current, new)` called at each change of the run state, under the big lock; must not raise."""
        with self.big_lock:
            self._run_state_watchers = (*self._run_state_watchers, watcher)

    def register(self, migratable: Migratable, *, first: bool = False) -> None:
        """
        Have something migrate with this machine, after all that was registered before it; `first`: before them.

        Raises:
            RegistrationError: its id is empty or taken, or a migration is under way.

        """
        with self.big_lock:
            self._refuse_in_migration(f"registering {migratable.id!r}")
            if not migratable.id:
                raise RegistrationError(
                    f"machine {self.name!r}: what migrates needs an id, by which it is paired with its counterpart"
                )
            if migratable.id in self._migratables:
                raise RegistrationError(f"machine {self.name!r} has a {migratable.id!r} that migrates already")
            new = {migratable.id: migratable}
            # As QEMU saves memory first, by its priority.
            self._migratables = {**new, **self._migratables} if first else {**self._migratables, **new}

    def unregister(self, migratable: Migratable) -> None:
        """
        Take something out of what migrates; a second time does nothing.

        Raises:
            RegistrationError: a migration is under way.

        """
        with self.big_lock:
            if self._migratables.get(migratable.id) is migratable:
                self._refuse_in_migration(f"taking {migratable.id!r} away")
                self._migratables = {key: each for key, each in self._migratables.items() if each is not migratable}

    def guest_shutdown(self) -> int:
        """
        Have the guest shut down in a machine that is kept (`-no-shutdown`): SHUTDOWN, then STOP; raises as `stop`.

        Returns what `stop` returns (QEMU's `main_loop_should_exit` with `-no-shutdown`).
        """
        with self._changing("shut down"):
            self.announce("SHUTDOWN", guest=True, reason="guest-shutdown")
            return self._stop(RunState.SHUTDOWN, announce=True)

    def reset(self, *, guest: bool = False) -> None:
        """
        Reset the machine at once, whatever it is doing, and all that migrates with it (QEMU's `system_reset`).

        `guest`: it is the guest that has asked for it, which is all that is announced otherwise.

        No handler is called. `running`, `inmigrate` and `finish-migrate` stay; every other state becomes `prelaunch`.
        Too late, which is logged, and nothing happens, while a migration waits to hear whether its destination runs:
        the devices' states are what the source would go on with.

        Raises:
            NestedNotificationError: called from a handler of this machine; nothing was changed.
            BigLockError: called from a state-change thread of this machine; nothing was changed.

        """
        with self._changing("reset"):
            attempt = self.attempt
            if attempt is not None and attempt.out_of_hand:
                _log.warning("too late to reset: the destination may be running", machine=self.name)
                return
            first: BaseException | None = None
            for migratable in self.migratables:
                try:
                    migratable.reset()
                except BaseException as error:  # noqa: BLE001 - the others have to be reset all the same
                    first = first or error
            self.announce("RESET", guest=guest, reason="guest-reset" if guest else "host-qmp-system-reset")
            if self._run_state not in _KEPT_BY_RESET and self._run_state.may_become(RunState.PRELAUNCH):
                self._set(RunState.PRELAUNCH)
                self._was_suspended = False
            if first is not None:
                raise first

    # What a migration needs of its machines:

    def begin_attempt(self, attempt: Attempt) -> None:
        """
        Tie the machine to a migration.

        Raises:
            RegistrationError: it is tied to one already.

        """
        with self.big_lock:
            self._refuse_in_migration("migrating")
            self._attempt = attempt

    def end_attempt(self, attempt: Attempt) -> None:
        """Forget this migration, and its error with it; nothing happens if the machine is tied to another by now."""
        with self.big_lock:
            if self._attempt is attempt:
                self._attempt = None

    def force_stop(self, state: RunState) -> int:
        """Stop a live machine as `stop`, and set the state of any other; raises so (QEMU's `vm_stop_force_state`)."""
        self._refuse_live(state)
        with self._changing("stop"):
            if self._run_state.live:
                return self._stop(state, announce=True)
            self._set(state)
            return 0

    def resume(self) -> None:
        """Start the machine whoever asks, also out of a migration; raises as `start` otherwise."""
        with self._changing("start"):
            state = RunState.SUSPENDED if self._was_suspended else RunState.RUNNING
            check_transition(self._run_state, state, self.name)
            self._resuming = True  # a subscriber who starts the machine asks for what is happening already
            try:
                self.announce("RESUME")
            finally:
                self._resuming = False
            self._set(state)
            self._was_suspended = False
            self._notify(True, state)

    def adopt_suspension(self, was_suspended: bool) -> None:
        """Take over from the source of a migration whether the machine goes back to `suspended`."""
        with self.big_lock:
            self._was_suspended = was_suspended

    # What is announced:

    def announce(self, name: str, /, **data: Any) -> None:
        """Announce an event of QEMU's monitor to all who subscribed; underscores in keys become dashes."""
        fields = {key.replace("_", "-"): value for key, value in data.items()}
        for error in self.monitor.announce(MonitorEvent(name, fields, self.clock.now())):
            self._keep(error)

    def emit(self, name: str, /, **fields: Any) -> None:
        """Announce a trace event to the machine's sink, if it has one."""
        if self._trace is not None:
            thread = threading.current_thread().name
            event = TraceEvent(self.clock.now(), self.name, thread, name, fields)
            try:
                self._trace(event)
            except BaseException as error:  # noqa: BLE001 - a sink that fails must not fail the machine
                _log.error("trace sink failed", machine=self.name, traced=name, error=repr(error))
                self._keep(error)

    def _stop(self, state: RunState, *, announce: bool) -> int:
        self._refuse_live(state)
        with self._changing("stop"):
            if self._run_state is RunState.INMIGRATE and announce:
                self._autostart = False
            if not self._run_state.live:
                return 0
            check_transition(self._run_state, state, self.name)
            self._was_suspended = self._run_state is RunState.SUSPENDED
            self._set(state)
            try:
                return self._notify(False, state)
            finally:
                if announce:
                    self.announce("STOP")

    def _keep(self, error: BaseException) -> None:
        """Keep what a subscriber or a sink raised until what is under way has ended, which it cannot change."""
        attempt = self._attempt  # also of one that is over, and tells of it
        if attempt is not None:
            attempt.keep_error(error)
        elif fails_a_test(error):
            self._raised.keep(error)

    @contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        """Be inside the one guard of handlers, and raise at the end what callbacks raised meanwhile."""
        with self.handlers.changing(what):
            if self._in_change:
                yield
                return
            self._in_change = True
            try:
                yield
            except BaseException as failure:
                self._raised.add_to(failure)
                raise
            finally:
                self._in_change = False
            self._raised.raise_first()

    def _refuse_live(self, state: RunState) -> None:
        if state.live:
            raise ValueError(f"machine {self.name!r} cannot be stopped with the live state '{state}'")

    def _notify(self, running: bool, state: RunState) -> int:
        self.emit("vm_state_notify", running=int(running), reason=state.number, reason_str=str(state))
        return self.handlers.call_all(running, state)

    def _set(self, state: RunState) -> None:
        current = self._run_state
        check_transition(current, state, self.name)
        if state is not current:
            self.emit(
                "runstate_set",
                current_state=current.number,
                current_state_str=str(current),
                new_state=state.number,
                new_state_str=str(state),
            )
            for watcher in self._run_state_watchers:
                watcher(current, state)
            self._run_state = state

    def _refuse_in_migration(self, what: str) -> None:
        if self.attempt is not None:
            raise RegistrationError(
                f"machine {self.name!r} is being migrated: {what} has to wait until the migration is over"
            )

    def _traced(self, entry: HandlerEntry, kind: PassKind, callback: Callback) -> Callback:
        def traced(running: bool, state: RunState) -> None:
            fields = {"handler": entry.name, "priority": entry.priority, "kind": str(kind)}
            self.emit("handler_begin", **fields)
            try:
                callback(running, state)
            finally:
                self.emit("handler_end", **fields)

        return traced


_log = get_logger("vmstate.machine")

_KEPT_BY_RESET = (RunState.RUNNING, RunState.INMIGRATE, RunState.FINISH_MIGRATE)
_START_REFUSED = {
    RunState.FINISH_MIGRATE: "migration is not finalized yet; wait for its end, or cancel it",
    RunState.SHUTDOWN: "the guest has shut down; the machine has to be reset first",
    RunState.INTERNAL_ERROR: "the machine has met an internal error; it has to be reset first",
}
