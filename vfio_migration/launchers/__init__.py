"""How a state-change thread comes about: one small interface, one file for each way."""

from vfio_migration.launchers.base import Launch, Launcher
from vfio_migration.launchers.per_change import PerChangeLauncher
from vmstate import Clock

DEFAULT = "per-change"
_WAYS = {"per-change": PerChangeLauncher}


def make_launcher(threads: str, clock: Clock) -> Launcher:
    """
    Make the launcher of one device.

    Raises:
        ValueError: there is no such way.

    """
    if threads not in _WAYS:
        raise ValueError(f"threads must be one of {', '.join(map(repr, _WAYS))}; got {threads!r}")
    return _WAYS[threads](clock)


__all__ = ["DEFAULT", "Launch", "Launcher", "PerChangeLauncher", "make_launcher"]
