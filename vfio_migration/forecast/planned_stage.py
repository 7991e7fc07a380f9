"""One depth of a pass under whatever strategy: how long the switchover stays there, and what could be slower."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from vfio_migration.plan import DepthPlan, PassPlan, Step
from vfio_migration.strategies import DEFAULT_STRATEGY, SECONDS

_SAME_S = 1e-10  # what is less is rounding: the clocks count nanoseconds
_HALVINGS = 40


@dataclass(frozen=True)
class PlannedStage:
    """The depth at this place of a pass; times in seconds."""

    whole: PassPlan
    place: int

    @property
    def depth(self) -> DepthPlan:
        """The depth itself."""
        return self.whole.depths[self.place]

    @property
    def seconds(self) -> float:
        """How long the walk is there: by how much the pass is longer than without it and all after it."""
        if self._in_turn:
            return self.depth.mechanism_s
        times = [depth.times for depth in self.whole.depths]
        pass_s = self.whole.strategy.pass_s
        return pass_s(times[: self.place + 1], SECONDS) - pass_s(times[: self.place], SECONDS)

    def slack_s(self, step: Step) -> float:
        """Give by how much one of the threads could be slower at no cost."""
        if self._in_turn:
            return self.depth.slack_s(step)
        launched = [each.name for each in self.depth.threads if each.arcs]
        if step.name not in launched:
            return self.whole.mechanism_s
        times, place = self.depth.times, launched.index(step.name)

        def with_more(more_s: float) -> float:
            launches = list(times.launches)
            launches[place] += more_s
            return self._pass_s(tuple(launches), times.handlers_s)

        return _most(with_more, self.whole.mechanism_s)

    def in_turn_slack_s(self) -> float:
        """Give by how much what comes in turn could be slower at no cost."""
        if self._in_turn:
            return self.depth.in_turn_slack_s()
        times = self.depth.times
        return _most(lambda more_s: self._pass_s(times.launches, times.handlers_s + more_s), self.whole.mechanism_s)

    @property
    def _in_turn(self) -> bool:
        """Whether depths come one after another, so that each can be looked at alone."""
        return self.whole.strategy == DEFAULT_STRATEGY

    def _pass_s(self, launches: tuple[float, ...], handlers_s: float) -> float:
        """Give what the pass takes with other times here."""
        times = [depth.times for depth in self.whole.depths]
        times[self.place] = replace(times[self.place], launches=launches, handlers_s=handlers_s)
        return self.whole.strategy.pass_s(times, SECONDS)


def _most(with_more: Callable[[float], float], now: float) -> float:
    """
    Give the most seconds more that something can take so that all takes what it takes now.

    With very much more, all is what lies before it and behind it; what is left of now is the most, unless the slower
    one gets into the way of others (as in a pool). Then the most is less, and is searched for.
    """
    much = now + 1.0
    most = max(0.0, now + much - with_more(much))
    if with_more(most) <= now + _SAME_S:
        return most
    enough = 0.0
    for _ in range(_HALVINGS):
        middle = (enough + most) / 2
        enough, most = (middle, most) if with_more(middle) <= now + _SAME_S else (enough, middle)
    return enough
