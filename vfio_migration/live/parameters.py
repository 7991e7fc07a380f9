"""What a migration may be told: QEMU's parameters and capabilities, and what the stream goes over."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class MigrationParameters:
    """
    Parameters and capabilities of a migration (QAPI `MigrationParameters`, `MigrationCapability`).

    - `downtime_limit_s`: the switchover begins when what is left can be sent within so many seconds.
    - `max_bandwidth`: bytes per second until then; None: what the link can do.
    - `switchover_bandwidth`: bytes per second to count with for the switchover, in place of what was measured
      (`avail-switchover-bandwidth`); None: what was measured.
    - `multifd_channels`, `return_path`, `switchover_ack`: as the capabilities of these names.

    Raises:
        ValueError: a value makes no sense; the message names it.

    """

    downtime_limit_s: float = 0.3
    max_bandwidth: float | None = None
    switchover_bandwidth: float | None = None
    multifd_channels: int = 0
    return_path: bool = False
    switchover_ack: bool = False

    def __post_init__(self) -> None:
        _check_number("downtime_limit_s", self.downtime_limit_s, "seconds, 0 or more", least=0)
        for name in ("max_bandwidth", "switchover_bandwidth"):
            value = getattr(self, name)
            if value is not None:
                _check_number(name, value, "bytes per second, more than 0, or None", above=0)
        if isinstance(self.multifd_channels, bool) or not 0 <= self.multifd_channels <= _MOST_CHANNELS:
            raise ValueError(f"multifd_channels: expected 0 to {_MOST_CHANNELS}, got {self.multifd_channels!r}")
        if self.switchover_ack and not self.return_path:
            raise ValueError("switchover_ack: expected return_path too, as the acknowledgement comes that way")


@dataclass(frozen=True)
class Link:
    """
    What the stream goes over: so many bytes per second (None: sending takes no time), and so long until they arrive.

    Raises:
        ValueError: a value makes no sense; the message names it.

    """

    bandwidth: float | None
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        if self.bandwidth is not None:
            _check_number("bandwidth", self.bandwidth, "bytes per second, more than 0, or None", above=0)
        _check_number("latency_s", self.latency_s, "seconds, 0 or more", least=0)


def _check_number(
    name: str, value: float, expected: str, *, least: float = -math.inf, above: float = -math.inf
) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (good and value >= least and value > above):
        raise ValueError(f"{name}: expected {expected}; got {value!r}")


_MOST_CHANNELS = 255
