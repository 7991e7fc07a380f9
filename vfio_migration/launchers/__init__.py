"""How a state-change thread comes about: one small interface, one file for each way."""

from collections.abc import Callable

from vfio_migration.launchers.base import Launch, Launcher
from vfio_migration.launchers.parked import ParkedLauncher
from vfio_migration.launchers.per_change import PerChangeLauncher
from vmstate import Clock

DEFAULT = "per-change"
_WAYS: dict[str, Callable[[Clock, str], Launcher]] = {
    "per-change": PerChangeLauncher,
    "parked": ParkedLauncher,
}
WAYS = tuple(_WAYS)


def make_launcher(threads: str, clock: Clock, device: str) -> Launcher:
    """
    Make the launcher of one device.

    Raises:
        ValueError: there is no such way.
        RuntimeError: the way keeps a thread, and the system refuses one.

    """
    if threads not in _WAYS:
        raise ValueError(f"threads must be one of {', '.join(map(repr, _WAYS))}; got {threads!r}")
    return _WAYS[threads](clock, device)


__all__ = ["DEFAULT", "WAYS", "Launch", "Launcher", "ParkedLauncher", "PerChangeLauncher", "make_launcher"]
