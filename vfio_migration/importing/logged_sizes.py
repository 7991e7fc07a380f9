"""
What logs say in bytes: states and their loading, memory and what dirties it, the link, the limit of the downtime.

Only what has a line (or, for memory's size, a place in the tree) is taken; what has none stays a time.
"""

from collections.abc import Iterable, Mapping

from vfio_migration.importing.attempts import LoggedMigration, Window
from vfio_migration.importing.choice import Arrival
from vfio_migration.importing.findings import Findings
from vfio_migration.importing.loaded_states import find_loading
from vfio_migration.importing.log_reader import LogEvent
from vfio_migration.wording import ms
from vmstate import NS_PER_SECOND

_PAGE = 4096  # bytes, of what is dirtied
_MS_PER_SECOND = 1000
_EXACT = ("vfio_state_pending", "vfio_state_pending_exact", "vfio_query_stop_copy_size")
_SENT = ("vfio_save_block", "multifd_send_end")


def find_sizes(
    findings: Findings, migration: LoggedMigration, stop: Window, arrival: Arrival | None, names: Mapping[str, str]
) -> None:
    """Find what the logs say of sizes and rates; `names` gives the name on the source for each on the destination."""
    _find_states(findings, migration.events, stop)
    before = [event for event in migration.events if event.line <= stop.begin.line]
    _find_link(findings, before)
    _find_dirtying(findings, before)
    if not findings.link:
        _note_least_bandwidth(findings, migration)
    if arrival is not None:
        find_loading(findings, arrival.migration.events, names)
    _note_unsaid(findings)


def _find_states(findings: Findings, events: Iterable[LogEvent], stop: Window) -> None:
    """Take what was sent of each device after the stop; without such lines, what it said that it would have to send."""
    sent: dict[str, int] = {}
    said: dict[str, int] = {}
    for event in events:
        if event.name in _SENT and event.line >= stop.end.line:
            sent[event.fields["device"]] = sent.get(event.fields["device"], 0) + event.fields["size"]
        elif event.name in _EXACT and event.fields["size"]:
            said[event.fields["device"]] = event.fields["size"]
    for name, device in findings.devices.items():
        device.state_size = sent.get(name) or said.get(name)
    if any(name in said and not sent.get(name) for name in findings.devices):
        findings.note(
            "the size of a state is what its device said that it would have to send, where no line says what was sent "
            "(-trace vfio_save_block): a guess"
        )


def _find_link(findings: Findings, before: Iterable[LogEvent]) -> None:
    """Take the fastest window of pre-copy for the link, and the limit that its threshold was reckoned with."""
    windows = [
        event.fields for event in before if event.name == "migrate_transferred" and event.fields["bandwidth"] > 0
    ]
    if not windows:
        return
    fastest = max(each["bandwidth"] for each in windows)
    findings.link["bandwidth"] = fastest * _MS_PER_SECOND
    last = windows[-1]
    given = last.get("switchover_bandwidth", 0)
    if given > 0:
        findings.parameters["switchover_bandwidth"] = given * _MS_PER_SECOND
    if last["max_size"] > 0:
        findings.parameters["downtime_limit_s"] = (
            round(last["max_size"] / (given or last["bandwidth"])) / _MS_PER_SECOND
        )
    findings.note(
        f"the link's bandwidth is what the fastest window of pre-copy reached, {fastest * _MS_PER_SECOND:,} bytes per "
        "second: a guess, as a link may do more than it was asked for; its latency is in load_state_s"
    )


def _note_least_bandwidth(findings: Findings, migration: LoggedMigration) -> None:
    """Say what the link would be if all of memory had been sent once in pre-copy; that is no more than a hint."""
    active = next(
        (e for e in migration.events if e.name == "migrate_set_state" and e.fields["new_state"] == "active"), None
    )
    stopped = migration.checkpoint("src-downtime-start")
    if not findings.ram_size or active is None or stopped is None or stopped.time_ns <= active.time_ns:
        return
    ns = stopped.time_ns - active.time_ns
    bandwidth = findings.ram_size * NS_PER_SECOND / ns
    findings.note(
        f"{findings.ram_size:,} bytes of memory went by in {ms(ns / 1e9, digits=3)} of pre-copy: if each was sent "
        f"once, that is {bandwidth:.3g} bytes per second for bandwidth of [link]; a guess that is not taken, as pages "
        "of zeros and what was dirtied again are in it"
    )


def _find_dirtying(findings: Findings, before: Iterable[LogEvent]) -> None:
    """Take what was dirty at the last look at it, by the time since the one before."""
    looks = [event for event in before if event.name == "migration_bitmap_sync_end"]
    if len(looks) < 2 or looks[-1].time_ns <= looks[-2].time_ns:  # noqa: PLR2004 - the first finds all of memory dirty
        return
    since_s = (looks[-1].time_ns - looks[-2].time_ns) / NS_PER_SECOND
    findings.dirty_rate = looks[-1].fields["dirty_pages"] * _PAGE / since_s
    findings.note(
        f"the guest is taken to dirty {findings.dirty_rate:,.0f} bytes per second, as it did between the last two "
        f"looks at it, in pages of {_PAGE:,} bytes: a guess, as it goes by what the guest does"
    )


def _note_unsaid(findings: Findings) -> None:
    devices = findings.devices.values()
    unsaid = {
        "how large memory is (--qtree)": findings.ram_size is None,
        "how fast the guest dirties memory (-trace migration_bitmap_sync_end)": findings.dirty_rate is None,
        "what the link does (-trace migrate_transferred)": not findings.link,
        "how large states are (-trace vfio_save_block)": any(each.state_size is None for each in devices),
        "how long loading them takes (-trace 'vfio_load_*')": all(each.write_rate is None for each in devices),
    }
    said = [what for what, is_unsaid in unsaid.items() if is_unsaid]
    if said:
        findings.note(
            f"the logs do not say {', '.join(said)}; what that took is in the times that they do say: rate, "
            "final_query_s (with memory's rest), other_state_s, load_state_s, RESUMING -> STOP"
        )
