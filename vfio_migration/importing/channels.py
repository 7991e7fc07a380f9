"""Multifd: which devices were saved by threads of their own, and over how many channels."""

from vfio_migration.importing.attempts import LoggedMigration
from vfio_migration.importing.findings import Findings

_OF_CHANNELS = ("multifd_send_end", "multifd_send_thread_start")


def find_channels(findings: Findings, migration: LoggedMigration) -> None:
    """
    Find how many multifd channels there were, if the log shows that threads saved devices.

    What QEMU writes of VFIO does not say it; its channels' own lines do, and logs of ours. Without a link it makes no
    difference.
    """
    threads = sum(device.in_thread for device in findings.devices.values())
    if not threads:
        return
    seen = [event.fields["channel"] for event in migration.events if event.name in _OF_CHANNELS]
    findings.channels = max(seen) + 1 if seen else threads
    findings.note(
        f"threads saved {threads} of {len(findings.devices)} devices, over multifd channels: there are taken to be "
        f"{findings.channels} (multifd_channels of [parameters]), "
        + ("as that many were used" if seen else "one for each thread, a guess (-trace multifd_send_thread_start)")
    )
