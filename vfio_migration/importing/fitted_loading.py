"""
Loading beside what was found of the source: no slower than the time that the logs have for it.

What the lines of loading have of waiting makes it look slow, and how the first of it began is not said. So the rates
are raised together until what is still to be loaded after the source's last byte takes as long as it did.
"""

from collections.abc import Callable

from vfio_migration.importing.findings import Findings

_EXACT_NS = 1_000  # as exact as a log's times are
_MOST_STEPS = 30


def fit_loading(findings: Findings, beyond_ns: Callable[[], int]) -> None:
    """Raise the rates at which states load, if there are any; `beyond_ns` says by how much the scenario is too long."""
    found = {name: device.write_rate for name, device in findings.devices.items() if device.write_rate}
    if not found or beyond_ns() <= _EXACT_NS:
        return

    def too_long(share: float) -> int:
        """Have each byte take this share of the time that was found for it."""
        for name, rate in found.items():
            findings.devices[name].write_rate = rate / share if share else None
        return beyond_ns()

    low, high = 0.0, 1.0
    low_ns, high_ns = too_long(low), too_long(high)
    if low_ns >= 0:
        return  # it is not the loading that is too slow
    for _ in range(_MOST_STEPS):
        share = low + (high - low) * -low_ns / (high_ns - low_ns)
        ns = too_long(share)
        if abs(ns) <= _EXACT_NS:
            break
        # Of the end that stays, half is believed, or it would stay for ever (the Illinois rule).
        if ns > 0:
            high, high_ns, low_ns = share, ns, min(-1, low_ns // 2)
        else:
            low, low_ns, high_ns = share, ns, max(1, high_ns // 2)
