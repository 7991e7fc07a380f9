"""The destination's multifd channels: a thread for each that receives packets, and a queue of them for each device."""

import threading
from collections.abc import Sequence
from functools import partial

from vfio_migration.changes import PacketQueue
from vfio_migration.errors import StreamError
from vfio_migration.live.packet_frames import ChannelReader
from vmstate import Channel, Machine


class IncomingChannels:
    """
    Receives what comes over the channels, for as long as it is not closed.

    Guarantees:
    - A packet that does not come, whatever the reason, is known to whoever waits for it.
    - No thread is left when `close` returns.

    `_lock` guards all fields.
    """

    def __init__(self, machine: Machine, channels: Sequence[Channel]) -> None:
        self._machine = machine
        self._readers = [ChannelReader(channel, number) for number, channel in enumerate(channels)]
        self._lock = threading.Lock()
        self._queues: dict[int, PacketQueue] = {}
        self._threads: list[threading.Thread] = []
        self._receiving = len(self._readers)
        self._error: BaseException | None = None
        self._over: BaseException | None = None  # why no packet comes any more

    def start(self) -> None:
        """
        Start receiving.

        Raises:
            RuntimeError: the system refuses a thread; those that were started end with `close`.

        """
        for number, reader in enumerate(self._readers):
            receive = partial(self._receive, reader)
            self._threads.append(self._machine.clock.start_thread(receive, f"mig/dst/recv_{number}"))

    @property
    def received(self) -> int:
        """How many bytes have come over the channels so far."""
        return sum(reader.received for reader in self._readers)

    def await_end(self, idle_timeout_s: float | None) -> None:
        """
        Wait for the end of all channels, if there is a limit for that.

        Raises:
            StreamError: nothing has come for so many seconds (None: no limit, and no wait).

        """
        if idle_timeout_s is None:
            return
        for thread in self._threads:
            before = self.received
            while not self._machine.clock.join(thread, idle_timeout_s):
                if self.received == before:
                    raise StreamError(f"nothing came over the multifd channels for {idle_timeout_s:g} s")
                before = self.received

    def queue(self, index: int, device: str = "") -> PacketQueue:
        """
        Give the queue of the device that has this index at the source; `device` says what that is called.

        Raises:
            StreamError: there is no such device.

        """
        count = len(self._machine.migratables)
        if not 0 <= index < count:
            raise StreamError(f"a packet for device {index}, and there are {count}")
        with self._lock:
            queue = self._queues.get(index)
            if queue is None:
                queue = self._queues[index] = PacketQueue(self._machine.clock, f"number {index}")
                if self._over is not None:
                    queue.fail(self._over)
            if device:
                queue.device = device
            return queue

    def fail(self, error: BaseException) -> None:
        """Have all who wait for packets hear that none come any more."""
        with self._lock:
            self._over = self._over or error
            queues = list(self._queues.values())
        for queue in queues:
            queue.fail(error)

    def finish(self) -> None:
        """
        Wait for the end of all channels, when all devices are loaded; raises what went wrong with one.

        Raises:
            StreamError: a channel was altered, cut short, or held something that nobody needs.

        """
        for thread in self._threads:
            self._machine.clock.join(thread)
        with self._lock:
            if self._error is not None:
                raise self._error
            queues = list(self._queues.values())
        for queue in queues:
            queue.close()

    def close(self) -> None:
        """Receive nothing more."""
        for reader in self._readers:
            reader.close()
        for thread in self._threads:
            self._machine.clock.join(thread)
        with self._lock:
            self._queues.clear()  # whatever nobody has taken

    def _receive(self, reader: ChannelReader) -> None:
        try:
            for index, packet in reader.packets():
                self.queue(index).put(packet)
        except BaseException as error:  # noqa: BLE001 - raised by whoever loads, whatever it is
            with self._lock:
                self._error = self._error or error
            self.fail(error)
            return
        with self._lock:
            self._receiving -= 1
            over = self._receiving == 0
        if over:
            self.fail(StreamError("all multifd channels have ended"))
