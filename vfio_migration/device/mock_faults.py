"""Faults on purpose: what a mock device is told to do wrong, and when."""

import errno as errno_codes
import random
import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum


class DataFault(Enum):
    """What can go wrong with the state that is read from a device, or written to it."""

    ERROR = "error"  # the call fails
    SHORT = "short"  # reading gives less than there is; not a failure, callers have to cope
    ALTERED = "altered"  # a byte is another
    CUT = "cut"  # reading ends too early, in the middle of things; of a write, everything is lost


@dataclass
class Fault:
    """
    Something that goes wrong.

    It is met `times` times, one after another; with a `probability` instead, each time with that probability, as a
    generator with `seed` says. `errno` None: the arc does not fail (it only stalls).
    """

    errno: int | None = errno_codes.EIO
    times: int = 1
    probability: float | None = None
    seed: int = 0
    into_error: bool = False
    stall: bool = False
    stall_s: float | None = None
    data: DataFault = DataFault.ERROR
    met: bool = False
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"a fault is met at least once; got times={self.times!r}")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"a probability lies in 0..1; got {self.probability!r}")
        self._random = random.Random(self.seed)  # noqa: S311 - test data

    @property
    def used_up(self) -> bool:
        """Whether it will not be met again."""
        return self.probability is None and self.times == 0

    def strikes(self) -> bool:
        """Say whether it is met this time."""
        if self.probability is not None and self._random.random() >= self.probability:
            return False
        self.times -= self.probability is None
        self.met = True
        return True


class FaultPlan:
    """The faults of one device, by what they befall; arranged by any thread, met by those that drive the device."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[Hashable, list[Fault]] = {}  # guarded by _lock

    def arrange(self, what: Hashable, fault: Fault) -> None:
        """Have something go wrong, after whatever was arranged for it before."""
        with self._lock:
            self._faults.setdefault(what, []).append(fault)

    def meet(self, what: Hashable) -> Fault | None:
        """Give the fault that is met now, if any."""
        with self._lock:
            faults = self._faults.get(what, [])
            for fault in faults:
                if fault.strikes():
                    if fault.used_up:
                        faults.remove(fault)
                    return fault
        return None

    def unmet(self) -> list[tuple[Hashable, Fault]]:
        """Give the faults that were never met, each with what it was to befall."""
        with self._lock:
            return [(what, fault) for what, faults in self._faults.items() for fault in faults if not fault.met]

    def clear(self) -> None:
        """Forget all that were not met yet."""
        with self._lock:
            self._faults.clear()
