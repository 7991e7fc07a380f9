"""How much time spans cover that may overlap."""

from collections.abc import Iterable


def covered_ns(spans: Iterable[tuple[int, int]]) -> int:
    """Give how much time at least one of the spans covers."""
    covered, reached = 0, None
    for first, last in sorted(spans):
        begins = first if reached is None else max(first, reached)
        covered += max(0, last - begins)
        reached = last if reached is None else max(reached, last)
    return covered
