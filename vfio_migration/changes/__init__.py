"""How a device's state is changed: set or recover, prepare and main, launch and join."""

from vfio_migration.changes.device_thread import DeviceThread, Job
from vfio_migration.changes.initial_acks import InitialAcks
from vfio_migration.changes.launch_and_join import StateChangeThread
from vfio_migration.changes.launchers import DEFAULT_THREADS, THREADS, make_launcher
from vfio_migration.changes.multifd import MultifdThreads, SavingStoppedError, Transferred
from vfio_migration.changes.packets import Packet, PacketKind, PacketQueue
from vfio_migration.changes.prepare_and_main import NAMES, StateChange
from vfio_migration.changes.set_or_recover import StaleChangeError, StateSetter
from vfio_migration.changes.watchdog import Watchdog

__all__ = [
    "DEFAULT_THREADS",
    "NAMES",
    "THREADS",
    "DeviceThread",
    "InitialAcks",
    "Job",
    "MultifdThreads",
    "Packet",
    "PacketKind",
    "PacketQueue",
    "SavingStoppedError",
    "StaleChangeError",
    "StateChange",
    "StateChangeThread",
    "StateSetter",
    "Transferred",
    "Watchdog",
    "make_launcher",
]
