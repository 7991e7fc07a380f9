"""Who goes on: one small interface, a file for each policy."""

from vmstate.exploring.policies.base import Candidates, SchedulePolicy
from vmstate.exploring.policies.exhaustive import Choice, FromPrefix, Frontier, Prefix, neighbours
from vmstate.exploring.policies.in_order import InOrderPolicy
from vmstate.exploring.policies.pct import PriorityChanges
from vmstate.exploring.policies.random_walk import RandomWalk
from vmstate.exploring.policies.replay import Replayed

__all__ = [
    "Candidates",
    "Choice",
    "FromPrefix",
    "Frontier",
    "InOrderPolicy",
    "Prefix",
    "PriorityChanges",
    "RandomWalk",
    "Replayed",
    "SchedulePolicy",
    "neighbours",
]
