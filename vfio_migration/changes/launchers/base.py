"""A launch, and what a launcher has to do with it."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from vmstate import BigLock


@dataclass(eq=False, slots=True)
class Launch:
    """
    One piece of work for a thread, `work(*arguments)`: its token, which also carries back what went wrong.

    The work is done once, by whoever calls `run` first. `error` is written by that thread, and read after
    `ended`, which is true once all is done.
    """

    name: str
    big_lock: BigLock | None  # whose holder waits for it
    work: Callable[..., None]
    arguments: tuple[object, ...] = ()
    error: BaseException | None = None
    ended: bool = False
    _claim: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Do the work, barred from a big lock whose holder waits for it; nothing if somebody has begun it."""
        if not self._claim.acquire(blocking=False):
            return
        try:
            with nullcontext() if self.big_lock is None else self.big_lock.barred():
                self.work(*self.arguments)
        except BaseException as error:  # noqa: BLE001 - raised again where the thread is joined
            self.error = error
        finally:
            self.ended = True


class Launcher(Protocol):
    """Runs one launch at a time in a thread."""

    def start(self, launch: Launch) -> None:
        """
        Have `launch.run` called in a thread of the launch's name.

        Raises:
            RuntimeError: no thread can be had.

        """
        ...

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the launch that was started last has run; False if that took more than `timeout` seconds."""
        ...

    def abandon(self) -> None:
        """Forget the launch that was started last: its thread is nobody's any more."""
        ...

    def close(self) -> None:
        """Let go of the thread, if one is kept."""
        ...
