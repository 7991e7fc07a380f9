"""Which migration of a destination's log belongs to which of the source's, where both hold several."""

from collections.abc import Sequence

_COMPLETED = "completed"


def destinations_of(source: Sequence[str], destination: Sequence[str]) -> dict[int, int | None]:
    """
    Give for each of the source's migrations that completed the destination's, both by number, from 1; None: unknown.

    Both are given by their statuses, in the logs' order. As many in both logs belong together in turn, and so do as
    many that completed, where a destination did not live to see those that did not. Else only the last ones do.
    """
    here = [number for number, status in enumerate(source, 1) if status == _COMPLETED]
    there = [number for number, status in enumerate(destination, 1) if status == _COMPLETED]
    if len(source) == len(destination):
        return {number: number if number in there else None for number in here}
    if len(here) == len(there):
        return dict(zip(here, there, strict=True))
    found: dict[int, int | None] = dict.fromkeys(here)
    if here and there:
        found[here[-1]] = there[-1]
    return found
