"""What ordinary handlers took: as the log says where it has them, else what no device's change covers."""

from collections.abc import Sequence

from vfio_migration.importing.attempts import Window
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.log_reader import LogEvent
from vfio_migration.importing.logged_changes import Interval, together
from vfio_migration.plan import PLAIN
from vfio_migration.wording import ms
from vmstate import depth_of_priority

# How logs of ours call what waits for phases.
_PHASES = {"pause_vcpus": "pause_vcpus_s", "flush_block": "flush_block_s", "load and activate": "activate_block_s"}


def find_handlers(findings: Findings, window: Window, found: Sequence[Interval], *, running: bool) -> None:
    """Find what ordinary handlers took while the machine was told to stop or start, beside these changes."""
    if any(event.name == "handler_begin" for event in window.events):
        _exact_handlers(findings, window, running=running)
    else:
        _gaps(findings, window, found, running=running)


def _exact_handlers(findings: Findings, window: Window, *, running: bool) -> None:
    begun: dict[tuple[str, int, str], LogEvent] = {}
    for event in window.events:
        if event.name not in ("handler_begin", "handler_end") or event.fields["kind"] not in ("prepare", "main"):
            continue
        name, priority, kind = (event.fields[each] for each in ("handler", "priority", "kind"))
        if event.name == "handler_begin":
            begun[name, priority, kind] = event
            continue
        first = begun.pop((name, priority, kind), None)
        if first is None or name in findings.devices:
            continue
        if name in _PHASES:
            findings.add_phase(_PHASES[name], event.time_ns - first.time_ns)
            continue
        depth = depth_of_priority(priority)
        plain = not depth  # a device on no bus comes before all others too, and a tree has no place for it
        findings.add_handler(
            name,
            PLAIN if plain else depth or 0,
            (0 if depth == 0 else priority) if plain else None,
            _key(running=running, prepares=kind == "prepare"),
            event.time_ns - first.time_ns,
        )


def _gaps(findings: Findings, window: Window, found: Sequence[Interval], *, running: bool) -> None:
    """Take what no device's change covers for the time of ordinary handlers."""
    ordered = sorted(found, key=lambda each: (each.start_ns, each.end_ns))
    reached, last = window.begin.time_ns, None
    total = 0
    for each in [*ordered, None]:
        until = window.end.time_ns if each is None else each.start_ns
        if until > reached:
            depth = _depth_of_gap(findings, last, each, running=running)
            key = _key(running=running, prepares=each is not None and each.prepares)
            name = "handlers" if depth == PLAIN else f"handlers at depth {depth}"
            findings.add_handler(name, depth, 0 if depth == PLAIN else None, key, until - reached)
            total += until - reached
        if each is not None and each.end_ns > reached:
            reached, last = each.end_ns, each
    side = "destination" if running else "source"
    if total:
        findings.note(
            f"{ms(total / 1e9, digits=3)} on the {side} lie between the devices' changes; they are taken for ordinary "
            "handlers, beside the devices where both neighbours are at the same depth, else at a depth of their own"
            if not findings.overlapping
            else f"{ms(total / 1e9, digits=3)} on the {side} lie between the devices' changes; they are taken for "
            "ordinary handlers, none of them beside a device"
        )
    if findings.overlapping:
        _launches(findings, ordered, side, running=running)


def _launches(findings: Findings, ordered: Sequence[Interval], side: str, *, running: bool) -> None:
    """Take by how much devices that change together take longer than the slowest of them: they begin in turn."""
    beyond: dict[bool, int] = {}
    for stage in together(ordered):
        whole = max(each.end_ns for each in stage) - stage[0].start_ns
        prepares = stage[0].prepares
        beyond[prepares] = beyond.get(prepares, 0) + whole - max(each.ns for each in stage)
    for prepares, ns in beyond.items():
        findings.add_handler("launch and join", PLAIN, 0, _key(running=running, prepares=prepares), ns)
    if any(beyond.values()):
        findings.note(
            f"{ms(sum(beyond.values()) / 1e9, digits=3)} on the {side} went by as threads were launched and joined, "
            "beyond what the slowest device of each depth took: a handler of its own, which changes in turn have not"
        )


def _depth_of_gap(findings: Findings, last: Interval | None, following: Interval | None, *, running: bool) -> int:
    """Say where handlers lie between two changes; at the ends of a pass, where they overlap no device."""
    deeper = max(each.depth for each in findings.devices.values()) + 1
    if following is None:
        return deeper if running else PLAIN
    if last is None or last.prepares != following.prepares or findings.overlapping:
        return PLAIN if running or findings.overlapping else deeper
    above, below = sorted((findings.devices[last.device].depth, findings.devices[following.device].depth))
    return (above + below) // 2


def _key(*, running: bool, prepares: bool) -> str:
    return ("prepare_" if prepares else "") + ("start" if running else "stop")
