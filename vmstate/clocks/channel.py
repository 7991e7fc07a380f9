"""A channel for bytes between two threads, or two processes: what its ends can do."""

from typing import Protocol

from vmstate.errors import VmStateError


class ChannelClosedError(VmStateError, ConnectionError):
    """The other side has closed the channel, or this side has."""


class Channel(Protocol):
    """
    One end: `send` and `receive` wait through the clock; each is for one thread at a time.

    Guarantees:
    - Bytes arrive complete and in order, or the end of them is seen.
    - Closing either end wakes the other, whatever it waits for.
    """

    def send(self, data: bytes) -> None:
        """
        Send all bytes, waiting for room.

        Raises:
            ChannelClosedError: either end is closed.
            OSError: the connection fails, or nothing could be sent for as long as it may take.

        """
        ...

    def receive(self, size: int, timeout: float | None = None) -> bytes:
        """
        Receive between 1 and `size` bytes, waiting for them; b"" if the other end is closed.

        Raises:
            TimeoutError: nothing came for `timeout` seconds (None: no limit).
            ChannelClosedError: this end is closed.
            OSError: the connection fails.

        """
        ...

    @property
    def ready(self) -> bool:
        """Whether something, or the end, is there to be received without waiting."""
        ...

    def end(self) -> None:
        """Send nothing more: the other side reads what is on its way, then sees the end."""
        ...

    def abort(self) -> None:
        """
        Send and receive nothing more at this end, and wake whoever waits here; safe from any thread.

        The other end still reads what is on its way, and then sees the end.
        """
        ...

    def close(self) -> None:
        """Abort and let go of the connection; a second time does nothing."""
        ...
