"""What a monitor's commands act on: one machine with its board, its devices and its migrations."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from vfio_migration.emulator.board import Board
from vfio_migration.emulator.devices.devices import Devices
from vfio_migration.emulator.migrating.descriptors import Descriptors
from vfio_migration.emulator.migrating.migrations import Migrations
from vfio_migration.emulator.profile import Profile
from vmstate import Machine, MonitorEvent, RealClock, RunState

# What is done when a guest reboots, is shut down, ... (QEMU's `-action`), unless it is told otherwise.
USUAL_ACTIONS: Mapping[str, str] = MappingProxyType(
    {"reboot": "reset", "shutdown": "poweroff", "panic": "shutdown", "watchdog": "reset"}
)
_RESET = "host-qmp-system-reset"
_ONLY_IF_ASKED = ("MIGRATION", "MIGRATION_PASS")  # for, by the capability `events`


class Speaker(Protocol):
    """Something that tells clients of events, and shows up in `query-chardev`."""

    label: str

    @property
    def filename(self) -> str:
        """What it is called."""
        ...

    @property
    def connected(self) -> bool:
        """Whether there is a client."""
        ...

    def announce(self, event: MonitorEvent) -> None:
        """Tell the client of an event."""
        ...

    def disconnect(self) -> None:
        """Leave the client."""
        ...


@dataclass(frozen=True)
class Identity:
    """What a machine is called, and what its command line said that nothing here depends on."""

    name: str | None = None
    uuid: str = "00000000-0000-0000-0000-000000000000"
    cpus: int = 1
    cores: int = 1  # of a socket
    threads: int = 1  # of a core
    cpu_type: str = "qemu64-x86_64-cpu"
    accelerator: str = "tcg"
    memory: int = 128 * 1024 * 1024
    memory_backend: str = ""  # that the machine's memory comes from
    thread_ids: Sequence[int] = ()


@dataclass
class Backends:
    """What devices are connected to behind the scenes: kept by id, and shown, no more."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    blockdevs: dict[str, dict[str, Any]] = field(default_factory=dict)
    netdevs: dict[str, dict[str, Any]] = field(default_factory=dict)
    chardevs: dict[str, dict[str, Any]] = field(default_factory=dict)


class Emulated:
    """
    A machine as its monitor sees it.

    `preconfig` is on until the machine is made (`x-exit-preconfig`). The big lock guards all that is not said to be
    otherwise; `_lock` guards the speakers and whether it is over.
    """

    def __init__(
        self,
        machine: Machine,
        board: Board,
        profile: Profile,
        devices: Devices,
        migrations: Migrations,
        *,
        descriptors: Descriptors,
        identity: Identity,
        backends: Backends | None = None,
    ) -> None:
        self.machine = machine
        self._board = board
        self.profile = profile
        self.devices = devices
        self.migrations = migrations
        self.descriptors = descriptors
        self.identity = identity
        self.backends = backends if backends is not None else Backends()
        self.preconfig = False
        self.traced: set[str] = set()  # events that a client has switched on
        self.leave_preconfig: Callable[[], object] = lambda: None
        self.actions: dict[str, str] = dict(USUAL_ACTIONS)
        self.epoch_ns = time.time_ns() - machine.clock.now() if isinstance(machine.clock, RealClock) else 0
        self._lock = threading.Lock()
        self._speakers: list[Speaker] = []
        self._over = threading.Event()
        self._on_end: Callable[[], object] = lambda: None
        self._subscription = machine.monitor.subscribe(self._announce)

    @property
    def board(self) -> Board:
        """The board, as the machine's devices are now."""
        self.devices.refresh()
        return self._board

    @property
    def speakers(self) -> list[Speaker]:
        """All monitors."""
        with self._lock:
            return self._speakers.copy()

    def add_speaker(self, speaker: Speaker) -> None:
        """Have another monitor hear of events."""
        with self._lock:
            self._speakers.append(speaker)

    @property
    def over(self) -> bool:
        """Whether somebody has asked for the end."""
        return self._over.is_set()

    def when_over(self, callback: Callable[[], object]) -> None:
        """Have a callback called when the end is asked for, in the thread that does."""
        self._on_end = callback

    def end(self, reason: str) -> None:
        """Ask for the end, once: SHUTDOWN is announced, and what is under way is cancelled."""
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
        self.machine.announce("SHUTDOWN", guest=False, reason=reason)
        self.migrations.close()
        self._on_end()

    @property
    def resets(self) -> bool:
        """Whether a machine that is told to reset does that, and no other thing (`set-action`)."""
        return self.actions["reboot"] == "reset"

    def reset(self) -> None:
        """
        Reset the machine, or do what is to be done instead.

        Under the big lock. What handlers raise is raised.
        """
        if self.resets:
            self.machine.reset()
        elif self.actions["shutdown"] == "poweroff":
            self.end(_RESET)
        else:
            self.machine.announce("SHUTDOWN", guest=False, reason=_RESET)
            if self.machine.run_state.live:
                self.machine.stop(RunState.SHUTDOWN)

    def close(self) -> None:
        """Hear of nothing any more, and let go of what clients have left here."""
        self._subscription.cancel()
        self.migrations.forget()
        self.descriptors.close_all()

    def announce(self, name: str, data: Mapping[str, Any] | None = None) -> None:
        """Announce an event that is none of the machine's own."""
        self._announce(MonitorEvent(name, data or {}, self.machine.clock.now()))

    def _announce(self, event: MonitorEvent) -> None:
        if event.name in _ONLY_IF_ASKED and not self.migrations.capabilities["events"]:
            return
        for speaker in self.speakers:
            speaker.announce(event)
