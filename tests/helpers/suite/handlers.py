"""What the tests share: threads that cannot hang a test, a clock that says who waits, callbacks."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from vmstate import RealClock, RunState
from vmstate.clocks.clock import Event, Lock
from vmstate.handlers import Callback

PATIENCE_S = 10.0  # how long a wait may last before the test that waits fails

T = TypeVar("T")


class Task(Generic[T]):
    """A function that runs in a thread of its own from now on."""

    def __init__(self, target: Callable[[], T]) -> None:
        self._target = target
        self._values: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> T:
        """Wait for the function's end; return what it returned, or raise what it raised."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "a thread that should have ended still runs"
        if self._error is not None:
            raise self._error
        return self._values[0]

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._values.append(self._target())
        except BaseException as error:  # noqa: BLE001 - raised by result()
            self._error = error


def elsewhere(action: Callable[[], object]) -> Callable[[], object]:
    """The same action, done in another thread, which is waited for."""
    return lambda: Task(action).result()


def directly(action: Callable[[], object]) -> Callable[[], object]:
    return action


def wait_for(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S), "nobody raised the event"


class SpyClock(RealClock):
    """The real clock, which tells who has to wait for what; no wait in it outlasts the test's patience."""

    def __init__(self) -> None:
        self._waits: queue.Queue[str] = queue.Queue()

    def lock(self, name: str, *, idle: bool = False) -> Lock:
        return _SpyLock(name, self._waits)

    def event(self, name: str, *, outside: bool = False) -> Event:
        return _SpyEvent(name, self._waits)

    def until_somebody_waits_for(self, name: str) -> None:
        while self._waits.get(timeout=PATIENCE_S) != name:
            pass


class _SpyLock:
    def __init__(self, name: str, waits: "queue.Queue[str]") -> None:
        self._name = name
        self._waits = waits
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._lock.acquire(blocking=False):
            self._waits.put(self._name)
            assert self._lock.acquire(timeout=PATIENCE_S), f"nobody gave up the {self._name}"
        return True

    def release(self) -> None:
        self._lock.release()


class _SpyEvent(threading.Event):
    def __init__(self, name: str, waits: "queue.Queue[str]") -> None:
        super().__init__()
        self._name = name
        self._waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._waits.put(self._name)
        assert super().wait(PATIENCE_S), f"waited in vain for {self._name}"
        return True


def noting(log: list[str], text: str, *actions: Callable[[], object]) -> Callback:
    """A callback that notes that it was called, then does something."""

    def callback(running: bool, state: RunState) -> None:
        log.append(text)
        for action in actions:
            action()

    return callback


def returning(result: int) -> Callable[[bool, RunState], int]:
    """A cb_ret that returns this."""
    return lambda _running, _state: result


def raising(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


def ignore(running: bool, state: RunState) -> None:
    """A callback that does nothing."""


def kinds(errors: Sequence[BaseException]) -> list[type[BaseException]]:
    return [type(error) for error in errors]
