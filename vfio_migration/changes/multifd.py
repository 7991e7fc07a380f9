"""
Saving and loading a device in threads of its own, beside other devices (QEMU's `migration/vfio-multifd.c`).

The threads are those of the device's changes of state: launched, watched and joined as these are.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from vfio_migration.changes.device_thread import DeviceThread, Job, Progress
from vfio_migration.changes.packets import Packet, PacketKind, PacketQueue
from vfio_migration.changes.set_or_recover import StaleChangeError, StateSetter
from vfio_migration.device import CHUNK, Counted, DeviceState, StateBytes
from vfio_migration.errors import StreamError, VFIOMigrationError
from vmstate import Machine

# QEMU's names of the functions that run in these threads.
SAVE = "vfio_save_complete_precopy_thread"
LOAD = "vfio_load_bufs_thread"
LOAD_PACKET = "vfio_load_state_device_buffer_load"
_TOTAL = struct.Struct(">Q")
Failing = Callable[[str], AbstractContextManager[None]]
Send = Callable[[Sequence[Packet]], None]


class SavingStoppedError(VFIOMigrationError):
    """A device is not saved any further, since something else has failed."""


@dataclass
class Transferred:
    """What of a device's state was sent, or loaded: bytes as they travel, and the bytes of state that they carry."""

    data_size: int = 0
    carried: int = 0


class MultifdThreads:
    """
    The save thread and the load thread of a device.

    Errors are raised where the threads are joined; `failing` has them name the device, and what it failed in.
    """

    def __init__(
        self, machine: Machine, device: str, setter: StateSetter, thread: DeviceThread, failing: Failing
    ) -> None:
        self._machine = machine
        self._device = device
        self._setter = setter
        self._thread = thread
        self._failing = failing
        self._lost: BaseException | None = None  # written and read by who joins
        self._progress = Progress()  # written by the thread as a whole, read by who joins

    def launch_saving(self, transferred: Transferred, send: Send, on_error: Callable[[BaseException], object]) -> None:
        """
        Have the device saved: its arc to STOP_COPY, all data, and the configuration.

        `send` sends packets that belong together, waiting for a free channel; `on_error` hears in the thread what goes
        wrong. The holder of the big lock joins it.
        """

        def work() -> None:
            try:
                self._save(transferred, send)
            except (SavingStoppedError, StaleChangeError):
                raise
            except BaseException as error:
                on_error(error)
                raise

        self._launch(SAVE, work, barred=True)

    def join_saving(self) -> None:
        """Wait until the device is saved; raises what went wrong."""
        self._join(SAVE)

    def launch_loading(self, transferred: Transferred, packets: PacketQueue, load_config: Callable[[], None]) -> None:
        """Have the device loaded from these packets; `load_config` is called last, and may take the big lock."""
        self._launch(LOAD, lambda: self._load(transferred, packets, load_config), barred=False)

    def join_loading(self) -> None:
        """Wait until the device is loaded; raises what went wrong."""
        self._join(LOAD)

    def _name(self, what: str) -> str:
        return f"{what} {self._device}"

    def _launch(self, what: str, work: Callable[[], None], *, barred: bool) -> None:
        setter = self._setter

        def doing() -> str:
            return f"{what}{f', {setter.arc},' if setter.arc is not None else ''}"

        def lose(why: str) -> None:
            self._lost = setter.lose(f"{doing()} {why}")

        self._progress = Progress(0, at_device=False)
        self._thread.launch(
            Job(
                what,
                self._name(what),
                work,
                (),
                lose=lose,
                doing=doing,
                barred=barred,
                progress=lambda: self._progress,
            )
        )

    @contextmanager
    def _at_device(self) -> Iterator[None]:
        """Have whoever joins see that the thread waits for the device: that is what a watchdog watches."""
        self._progress = Progress(self._progress.steps, at_device=True)
        try:
            yield
        finally:
            self._progress = Progress(self._progress.steps + 1, at_device=False)

    def _join(self, what: str) -> None:
        self._thread.join(self._name(what))
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost

    def _save(self, transferred: Transferred, send: Send) -> None:
        machine, setter = self._machine, self._setter
        machine.emit(f"{SAVE}_start", name=self._device)
        number, ahead = 0, b""
        with self._failing("saving"):
            with self._at_device():
                setter.set_state(DeviceState.STOP_COPY, DeviceState.STOP)
            setter.check_worth_saving()
            while data := self._read():
                transferred.data_size += len(data)
                if isinstance(data, StateBytes) and not data.stands_for and not isinstance(data, Counted):
                    ahead += data  # framing of the device's own: sent with what it belongs to
                    continue
                packets = _packets_of(number, ahead, data)
                send(packets)
                transferred.carried += packets[-1].stands_for
                number, ahead = number + len(packets), b""
        last = [Packet(number, PacketKind.DATA, ahead)] if ahead else []
        total = _TOTAL.pack(transferred.data_size)
        send([*last, Packet(number + len(last), PacketKind.CONFIG, total)])
        machine.emit(f"{SAVE}_end", name=self._device, ret=0)

    def _read(self) -> bytes:
        with self._at_device():
            return self._setter.read(CHUNK)

    def _write(self, packet: Packet) -> None:
        data = Counted(packet.data, packet.stands_for) if packet.kind is PacketKind.COUNTED else packet.data
        with self._at_device():
            self._setter.write(data)

    def _load(self, transferred: Transferred, packets: PacketQueue, load_config: Callable[[], None]) -> None:
        self._machine.emit(f"{LOAD}_start", name=self._device)
        while (packet := packets.take()).kind is not PacketKind.CONFIG:
            transferred.data_size += len(packet.data)
            self._tell_of(f"{LOAD_PACKET}_start", packet)
            try:
                self._write(packet)
            except OSError as error:
                raise self._error(packet, f"the device refused the data: {error}") from error
            self._tell_of(f"{LOAD_PACKET}_end", packet)
        if len(packet.data) != _TOTAL.size or _TOTAL.unpack(packet.data)[0] != transferred.data_size:
            raise self._error(packet, f"{transferred.data_size} bytes of data have arrived, and that is not all")
        packets.close()
        load_config()  # under the big lock, which it may have to wait for
        self._machine.emit(f"{LOAD}_end", name=self._device)

    def _tell_of(self, event: str, packet: Packet) -> None:
        if self._machine.traced:
            self._machine.emit(
                event, name=self._device, idx=packet.number, bytes=max(packet.stands_for, len(packet.data))
            )

    def _error(self, packet: Packet, what: str) -> StreamError:
        return StreamError(f"device {self._device!r}, packet {packet.number}: {what}")


def _packets_of(number: int, ahead: bytes, data: bytes) -> list[Packet]:
    """Give the packets for what one read gave, and for the framing before it."""
    stands_for = data.stands_for if isinstance(data, StateBytes) else len(data)
    if isinstance(data, Counted):
        before = [Packet(number, PacketKind.DATA, ahead)] if ahead else []
        return [*before, Packet(number + len(before), PacketKind.COUNTED, bytes(data), stands_for)]
    return [Packet(number, PacketKind.DATA, ahead + data if ahead else bytes(data), stands_for)]
