"""A launch, and what a launcher has to do with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vmstate import BigLock


@dataclass(eq=False)
class Launch:
    """
    One piece of work for a thread: its token, which also carries back what went wrong.

    `error` is written by the thread that runs the work, and read after that thread was joined.
    """

    name: str
    work: Callable[[], None]
    big_lock: BigLock
    error: BaseException | None = None

    def run(self) -> None:
        """Do the work, barred from the big lock, whose holder waits for it."""
        with self.big_lock.barred():
            try:
                self.work()
            except BaseException as error:  # noqa: BLE001 - raised again where the thread is joined
                self.error = error


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
