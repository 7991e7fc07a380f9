"""How a state-change thread comes about: one small interface, one file for each way."""

from collections.abc import Callable

from vfio_migration.changes.launchers.base import Launch, Launcher
from vfio_migration.changes.launchers.parked import ParkedLauncher
from vfio_migration.changes.launchers.per_change import PerChangeLauncher
from vmstate import Clock

DEFAULT_THREADS = "per-change"
_LAUNCHERS: dict[str, Callable[[Clock, str], Launcher]] = {
    "per-change": PerChangeLauncher,
    "parked": ParkedLauncher,
}
THREADS = tuple(_LAUNCHERS)


def make_launcher(threads: str, clock: Clock, device: str) -> Launcher:
    """
    Make the launcher of one device.

    Raises:
        ValueError: there is no such way.
        RuntimeError: the way keeps a thread, and the system refuses one.

    """
    if threads not in _LAUNCHERS:
        raise ValueError(f"threads must be one of {', '.join(map(repr, _LAUNCHERS))}; got {threads!r}")
    return _LAUNCHERS[threads](clock, device)


__all__ = ["DEFAULT_THREADS", "THREADS", "Launch", "Launcher", "ParkedLauncher", "PerChangeLauncher", "make_launcher"]
