"""The source's multifd channels: whoever has packets takes a free one, for as long as they are on the link."""

import threading
from collections import deque
from collections.abc import Sequence

from vfio_migration.changes import Packet, SavingStoppedError
from vfio_migration.live.packet_frames import ChannelWriter
from vfio_migration.live.wire import Wire
from vmstate import Channel, Event, Machine


class ChannelPool:
    """
    Channels for the save threads of all devices.

    Guarantees:
    - One thread at a time has a channel; a channel that becomes free goes to who has waited longest.
    - Once `stop` was called nobody waits here, and nothing more is sent.

    `_lock` guards all fields but the channels themselves, which are whose they are.
    """

    def __init__(self, machine: Machine, channels: Sequence[Channel], wire: Wire) -> None:
        self._machine = machine
        self._wire = wire
        self._writers = [ChannelWriter(channel, number) for number, channel in enumerate(channels)]
        self._lock = threading.Lock()
        self._free = deque(self._writers)
        self._waiting: deque[_Turn] = deque()
        self._stopped = False
        self._bytes_sent = 0

    @property
    def bytes_sent(self) -> int:
        """How many bytes went over the channels, or are stood for."""
        with self._lock:
            return self._bytes_sent

    def begin(self) -> None:
        """Begin all channels."""
        for writer in self._writers:
            writer.begin()

    def send(self, index: int, device: str, packets: Sequence[Packet]) -> None:
        """
        Send packets that belong together, over a channel that is free; waits until they are out.

        Raises:
            SavingStoppedError: something else has failed.
            ChannelClosedError: the destination is gone.

        """
        writer = self._take()
        try:
            size = sum(packet.stands_for for packet in packets)
            self._emit("multifd_send_begin", writer, device, size)
            self._wire.carry(size)
            sent = sum(writer.packet(index, packet) for packet in packets)
            self._emit("multifd_send_end", writer, device, size)
        finally:
            self._give_back(writer)
        with self._lock:
            self._bytes_sent += max(sent, size)

    def stop(self) -> None:
        """Have all who send or wait here leave as soon as they come by."""
        with self._lock:
            self._stopped = True
            waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            turn.come.set()

    def end(self) -> None:
        """Send the end of all channels, when all threads are joined."""
        for writer in self._writers:
            writer.end()

    def _take(self) -> ChannelWriter:
        with self._lock:
            if self._stopped:
                raise SavingStoppedError("not saved any further, as something else has failed")
            if self._free:
                return self._free.popleft()
            turn = _Turn(self._machine.clock.event("a free multifd channel"))
            self._waiting.append(turn)
        turn.come.wait()
        if turn.writer is None:
            raise SavingStoppedError("not saved any further, as something else has failed")
        return turn.writer

    def _give_back(self, writer: ChannelWriter) -> None:
        with self._lock:
            if not self._waiting:
                self._free.append(writer)
                return
            turn = self._waiting.popleft()
        # Handed over, and not set free: whoever gives it back would have it again before those who have waited.
        turn.writer = writer
        turn.come.set()

    def _emit(self, event: str, writer: ChannelWriter, device: str, size: int) -> None:
        if self._machine.traced:
            self._machine.emit(event, channel=writer.number, name=device, bytes=size)


class _Turn:
    """Somebody who waits for a channel; `writer` is written before `come` is raised, and read after it."""

    def __init__(self, come: Event) -> None:
        self.come = come
        self.writer: ChannelWriter | None = None
