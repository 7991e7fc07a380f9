"""Faults that a scenario arranges: what is to go wrong, where, and how often."""

import errno as errno_codes
from dataclasses import dataclass

from vfio_migration.device import DataFault, DeviceState, MockDevice
from vfio_migration.scenarios.entries import FaultEntry
from vfio_migration.wording import parse_arc

_DATA = {"fail": DataFault.ERROR, "short": DataFault.SHORT, "altered": DataFault.ALTERED, "cut": DataFault.CUT}


@dataclass(frozen=True)
class FaultSpec:
    """One fault of one device, for which `arrange` makes sense."""

    device: str
    entry: FaultEntry

    def arrange(self, mock: MockDevice) -> None:
        """
        Arrange it at the mock.

        Raises:
            ValueError: it makes no sense for this device; the message says why.

        """
        entry = self.entry
        code = getattr(errno_codes, entry.errno, None)
        if not isinstance(code, int):
            raise ValueError(f"errno: expected a name such as 'EIO', got {entry.errno!r}")  # noqa: TRY004 - of a value
        if entry.at == "reset":
            self._only("fail")
            mock.fail_reset(times=entry.times, errno=code)
        elif entry.at in ("read", "write"):
            self._only(*_DATA)
            where = mock.fail_read if entry.at == "read" else mock.fail_write
            where(_DATA[entry.kind], errno=code, times=entry.times, probability=entry.probability, seed=entry.seed)
        else:
            current, target = self._arc()
            self._only("fail", "into-error", "stall")
            if entry.kind == "stall":
                mock.stall(current, target, seconds=entry.seconds, times=entry.times)
            else:
                mock.fail(
                    current,
                    target,
                    errno=code,
                    times=entry.times,
                    probability=entry.probability,
                    seed=entry.seed,
                    into_error=entry.kind == "into-error",
                )

    def _only(self, *kinds: str) -> None:
        if self.entry.kind not in kinds:
            raise ValueError(f"kind: expected one of {', '.join(kinds)} at {self.entry.at!r}, got {self.entry.kind!r}")

    def _arc(self) -> tuple[DeviceState, DeviceState]:
        try:
            return parse_arc(self.entry.at, DeviceState)
        except ValueError:
            raise ValueError(
                f"at: expected an arc such as 'RESUMING -> STOP', 'reset', 'read' or 'write', got {self.entry.at!r}"
            ) from None
