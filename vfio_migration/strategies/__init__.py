"""Which changes of a pass run at the same time: one small interface, a file for each way."""

from vfio_migration.strategies.arithmetic import SECONDS, Addable, Arithmetic, DepthTimes, joined_s, sum_of
from vfio_migration.strategies.base import Change, Strategy, Walk
from vfio_migration.strategies.chosen import DEFAULT_STRATEGY, STRATEGIES, strategy_named
from vfio_migration.strategies.depths import Depths
from vfio_migration.strategies.overlapping import Overlapping
from vfio_migration.strategies.pass_walk import PassWalk
from vfio_migration.strategies.places import Place, Places
from vfio_migration.strategies.pool import Pool
from vfio_migration.strategies.serial import Serial

__all__ = [
    "DEFAULT_STRATEGY",
    "SECONDS",
    "STRATEGIES",
    "Addable",
    "Arithmetic",
    "Change",
    "DepthTimes",
    "Depths",
    "Overlapping",
    "PassWalk",
    "Place",
    "Places",
    "Pool",
    "Serial",
    "Strategy",
    "Walk",
    "joined_s",
    "strategy_named",
    "sum_of",
]
