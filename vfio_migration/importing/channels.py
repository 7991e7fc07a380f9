"""Multifd: which devices were saved by threads of their own, and over how many channels."""

from vfio_migration.importing.attempts import Window
from vfio_migration.importing.findings import Findings


def find_channels(findings: Findings, transfer: Window) -> None:
    """
    Find how many multifd channels there were, if the log shows that threads saved devices.

    What QEMU writes of VFIO does not say it; our own logs do. Without a link it makes no difference.
    """
    threads = sum(device.in_thread for device in findings.devices.values())
    if not threads:
        return
    seen = [event.fields["channel"] for event in transfer.events if event.name == "multifd_send_end"]
    findings.channels = max(seen) + 1 if seen else threads
    findings.note(
        f"threads saved {threads} of {len(findings.devices)} devices, over multifd channels: there are taken to be "
        f"{findings.channels} (multifd_channels of [parameters]), "
        + ("as that many were used" if seen else "one for each thread, a guess")
    )
