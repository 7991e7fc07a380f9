"""The transfer of a plan, device by device, to be asked what it takes with other devices in the place of some."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from vfio_migration.plan import (
    NO_STATE,
    MigrationPlan,
    PlannedSaving,
    PlannedState,
    Stretch,
    TransferPlan,
    joined,
    stretch_of,
)


@dataclass(frozen=True)
class Saving:
    """
    What saving a device is, whatever pre-copy left of it.

    Its state, in nanoseconds its arcs and plain time, and whether it may be saved by a thread of its own.
    """

    state: PlannedState = NO_STATE
    arcs_ns: int = 0
    plain_ns: int = 0
    multifd: bool | Literal["auto"] = "auto"


class TransferLedger:
    """The stretches of a transfer, with what lies before each and after it."""

    def __init__(self, plan: MigrationPlan, transfer: TransferPlan, savings: Sequence[Saving]) -> None:
        self._plan = plan
        self._savings = savings
        self._known: dict[tuple[object, ...], Stretch] = {}
        self._stretches = [self._stretch(place, each) for place, each in enumerate(savings)]
        self._before = list(accumulate(self._stretches, Stretch.then, initial=Stretch(transfer.before_ns)))
        rest = Stretch(transfer.whole.sending - transfer.before_ns - sum(transfer.devices))
        self._after = list(reversed(list(accumulate(reversed(self._stretches), _after, initial=rest))))
        self._whole = self._before[-1].then(rest)
        self._between_s = self._total_s(0.0, self._whole, plan.config_load_s)

    def gain(self, stop_gain_s: float, others: Mapping[int, Saving | None]) -> float:
        """Give by how much it is shorter after a stop that is, and with others at these places (None: none)."""
        if not others:
            return self._between_s - self._total_s(stop_gain_s, self._whole, self._plan.config_load_s)
        new = {place: Stretch() if each is None else self._stretch(place, each) for place, each in others.items()}
        config_s = self._plan.config_load_s
        for place, each in others.items():
            config_s -= self._savings[place].state.config_load_s
            config_s += 0.0 if each is None else each.state.config_load_s
        return self._between_s - self._total_s(stop_gain_s, self._with(new), config_s)

    def _with(self, new: Mapping[int, Stretch]) -> Stretch:
        if len(new) == 1:
            ((place, stretch),) = new.items()
            return self._before[place].then(stretch).then(self._after[place + 1])
        if not self._whole.loading and not any(each.loading for each in new.values()):
            more = sum(each.sending - self._stretches[place].sending for place, each in new.items())
            return replace(self._whole, sending=self._whole.sending + more, following=self._whole.following + more)
        devices = (new.get(place, each) for place, each in enumerate(self._stretches))
        return joined([self._before[0], *devices, self._after[-1]])

    def _total_s(self, stop_gain_s: float, whole: Stretch, config_s: float) -> float:
        stop_s = max(0.0, self._plan.switchover.source_stop_s - stop_gain_s)
        return self._plan.after_stop_s(stop_s, whole, config_s)

    def _stretch(self, place: int, saving: Saving) -> Stretch:
        precopy = self._plan.precopy
        key = (saving, precopy.left[place], precopy.loaded[place])
        if key not in self._known:
            left, loaded = precopy.left[place], precopy.loaded[place]
            whole = PlannedSaving(saving.state, saving.arcs_ns, left, loaded, saving.plain_ns)
            self._known[key] = stretch_of(whole, self._plan.surroundings)
        return self._known[key]


def _after(later: Stretch, earlier: Stretch) -> Stretch:
    return earlier.then(later)
