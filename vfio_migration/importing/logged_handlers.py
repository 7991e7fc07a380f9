"""What ordinary handlers took: as the log says where it has them, else what no device's change covers."""

from collections.abc import Sequence

from vfio_migration.importing.attempts import Window
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.flushed_disks import find_flush, flush_ns
from vfio_migration.importing.log_reader import LogEvent
from vfio_migration.importing.logged_changes import Interval
from vfio_migration.importing.walked_stages import TimedHandler
from vfio_migration.plan import PLAIN
from vfio_migration.wording import ms
from vmstate import depth_of_priority

# How logs of ours call what waits for phases.
_PHASES = {"pause_vcpus": "pause_vcpus_s", "flush_block": "flush_block_s", "load and activate": "activate_block_s"}


def find_handlers(findings: Findings, window: Window, found: Sequence[Interval], *, running: bool) -> None:
    """Find what ordinary handlers took while the machine was told to stop or start, beside these changes in turn."""
    if has_handlers(window):
        find_logged_handlers(findings, window, running=running)
    else:
        _gaps(findings, window, found, running=running)


def has_handlers(window: Window) -> bool:
    """Whether the log says when handlers began and ended."""
    return any(event.name == "handler_begin" for event in window.events)


def find_logged_handlers(findings: Findings, window: Window, *, running: bool) -> list[TimedHandler]:
    """Find what handlers took whose begin and end are logged; gives these calls."""
    begun: dict[tuple[str, int, str], LogEvent] = {}
    calls = []
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
        depth = None if name in _PHASES else depth_of_priority(priority)
        calls.append(TimedHandler(depth, kind == "prepare", first.time_ns, event.time_ns))
        if name in _PHASES:
            findings.add_phase(_PHASES[name], event.time_ns - first.time_ns)
            continue
        plain = not depth  # a device on no bus comes before all others too, and a tree has no place for it
        findings.add_handler(
            name,
            PLAIN if plain else depth or 0,
            (0 if depth == 0 else priority) if plain else None,
            _key(running=running, prepares=kind == "prepare"),
            event.time_ns - first.time_ns,
        )
    return calls


def _gaps(findings: Findings, window: Window, found: Sequence[Interval], *, running: bool) -> None:
    """Take what no device's change covers for the time of ordinary handlers; at the end of a stop, of the disks."""
    ordered = sorted(found, key=lambda each: (each.start_ns, each.end_ns))
    end_ns = window.end.time_ns
    if not running and ordered:
        flushed_ns = flush_ns(window)
        find_flush(findings, flushed_ns)
        end_ns -= flushed_ns
    reached, last = window.begin.time_ns, None
    total = 0
    for each in [*ordered, None]:
        until = end_ns if each is None else each.start_ns
        if until > reached:
            depth = _depth_of_gap(findings, last, each, running=running)
            key = _key(running=running, prepares=each is not None and each.prepares)
            name = "handlers" if depth == PLAIN else f"handlers at depth {depth}"
            findings.add_handler(name, depth, 0 if depth == PLAIN else None, key, until - reached)
            total += until - reached
        if each is not None and each.end_ns > reached:
            reached, last = each.end_ns, each
    if total:
        findings.note(
            f"{ms(total / 1e9, digits=3)} on the {'destination' if running else 'source'} lie between the devices' "
            "changes; they are taken for ordinary handlers, beside the devices where both neighbours are at the same "
            "depth, else at a depth of their own"
        )


def _depth_of_gap(findings: Findings, last: Interval | None, following: Interval | None, *, running: bool) -> int:
    """Say where handlers lie between two changes; where a pass or a depth ends, they overlap no device."""
    deeper = max(each.depth for each in findings.devices.values()) + 1
    if following is None:
        return deeper if running else PLAIN
    if last is None or last.prepares != following.prepares:
        return PLAIN if running else deeper
    above, below = (findings.devices[each.device].depth for each in (last, following))
    return above if above == below else PLAIN


def _key(*, running: bool, prepares: bool) -> str:
    return ("prepare_" if prepares else "") + ("start" if running else "stop")
