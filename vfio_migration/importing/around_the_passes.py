"""
What lies between `src-downtime-start` and the destination's start, and in no pass and no transfer: a scenario's phases.

Nothing of that is dropped without a word. What the destination takes to load is seen from the source's last byte to
`dst-precopy-loadvm-completed`: two logs, and so two clocks. It is only believed if it is no more than a part of the
rest, beside what the destination's own lines say of loading, or if both also began together: as it is where both clocks
are set by the same server.
"""

from vfio_migration.importing.attempts import LoggedMigration, Window
from vfio_migration.importing.choice import Arrival
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.log_reader import LogEvent
from vfio_migration.wording import ms

_WORTH_SAYING_NS = 50_000
_LEAST_BELIEVED_NS = 50_000_000
_PART_BELIEVED = 0.25  # of what both logs say that the switchover took


def find_phases(
    findings: Findings, migration: LoggedMigration, stop: Window, transfer: Window | None, arrival: Arrival | None
) -> None:
    """Find what is neither a device's nor a handler's, from the source's telling to stop to the destination's start."""
    begin = migration.checkpoint("src-downtime-start")
    if begin is not None:
        _take(findings, "pause_vcpus_s", stop.begin.time_ns - begin.time_ns, "before the machine was told to stop")
    if transfer is None:
        return
    if transfer.begin is not stop.end:
        findings.note(
            f"{ms((transfer.begin.time_ns - stop.end.time_ns) / 1e9)} in the status pre-switchover, in which somebody "
            "had to continue, are no part of this scenario"
        )
    end = migration.checkpoint("src-downtime-end")
    tail_ns = 0 if end is None else max(0, end.time_ns - transfer.end.time_ns)
    loaded = None if arrival is None else _loaded(arrival)
    if begin is not None and arrival is not None and loaded is not None:
        loading_ns = loaded.time_ns - transfer.end.time_ns
        both_ns = transfer.end.time_ns - begin.time_ns + arrival.start.end.time_ns - loaded.time_ns
        began_together = _began_together(migration, arrival.migration)
        believed_ns = (
            loading_ns if began_together else max(_LEAST_BELIEVED_NS, _PART_BELIEVED * both_ns) + findings.loading_ns
        )
        _find_loading(findings, loading_ns, tail_ns, believed_ns)
    elif tail_ns:
        _find_tail(findings, tail_ns)
    if arrival is not None and loaded is not None:
        _find_activation(findings, arrival, loaded)


def took_ns(findings: Findings, migration: LoggedMigration, arrival: Arrival | None) -> int | None:
    """Give what passed from `src-downtime-start` to the destination's running; None: unknown, or with a wait in it."""
    begin = migration.checkpoint("src-downtime-start")
    if begin is None or arrival is None or not findings.one_clock or arrival.migration.left_paused():
        return None
    return arrival.start.end.time_ns - begin.time_ns


def _began_together(source: LoggedMigration, destination: LoggedMigration) -> bool:
    """Whether the destination began, by its clock, while the source set up by its own, as it does by one clock."""
    setup, active, there = (
        source.status_event("setup"),
        source.status_event("active"),
        destination.status_event("active"),
    )
    if setup is None or active is None or there is None:
        return False
    return setup.time_ns - _LEAST_BELIEVED_NS <= there.time_ns <= active.time_ns + _LEAST_BELIEVED_NS


def _find_loading(findings: Findings, loading_ns: int, tail_ns: int, believed_ns: float) -> None:
    """Take the time between the two logs, if their clocks agree as far as can be told."""
    if 0 <= loading_ns <= believed_ns:
        findings.one_clock = True
        findings.add_phase("load_state_s", loading_ns)
        if loading_ns >= _WORTH_SAYING_NS:
            less = ", less what link and loading have of it" if findings.loading_ns else ""
            findings.note(
                f"{ms(loading_ns / 1e9, digits=3)} lie between the last byte of the source and the destination's "
                f"having loaded all, load_state_s of [phases]{less}: as right as the two clocks are alike"
            )
        return
    instead = "what its lines of loading say" if findings.loading_ns else "0"
    findings.note(
        "the clocks of the two logs do not agree: what lies between the last byte of the source and the destination's "
        f"having loaded all is unknown, and {instead} stands for it"
    )
    _find_tail(findings, tail_ns)


def _find_tail(findings: Findings, tail_ns: int) -> None:
    if tail_ns < _WORTH_SAYING_NS * 20:
        findings.add_phase("other_state_s", tail_ns)
    else:
        findings.parameters["return_path"] = True
        findings.note(
            f"the source's downtime ended {ms(tail_ns / 1e9, digits=3)} after its state was sent, as with a return "
            "path, where it waits for the destination's answer: return_path of [parameters], a guess; that wait is no "
            "part of this scenario"
        )


def _find_activation(findings: Findings, arrival: Arrival, loaded: LogEvent) -> None:
    """Take what passes on the destination from having loaded all to telling the machine to start."""
    told = arrival.start.begin
    paused = arrival.migration.left_paused()
    until = told if paused is None else paused
    _take(findings, "activate_block_s", until.time_ns - loaded.time_ns, "before the destination was told to start")
    if paused is not None:
        findings.note(
            f"the destination was told to stay paused (-S), and to start {ms((told.time_ns - paused.time_ns) / 1e9)} "
            "later: that wait is no part of this scenario"
        )


def _loaded(arrival: Arrival) -> LogEvent | None:
    for name in ("dst-precopy-loadvm-completed", "dst-precopy-bh-enter"):
        found = arrival.migration.checkpoint(name)
        if found is not None and found.line <= arrival.start.begin.line:
            return found
    return None


def _take(findings: Findings, name: str, ns: int, where: str) -> None:
    findings.add_phase(name, ns)
    if ns >= _WORTH_SAYING_NS:
        findings.note(f"{ms(ns / 1e9, digits=3)} {where} are {name} of [phases]")
