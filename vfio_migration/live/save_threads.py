"""The source's save threads: devices that are saved beside each other and beside memory's last part."""

from functools import partial
from types import TracebackType
from typing import Self

from vfio_migration.changes import SavingStoppedError
from vfio_migration.live.channel_pool import ChannelPool
from vfio_migration.live.control import Control
from vfio_migration.live.stream import StreamWriter
from vfio_migration.registered import VFIOMigration
from vmstate import Machine


class SaveThreads:
    """
    A context in which devices are saved by threads of their own; does nothing where there are no channels.

    Guarantees:
    - All threads are joined when the context is left, however that is, but for those that a watchdog gave up.
    - The first that fails stops the others where they come by next, and fails the migration.

    Used with the big lock held; the threads are barred from it.
    """

    def __init__(self, machine: Machine, writer: StreamWriter, pool: ChannelPool | None, control: Control) -> None:
        self._machine = machine
        self._writer = writer
        self._pool = pool
        self._control = control
        self._launched: list[VFIOMigration] = []

    def __enter__(self) -> Self:
        if self._pool is None:
            return self
        devices = {
            index: each
            for index, each in enumerate(self._machine.migratables)
            if isinstance(each, VFIOMigration) and each.in_thread
        }
        self._writer.threads(devices)
        self._writer.shares_link = bool(devices)
        try:
            for index, device in devices.items():
                send = partial(self._pool.send, index, device.id)
                device.launch_saving(send, self._failed)
                self._launched.append(device)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        self._writer.shares_link = False
        if error is not None:
            self._pool.stop()
        failures = [failure for device in self._launched if (failure := self._join(device)) is not None]
        if error is None and failures:
            raise self._control.error or failures[0]
        if error is None:
            self._pool.end()

    def _join(self, device: VFIOMigration) -> BaseException | None:
        try:
            device.join_saving()
        except SavingStoppedError as error:  # since another has failed, which is what counts
            return error
        except BaseException as error:  # noqa: BLE001 - the others have to be joined all the same
            self._failed(error)
            self._control.raised.keep_what_fails_a_test(error)
            return error
        return None

    def _failed(self, error: BaseException) -> None:
        """Note what went wrong; called by the threads, too."""
        assert self._pool is not None  # noqa: S101 - there are threads, so there are channels
        self._control.note_error(error)
        self._pool.stop()
