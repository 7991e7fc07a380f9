"""What two ends of a migration are connected by, and how either comes by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vmstate import Channel


@dataclass(frozen=True)
class Connection:
    """The channel of the stream and of the answers, and the multifd channels by their numbers."""

    main: Channel
    multifd: Sequence[Channel] = ()

    def abort(self) -> None:
        """Cut all of it, and wake whoever waits; safe from any thread."""
        for channel in (self.main, *self.multifd):
            channel.abort()

    def close(self) -> None:
        """Let go of all of it."""
        for channel in (self.main, *self.multifd):
            channel.close()


class Connector(Protocol):
    """How a source comes by its connection."""

    def connect(self) -> Connection:
        """
        Connect, once.

        Raises:
            OSError: nobody listens there, or `abort` was called; the text says where.

        """
        ...

    def abort(self) -> None:
        """Have whoever connects give up, and cut what is connected; safe from any thread."""
        ...

    def close(self) -> None:
        """Let go of what is connected, where nobody came to take it."""
        ...


class Acceptor(Protocol):
    """How a destination comes by its connection."""

    def open(self) -> None:
        """
        Listen.

        Raises:
            OSError: that cannot be listened at; the text says where and why.

        """
        ...

    def accept(self) -> Connection:
        """
        Wait for the one connection, and listen no more.

        Raises:
            StreamError: who came is none of ours; the text says what came.
            OSError: `abort` was called.

        """
        ...

    def abort(self) -> None:
        """Listen no more, have whoever accepts give up, and cut what is connected; safe from any thread."""
        ...


class Ready:
    """A connection within this process, given before either end asks: both a `Connector` and an `Acceptor`."""

    connection: Connection

    def connect(self) -> Connection:
        """Give it."""
        return self.connection

    def open(self) -> None:
        """Do nothing."""

    def accept(self) -> Connection:
        """Give it."""
        return self.connection

    def abort(self) -> None:
        """Cut it."""
        self.connection.abort()

    def close(self) -> None:
        """Let go of this end of it."""
        self.connection.close()
