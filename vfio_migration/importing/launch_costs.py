"""
What launching and joining threads cost, from logs of changes that overlap: `launch_s` and `join_s` of `[phases]`.

A log shows neither. How far apart the requests of a stage are says what a launch takes; what lies between the last end
of one stage and that of the next, beyond what the slowest device and the launches account for, says what a join takes.
Medians over the stages are taken, as a stage now and then is held up by something else, and no more than leaves each
side as long as it was. What remains is said to be handlers'.
"""

from collections.abc import Callable, Sequence
from statistics import median

from vfio_migration.importing.findings import Findings
from vfio_migration.importing.flushed_disks import find_flush, flush_ns
from vfio_migration.importing.walked_stages import Stage, WalkedSide
from vfio_migration.plan import PLAIN
from vfio_migration.wording import ms

_LONGEST_NS = 1e9  # more for one join is no cost of joining
_STEPS = 60  # of halving: far below a nanosecond


def find_launch_costs(findings: Findings, sides: Sequence[WalkedSide]) -> None:
    """Find what launching and joining took, and what remains of each of these sides."""
    spacings = [spacing for side in sides for stage in side.stages if (spacing := _spacing(stage)) is not None]
    launch_ns = median(spacings) if spacings else 0.0
    joins = [_join_ns(side, place, launch_ns) for side in sides for place in range(1, len(side.stages))]
    join_ns = median(joins) if joins else 0.0
    for side in sides:
        if not side.handlers:
            launch_ns, join_ns = _no_longer_than(side, launch_ns, join_ns)
    findings.add_phase("launch_s", round(launch_ns))
    findings.add_phase("join_s", round(join_ns))
    _note_costs(findings, launch_ns, join_ns)
    if join_ns and not spacings:
        findings.note(
            "no two devices changed at the same depth: what a thread costs that is alone is all in join_s, and beside "
            "others it may be less"
        )
    for side in sides:
        if not side.handlers:
            _find_rest(findings, side, launch_ns, join_ns)


def _note_costs(findings: Findings, launch_ns: float, join_ns: float) -> None:
    if not (launch_ns or join_ns):
        return
    findings.note(
        f"launching a thread is taken to cost {ms(launch_ns / 1e9, digits=3)} and joining it "
        f"{ms(join_ns / 1e9, digits=3)}, launch_s and join_s of [phases]: a guess from how far apart requests are, and "
        "what each depth took beyond its slowest device; changes in turn have neither"
    )


def _spacing(stage: Stage) -> float | None:
    starts = [each.start_ns for each in stage.threads]
    return (max(starts) - min(starts)) / (len(starts) - 1) if len(starts) > 1 else None


def _join_ns(side: WalkedSide, place: int, launch_ns: float) -> float:
    """Give what joining takes if all from the last end of the stage before to that of this one is accounted for."""
    before, stage = side.stages[place - 1 : place + 1]
    took_ns = stage.end_ns - before.end_ns - _between_ns(side, before, stage)

    def enough(join_ns: float) -> bool:
        last, joined = before.walked(launch_ns, join_ns)
        return joined - last + stage.walked(launch_ns, join_ns)[0] >= took_ns

    return _least(enough)


def _between_ns(side: WalkedSide, before: Stage, stage: Stage) -> int:
    """Give what handlers took that the log shows at neither's depth."""
    theirs = {(each.prepares, each.depth) for each in (before, stage)}
    return sum(
        each.end_ns - each.start_ns
        for each in side.handlers
        if before.end_ns <= each.start_ns and each.end_ns <= stage.end_ns and (each.prepares, each.depth) not in theirs
    )


def _no_longer_than(side: WalkedSide, launch_ns: float, join_ns: float) -> tuple[float, float]:
    """Take so much of both that the side is no longer than it was."""
    whole_ns = side.window.seconds * 1e9
    if _walked_ns(side.stages, launch_ns, join_ns) <= whole_ns:
        return launch_ns, join_ns
    part = _least(lambda part: _walked_ns(side.stages, launch_ns * part, join_ns * part) >= whole_ns, 1.0)
    return launch_ns * part, join_ns * part


def _find_rest(findings: Findings, side: WalkedSide, launch_ns: float, join_ns: float) -> None:
    """Take what the stages do not account for; of the source's, what comes after all changes is the disks'."""
    window = side.window
    prepared = [stage for stage in side.stages if stage.prepares]
    until_ns = max((stage.end_ns for stage in prepared), default=window.begin.time_ns)
    rests = [
        max(0.0, until_ns - window.begin.time_ns - _walked_ns(prepared, launch_ns, join_ns)),
        max(0.0, window.end.time_ns - until_ns - _walked_ns(side.stages[len(prepared) :], launch_ns, join_ns)),
    ]
    whole_ns = max(0.0, window.seconds * 1e9 - _walked_ns(side.stages, launch_ns, join_ns))
    prepare_ns, main_ns = (round(rest * whole_ns / sum(rests)) if any(rests) else 0 for rest in rests)
    if not side.running:
        flushed_ns = min(main_ns, flush_ns(window))
        find_flush(findings, flushed_ns)
        main_ns -= flushed_ns
    verb = "start" if side.running else "stop"
    findings.add_handler("handlers", PLAIN, 0, f"prepare_{verb}", prepare_ns)
    findings.add_handler("handlers", PLAIN, 0, verb, main_ns)
    if prepare_ns + main_ns:
        findings.note(
            f"{ms((prepare_ns + main_ns) / 1e9, digits=3)} on the {side.name} lie beside the devices' changes and "
            "their threads; they are taken for ordinary handlers, none of them beside a device"
        )


def _walked_ns(stages: Sequence[Stage], launch_ns: float, join_ns: float) -> float:
    return sum(stage.walked(launch_ns, join_ns)[1] for stage in stages)


def _least(enough: Callable[[float], bool], most: float = _LONGEST_NS) -> float:
    """Give the least that is enough, of what is the more so the more it is."""
    low, high = 0.0, most
    if enough(low):
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return low
