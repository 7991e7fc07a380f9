"""The firmware of a machine without a guest: all that it does is to reset the machine once more (SeaBIOS on a PC)."""

import threading

from vmstate import Machine, MonitorEvent, RunState

_POST_S = 0.2  # that the firmware takes to have run, about
_SECOND_RESET_S = 0.12  # after which it resets the machine once more


class Firmware:
    """
    Watches a machine that runs for real.

    A PC's firmware that was reset after it has run finds traces of itself, and resets the machine harder; so whoever
    resets a machine that has been running hears of two resets. A reset during the first moments, or of a machine that
    does not run, is one. `_lock` guards since when the machine runs.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._running_since_ns: int | None = None
        machine.watch_run_state(self._note)
        machine.monitor.subscribe(self._hear)

    def _note(self, current: RunState, new: RunState) -> None:
        with self._lock:
            if new is not RunState.RUNNING:
                self._running_since_ns = None
            elif self._running_since_ns is None:
                self._running_since_ns = self._machine.clock.now()

    def _hear(self, event: MonitorEvent) -> None:
        if event.name != "RESET":
            return
        with self._lock:
            since, now = self._running_since_ns, self._machine.clock.now()
            has_run = since is not None and now - since >= _POST_S * 1e9
            self._running_since_ns = None if since is None else now
        if has_run and not event.data.get("guest"):
            self._machine.clock.start_thread(self._reset_again, "firmware")

    def _reset_again(self) -> None:
        machine = self._machine
        machine.clock.sleep(_SECOND_RESET_S)
        with machine.big_lock:
            if machine.run_state is RunState.RUNNING:
                machine.reset(guest=True)
