"""What a migration goes by beside its machines: limits, the link between the hosts, the fixed costs of its phases."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class MigrationParameters:
    """
    What somebody who migrates may set (QEMU's `migrate-set-parameters` and capabilities).

    - `downtime_limit_s`: the switchover is decided when what is left takes no longer than that to send.
    - `max_bandwidth`: bytes per second until the switchover is decided; None: whatever the link takes.
    - `switchover_bandwidth`: bytes per second to reckon with instead of what was measured (QEMU's
      `avail-switchover-bandwidth`); None: what was measured.
    - `return_path`: the source's downtime ends when the destination has answered.
    - `multifd_channels`: over which devices are saved and loaded side by side; 0: one after another (QEMU's `multifd`
      with `multifd-channels`, as far as device states go).
    - `switchover_ack`: a running source is not stopped before the destination has loaded what devices with pre-copy
      have to send first; needs `return_path`.

    Raises:
        ValueError: a value cannot be used; the message names it.

    """

    downtime_limit_s: float = 0.3
    max_bandwidth: float | None = None
    switchover_bandwidth: float | None = None
    multifd_channels: int = 0
    return_path: bool = False
    switchover_ack: bool = False

    def __post_init__(self) -> None:
        _check_seconds("downtime_limit_s", self.downtime_limit_s)
        if self.max_bandwidth is not None:
            _check_rate("max_bandwidth", self.max_bandwidth)
        if self.switchover_bandwidth is not None:
            _check_rate("switchover_bandwidth", self.switchover_bandwidth)
        channels = self.multifd_channels
        if not isinstance(channels, int) or isinstance(channels, bool) or not 0 <= channels <= MOST_CHANNELS:
            raise ValueError(f"multifd_channels: expected a whole number from 0 to {MOST_CHANNELS}, got {channels!r}")
        for name in ("return_path", "switchover_ack"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: expected true or false, got {getattr(self, name)!r}")  # noqa: TRY004 - of a value
        if self.switchover_ack and not self.return_path:
            raise ValueError("switchover_ack: expected return_path too, as the acknowledgement comes that way")


@dataclass(frozen=True)
class Link:
    """
    What the stream goes over: bytes per second (None: sending takes no time), and how many seconds later they arrive.

    Raises:
        ValueError: a value cannot be used; the message names it.

    """

    bandwidth: float | None
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        if self.bandwidth is not None:
            _check_rate("bandwidth", self.bandwidth)
        _check_seconds("latency_s", self.latency_s)

    @property
    def rate(self) -> float:
        """Bytes per second; infinitely many where sending takes no time."""
        return math.inf if self.bandwidth is None else self.bandwidth


@dataclass(frozen=True, kw_only=True)
class Phases:
    """
    The fixed costs of a switchover, in seconds.

    The source pauses its CPUs before the handlers of the stop and flushes its disks after them, asks all devices for
    the last time what they have, and sends the state of the others (emulated devices); the destination loads that and
    activates its disks before it starts. Launching a state-change thread takes the walk `launch_s`, and joining it
    `join_s`, on both sides.

    Raises:
        ValueError: a value cannot be used; the message names it.

    """

    pause_vcpus_s: float = 0.0
    flush_block_s: float = 0.0
    final_query_s: float = 0.0
    other_state_s: float = 0.0
    load_state_s: float = 0.0
    activate_block_s: float = 0.0
    launch_s: float = 0.0
    join_s: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_seconds(each.name, getattr(self, each.name))

    @property
    def source_stop_s(self) -> float:
        """What of it belongs to the source's stop, whatever the number of devices."""
        return self.pause_vcpus_s + self.flush_block_s

    @property
    def transfer_s(self) -> float:
        """What of it belongs to the transfer."""
        return self.final_query_s + self.other_state_s

    @property
    def destination_start_s(self) -> float:
        """What of it belongs to the destination's start, whatever the number of devices."""
        return self.load_state_s + self.activate_block_s

    @property
    def total_s(self) -> float:
        """All of it that does not go by the number of devices; no bound is shorter."""
        return self.source_stop_s + self.transfer_s + self.destination_start_s


MOST_CHANNELS = 255  # as QAPI has them, in a byte
_LONGEST_S = 1e9  # thirty years: what is longer is a mistake


def _check_seconds(name: str, value: object) -> None:
    if not (_is_number(value) and 0 <= value <= _LONGEST_S):  # type: ignore[operator]
        raise ValueError(f"{name}: expected seconds, a number from 0 to {_LONGEST_S:.0e}, got {value!r}")


def _check_rate(name: str, value: object) -> None:
    if not (_is_number(value) and 0 < value < math.inf):  # type: ignore[operator]
        raise ValueError(f"{name}: expected bytes per second, a number more than 0, got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
