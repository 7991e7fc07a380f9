"""What QEMU's monitor (QMP) would announce, for harness code that subscribes to it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from vmstate.log import get_logger


@dataclass(frozen=True, slots=True)
class MonitorEvent:
    """An event with QAPI's name and data; `time_ns` is the time of the machine's clock."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    time_ns: int = 0


Subscriber = Callable[[MonitorEvent], object]


class Subscription:
    """Lasts until `cancel`, or to the end of the context."""

    def __init__(self, monitor: "Monitor", subscriber: Subscriber) -> None:
        self._monitor = monitor
        self.subscriber = subscriber

    def cancel(self) -> None:
        """Announce nothing more to this subscriber; a second time does nothing."""
        self._monitor._drop(self)  # noqa: SLF001 - one mechanism, two ends

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


class Monitor:
    """
    Announces a machine's events to its subscribers, in the order of subscribing.

    Subscribers are called in the thread in which the event happens, which may hold the big lock. One
    that raises cannot fail the machine: it is logged, and what it raised is handed on.
    """

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._subscriptions: list[Subscription] = []  # guarded by _lock

    def subscribe(self, subscriber: Subscriber) -> Subscription:
        """Have `subscriber(event)` called for everything that is announced from now on."""
        subscription = Subscription(self, subscriber)
        with self._lock:
            self._subscriptions.append(subscription)
        return subscription

    def announce(self, event: MonitorEvent) -> list[BaseException]:
        """Tell all subscribers; gives what they raised."""
        with self._lock:
            subscriptions = self._subscriptions.copy()
        raised: list[BaseException] = []
        for subscription in subscriptions:
            with self._lock:
                if subscription not in self._subscriptions:
                    continue  # an earlier subscriber has cancelled it
            try:
                subscription.subscriber(event)
            except BaseException as error:  # noqa: BLE001 - whatever an embedder's code may raise
                _log.error("subscriber failed", machine=self._machine, announced=event.name, error=repr(error))
                raised.append(error)
        return raised

    def _drop(self, subscription: Subscription) -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)


_log = get_logger("vmstate.monitor")
