"""A strategy by its name."""

import re

from vfio_migration.strategies.base import Strategy
from vfio_migration.strategies.depths import Depths
from vfio_migration.strategies.overlapping import Overlapping
from vfio_migration.strategies.pool import Pool
from vfio_migration.strategies.serial import Serial

DEFAULT_STRATEGY: Strategy = Depths()
_BY_NAME: dict[str, Strategy] = {each.name: each for each in (Serial(), DEFAULT_STRATEGY, Overlapping())}
# How they are called, for people.
STRATEGIES = (*_BY_NAME, "pool:N")
_POOL = re.compile(r"pool:([0-9]{1,9})")


def strategy_named(name: str) -> Strategy:
    """
    Give the strategy of a name, such as `overlapping` or `pool:4`.

    Raises:
        ValueError: there is none.

    """
    if isinstance(name, str):
        if name in _BY_NAME:
            return _BY_NAME[name]
        match = _POOL.fullmatch(name)
        if match is not None and int(match[1]) > 0:
            return Pool(int(match[1]))
    *most, last = (f"'{each}'" for each in STRATEGIES)
    raise ValueError(f"expected a strategy, {', '.join(most)} or {last} with N of 1 or more, got {name!r}")
