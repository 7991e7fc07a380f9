"""A monitor for a machine of this process: what a real client would say to its QEMU, in virtual time too."""

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from vfio_migration.emulator.board import Board
from vfio_migration.emulator.commands.dispatch import Dispatcher
from vfio_migration.emulator.devices.adopted import AdoptedDevices
from vfio_migration.emulator.emulated import Emulated, Identity
from vfio_migration.emulator.migrating.descriptors import Descriptors
from vfio_migration.emulator.migrating.memory import Memory
from vfio_migration.emulator.migrating.migrations import Migrations
from vfio_migration.emulator.monitor.listener import Listener, listen_at
from vfio_migration.emulator.profile import Profile
from vfio_migration.live import Link, Ram
from vmstate import Machine


class MonitorServer:
    """
    Serves QMP for a machine on a Unix socket, for as long as the context lasts, or from `start` to `close`.

    The machine stays its owner's: he may start, stop and migrate it, and add and remove its devices, while clients do
    the same over the socket. What clients are told is computed from the machine each time. Both machines of a
    migration have a server of their own; a machine with a virtual clock migrates to one with the same clock by any uri
    (`unix:there`), which is a name in this process. `link` is what migrations go over, `profile` which QEMU this is
    (11.1.3 unless given), `takeover` as of `vfio_migration.Outgoing`.

    `quit` ends the serving, no more: the machine stays as it is, and `over` says that somebody has asked for that.

    Raises:
        QmpError: that path cannot be listened at; the text says why.

    """

    def __init__(
        self,
        machine: Machine,
        path: str | os.PathLike[str],
        *,
        link: Link | None = None,
        profile: Profile | None = None,
        on_quit: Callable[[], object] = lambda: None,
    ) -> None:
        self.machine = machine
        self.path = os.fspath(path)
        profile = profile if profile is not None else Profile.bundled()
        board = Board(profile, "none", memory=0)
        devices = AdoptedDevices(machine, board)
        ram = next((each for each in machine.migratables if isinstance(each, Ram)), None)
        size = 0 if ram is None else ram.size
        descriptors = Descriptors()
        migrations = Migrations(
            machine,
            memory=Memory(size, size),
            link=link,
            descriptors=descriptors,
            blockers=lambda: devices.blockers,
            expected=True,
            again=True,
        )
        migrations.exit_on_error = False  # of a process that is the client's own
        self._emulated = Emulated(
            machine,
            board,
            profile,
            devices,
            migrations,
            descriptors=descriptors,
            identity=Identity(name=machine.name, memory=size),
        )
        self._on_quit = on_quit
        self._emulated.when_over(self._end_soon)
        self._listener: Listener | None = None
        self._lock = threading.Lock()  # guards the next
        self._ending: threading.Thread | None = None

    @property
    def over(self) -> bool:
        """Whether a client has asked for the end (`quit`)."""
        return self._emulated.over

    def start(self) -> None:
        """Listen, and serve whoever connects."""
        sock = listen_at(self.path)
        dispatcher = Dispatcher(self._emulated)
        filename = f"unix:{self.path},server=on"
        self._listener = Listener(sock, dispatcher, "compat_monitor0", filename=filename, path=self.path)
        self._emulated.add_speaker(self._listener)
        self._listener.start()

    def close(self) -> None:
        """Leave all clients, and serve no more; a migration under way goes on. A second time does nothing."""
        if self._listener is not None:
            self._listener.close()
        with self._lock:
            ending = self._ending
        if ending is not None and ending is not threading.current_thread():
            ending.join()
        self._emulated.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end_soon(self) -> None:
        """End in a thread of its own: whoever asked for it has to hear the answer."""
        with self._lock:  # whoever closes finds none, or one that runs
            self._ending = threading.Thread(target=self._end, name=f"the end of {self.path}", daemon=True)
            self._ending.start()

    def _end(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._on_quit()
