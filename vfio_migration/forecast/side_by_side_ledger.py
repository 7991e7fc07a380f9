"""
The transfer of a plan in which devices are saved side by side, to be asked what it takes with others in their places.

Without a link each device is by itself. With one all of it is simulated anew, in larger pieces where that would take
long; and where even that would, the link is reckoned with as a whole: it takes what all bytes take, or as long as the
slowest device.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

from vfio_migration.forecast.devices_beside import Alone, DevicesBeside
from vfio_migration.forecast.transfer_ledger import Saving
from vfio_migration.plan import MigrationPlan, PlannedSaving, SideBySidePlan, plan_alone, plan_side_by_side
from vmstate import NS_PER_SECOND, seconds_to_ns

_MOST_WORK = 150_000  # pieces that are simulated for all questions together
_FEWEST = 8  # pieces of a device, on average, with which a simulation is still worth it
_MANY = 20_000  # devices times groups, from which on it matters how long one question takes
_QUESTIONS = 20  # about each group of devices


class SideBySideLedger:
    """As `TransferLedger`, for threads; `groups` is the number of groups that will be asked about."""

    def __init__(self, plan: MigrationPlan, transfer: SideBySidePlan, savings: Sequence[Saving], groups: int) -> None:
        self._plan = plan
        self._transfer = transfer
        self._around = plan.surroundings
        self._after_ns = seconds_to_ns(plan.switchover.phases.other_state_s)
        self._savings = [self._planned(place, each) for place, each in enumerate(savings)]
        self._pieces = self._pieces_for(groups)
        self._many = len(savings) * groups > _MANY
        self._alone: dict[PlannedSaving, Alone] = {}
        self._between_s = self._total_s(0.0, {})

    def gain(self, stop_gain_s: float, others: Mapping[int, Saving | None]) -> float:
        """Give by how much it is shorter after a stop that is, and with others at these places (None: none)."""
        new = {place: None if each is None else self._planned(place, each) for place, each in others.items()}
        return self._between_s - self._total_s(stop_gain_s, new)

    def _planned(self, place: int, saving: Saving) -> PlannedSaving:
        precopy = self._plan.precopy
        return PlannedSaving(
            saving.state,
            saving.arcs_ns,
            precopy.left[place],
            precopy.loaded[place],
            saving.plain_ns,
            self._around.in_thread(saving.multifd),
        )

    def _pieces_for(self, groups: int) -> int:
        """Give how many pieces a simulation may have; 0 if that would be too few."""
        most = _MOST_WORK // (groups * _QUESTIONS)
        return most if most >= _FEWEST * len(self._savings) else 0

    def _total_s(self, stop_gain_s: float, new: Mapping[int, PlannedSaving | None]) -> float:
        stop_s = max(0.0, self._plan.switchover.source_stop_s - stop_gain_s)
        lag_ns = self._plan.lag_ns(stop_s)
        if self._many and all(self._savings[place].in_thread for place in new):
            return self._of_many_ns(new, lag_ns) / NS_PER_SECOND
        savings = [new.get(place, each) for place, each in enumerate(self._savings)] if new else self._savings
        there = [each for each in savings if each is not None]
        whole = self._simulated(there) if self._around.bandwidth and self._pieces else self._as_a_whole(there)
        return (whole.sending + whole.behind_ns(lag_ns) + whole.config_ns(lag_ns)) / NS_PER_SECOND

    @cached_property
    def _in_turn(self) -> SideBySidePlan:
        """What goes over the main channel."""
        in_turn = [each for each in self._savings if not each.in_thread]
        ram = self._plan.precopy.ram_left
        return plan_side_by_side(in_turn, ram, self._around, self._transfer.before_ns, 0)

    @cached_property
    def _beside(self) -> DevicesBeside:
        return DevicesBeside(
            {place: self._by_itself(each) for place, each in enumerate(self._savings) if each.in_thread}
        )

    def _of_many_ns(self, new: Mapping[int, PlannedSaving | None], lag_ns: int) -> int:
        """Give the same of very many devices, of which only the new ones are looked at."""
        alone = {place: None if each is None else self._by_itself(each) for place, each in new.items()}
        main = self._in_turn
        last, carried = self._beside.sent(alone)
        carried += self._plan.precopy.ram_left
        carried += sum(each.left + each.state.size for each in self._savings if not each.in_thread)
        rate = self._around.bandwidth
        of_link_ns = 0 if rate is None else seconds_to_ns(carried / rate)
        sending = max(main.before_ns + of_link_ns, main.sending, last) + self._after_ns
        loaded, first, config = self._beside.loaded(alone, lag_ns)
        config += main.loaders[-1].config
        done = max(loaded, main.loaders[-1].done(lag_ns), sending + main.latency)
        return max(done, first + config)

    def _simulated(self, savings: Sequence[PlannedSaving]) -> SideBySidePlan:
        ram = self._plan.precopy.ram_left
        before_ns = self._transfer.before_ns
        return plan_side_by_side(savings, ram, self._around, before_ns, self._after_ns, most_pieces=self._pieces)

    def _as_a_whole(self, savings: Sequence[PlannedSaving]) -> SideBySidePlan:
        """Put together what each device takes by itself, with the link as one thing that takes what it takes."""
        threads = [self._by_itself(each) for each in savings if each.in_thread]
        ram = self._plan.precopy.ram_left
        before_ns = self._transfer.before_ns
        in_turn = [each for each in savings if not each.in_thread]
        main = plan_side_by_side(in_turn, ram, self._around, before_ns, 0)
        carried = ram + sum(each.bytes for each in threads) + sum(each.left + each.state.size for each in in_turn)
        rate = self._around.bandwidth
        of_link_ns = 0 if rate is None else seconds_to_ns(carried / rate)
        ends = (each.sending for each in threads)
        sending = max(before_ns + of_link_ns, main.sending, *ends) + self._after_ns
        loaders = [each.loader for each in threads]
        return SideBySidePlan(sending, before_ns, main.ram_ns, main.latency, (), (*loaders, main.loaders[-1]))

    def _by_itself(self, saving: PlannedSaving) -> Alone:
        if saving not in self._alone:
            sending, loader = plan_alone(saving, self._around, self._transfer.before_ns)
            self._alone[saving] = Alone(sending, loader, saving.left + saving.state.size)
        return self._alone[saving]
