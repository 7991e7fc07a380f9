"""
Phases beside what was found in bytes: memory, the link and loading take their time out of the phases that they were in.

A log shows times; what memory, link and loading have of them follows from a plan with the sizes and rates that it also
shows. So the switchover is as long as it was, and what a faster link would do can be asked.
"""

from collections.abc import Callable, Mapping

from vfio_migration.importing.findings import Findings
from vfio_migration.importing.fitted_loading import fit_loading
from vfio_migration.plan import blackout_parts
from vfio_migration.scenarios import Scenario
from vfio_migration.wording import ms
from vmstate import NS_PER_SECOND

_MOST_ROUNDS = 4  # shorter phases leave the destination less time to load, which is itself a part
_TRANSFER, _START = "transfer_s", "destination_start_s"
# Whose times are in which phases, the likeliest first.
_PHASES = {_TRANSFER: ("final_query_s", "other_state_s"), _START: ("load_state_s",)}
_WORTH_SAYING_NS = 50_000


def fit_phases(findings: Findings, make: Callable[[], Scenario]) -> Scenario:
    """
    Give the scenario that `make` makes of the findings, as long as it is without memory, link and loading.

    Raises:
        LogImportError: as `make` does.

    """
    if not (findings.link or any(each.write_rate or each.config_load_ns for each in findings.devices.values())):
        return make()
    expected = _parts_ns(_without_sizes(findings, make))
    if not findings.one_clock:
        del expected[_START]  # no log says how long it took from the last byte on
    had = dict(findings.phases)
    scenario = _fitted(findings, make, expected)
    too_long_ns = 0 if scenario is None else _beyond_ns(scenario, {_TRANSFER: expected[_TRANSFER]})
    if findings.ram_size is not None and findings.link and (scenario is None or too_long_ns > _WORTH_SAYING_NS):
        left = "never be decided" if scenario is None else f"take {ms(too_long_ns / 1e9)} longer"
        findings.note(
            f"with the memory, the dirtying and the link that the log shows, the switchover would {left}: memory is "
            "not written, and what its rest took is in final_query_s (beside threads that save: in other_state_s)"
        )
        findings.ram_size = findings.dirty_rate = None
        findings.phases = dict(had)
        scenario = _fitted(findings, make, expected)
    if scenario is None:
        findings.note("with the link that the log shows, the switchover would never be decided: it is not written")
        findings.link.clear()
        scenario = _fitted(findings, make, expected) or make()
    fit_loading(findings, lambda: _beyond_ns(make(), expected))
    scenario = make()
    left_ns = _beyond_ns(scenario, expected)
    if left_ns > _WORTH_SAYING_NS:
        findings.note(
            f"link and loading would take {ms(left_ns / 1e9, digits=3)} longer than the log says: the guess of one of "
            "them is too slow"
        )
    return scenario


def _fitted(findings: Findings, make: Callable[[], Scenario], expected: Mapping[str, int]) -> Scenario | None:
    """Shorten phases until the scenario is as long as expected, or none is left; None: it has no switchover."""
    scenario = make()
    if scenario.plan().never:
        return None
    for _ in range(_MOST_ROUNDS):
        # All of them, whether or not one has changed.
        parts = _parts_ns(scenario)
        changed = [_shortened(findings, part, parts[part] - ns) for part, ns in expected.items()]
        if not any(changed):
            break
        scenario = make()
    return scenario


def _beyond_ns(scenario: Scenario, expected: Mapping[str, int]) -> int:
    parts = _parts_ns(scenario)
    return sum(parts[part] - ns for part, ns in expected.items())


def _without_sizes(findings: Findings, make: Callable[[], Scenario]) -> Scenario:
    findings.with_sizes = False
    try:
        return make()
    finally:
        findings.with_sizes = True


def _parts_ns(scenario: Scenario) -> dict[str, int]:
    """Give what the transfer and the destination's start take beside the passes, whatever is parallel in them."""
    found = dict.fromkeys(_PHASES, 0.0)
    for each in blackout_parts(scenario.plan()):
        if each.part in found and each.what not in ("prepare", "main"):
            found[each.part] += each.seconds
    return {part: round(seconds * NS_PER_SECOND) for part, seconds in found.items()}


def _shortened(findings: Findings, part: str, ns: int) -> bool:
    """Shorten a part's phases by so much, or lengthen the first of them; whether anything has changed."""
    changed = False
    for phase in _PHASES[part]:
        had = findings.phases.get(phase, 0)
        taken = min(ns, had)
        if taken:
            findings.phases[phase] = had - taken
            ns -= taken
            changed = True
    return changed
