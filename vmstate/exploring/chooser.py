"""Between the clock and a policy: makes each choice one between numbers, and notes what is needed to make it again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vmstate.clocks import Runnable
from vmstate.errors import ClockError
from vmstate.exploring.errors import TooManyChoicesError
from vmstate.exploring.here import here
from vmstate.exploring.places import fit
from vmstate.exploring.policies import Choice, Replayed, SchedulePolicy
from vmstate.exploring.schedule import HandOver, Switch

MOST_CHOICES = 50_000
_LONG = 1000  # choices in a row


@dataclass
class Noted:
    """What a run has shown."""

    choices: list[Choice] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)
    handovers: list[HandOver] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    steps: int = 0  # times that somebody was chosen, also if there was only one
    failure: BaseException | None = None
    switches_of_failure: int = 0
    handovers_of_failure: int = 0

    def fails(self, error: BaseException) -> None:
        """Note the first failure; what goes wrong after it may only be its wake."""
        if self.failure is None:
            self.failure = error
            self.switches_of_failure = len(self.switches)
            self.handovers_of_failure = len(self.handovers)


class Chooser:
    """
    The clock's policy in an exploration (`vmstate.Explorer`).

    Guarantees:
    - What is noted is a function of the test and of what the policy chose: nothing depends on the machine.
    - A choice with one candidate is none, and is not put to the policy, but counts as a step.
    - The run ends after `most_choices`, whatever the test does, as long as it waits through the clock.
    """

    def __init__(
        self,
        policy: SchedulePolicy,
        *,
        any_time: bool,
        enter: Callable[[int], object],
        on_handover: Callable[[], object] | None = None,
        most_choices: int = MOST_CHOICES,
    ) -> None:
        self.noted = Noted()
        self.any_time = any_time
        self.gave_up: ClockError | None = None
        self._on_handover = on_handover  # called in the thread that stops
        self._policy = policy
        self._replayed = policy if isinstance(policy, Replayed) else None
        self._enter = enter  # called in each thread with its number, before it runs what it was started for
        self._most_choices = most_choices
        self._visits: dict[tuple[int, str], int] = {}
        self._left = -1  # the thread that stopped last, and where
        self._place = "begin"
        self._goes_on = False
        self._in_a_row = 0  # choices that the thread that stopped last has won

    def leaves(self, thread: Runnable, place: str, *, goes_on: bool) -> None:
        """Note where a thread has stopped."""
        place = fit(place)
        key = thread.number, place
        self._visits[key] = self._visits.get(key, 0) + 1
        self._left, self._place, self._goes_on = thread.number, place, goes_on

    def choose(self, woken: Sequence[Runnable], due: Sequence[Runnable]) -> int:
        """Ask the policy, and note what it says."""
        noted = self.noted
        noted.steps += 1
        if len(woken) + len(due) == 1:
            chosen, place, switched = (woken or due)[0], 0, False
            self._policy.alone(chosen.number)
        else:
            chosen, place, switched = self._choice(woken, due)
        if chosen.number != self._left:
            if chosen.number not in noted.names:
                noted.names[chosen.number] = chosen.name
            noted.handovers.append(HandOver(self._left, self._place, chosen.number, switched))
            if self._on_handover is not None:
                self._on_handover()
        return place

    def _choice(self, woken: Sequence[Runnable], due: Sequence[Runnable]) -> tuple[Runnable, int, bool]:
        threads = [*woken, *due]
        order = list(range(len(threads)))
        # One that spins until another has done something must not be the usual one for ever: nothing would ever end.
        goes_on = self._goes_on and self._in_a_row < _LONG
        if goes_on:  # who has just stopped was put at the end of those woken
            order.insert(0, order.pop(len(woken) - 1))
        candidates = [threads[place].number for place in order]
        visit = self._visits.get((self._left, self._place), 0)
        if self._replayed is not None:
            self._replayed.stopped_at((self._left, self._place, visit))
        taken = self._policy.choose(candidates, goes_on)
        self._in_a_row = self._in_a_row + 1 if candidates[taken] == self._left else 0
        noted = self.noted
        noted.choices.append(Choice(len(candidates), goes_on, taken))
        if taken:
            noted.switches.append(Switch(self._left, self._place, visit, candidates[taken]))
        if len(noted.choices) >= self._most_choices and self.gave_up is None:
            self._give_up(threads[order[taken]])
        return threads[order[taken]], order[taken], taken > 0

    def _give_up(self, thread: Runnable) -> None:
        self.gave_up = TooManyChoicesError(
            f"a schedule may have {self._most_choices} choices, and this one has had them: thread {thread.name!r} "
            f"went on last, after thread {self._left} had stopped at {self._place!r}. A loop that spins until another "
            "thread has done something goes on for ever where it always comes first: let it wait through the clock; "
            "or name less in `preempt`"
        )
        self.noted.fails(self.gave_up)

    def deadlocked(self, error: ClockError) -> None:
        """Note it as the failure, whatever the threads that hear of it make of it."""
        self.noted.fails(error)

    def run_thread(self, thread: Runnable, target: Callable[[], object]) -> None:
        """Run it; what it raises is the failure, and goes to nobody else."""
        self._enter(thread.number)
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - it is the failure, of whatever kind
            self.noted.fails(error)
        finally:
            here.clock = None
