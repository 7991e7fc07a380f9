"""What the tests of imported logs share: the captures of a real QEMU, logs of runs, and a writer of logs by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from suite import DATA, ROOT
from vfio_migration.recorded.qemu_log import format_log
from vfio_migration.scenarios.model import Scenario
from vfio_migration.scenarios.runner import run_once
from vmstate import VirtualClock

CAPTURES = DATA / "qemu-11.1.3"
HOST_QTREE = ROOT / "vfio_migration" / "scenarios" / "bundled" / "host.qtree.txt"


def logs_of_run(scenario: Scenario, folder: Path) -> tuple[Path, Path]:
    """Run a scenario in virtual time, and write both sides' logs."""
    run = run_once(scenario, VirtualClock())
    assert run.completed
    files = folder / "run-src.log", folder / "run-dst.log"
    for file, machine in zip(files, ("source", "destination"), strict=True):
        file.write_text(format_log(run.events, machine), encoding="utf-8")
    return files


class HandWritten:
    """A log written line by line; times in milliseconds, beginning where it likes."""

    def __init__(self, style: str = "iso") -> None:
        self.style = style
        self.ms = 0.0
        self.lines: list[str] = []

    def add(self, *lines: str, wait: float = 0.0) -> None:
        """Write lines, after so many milliseconds."""
        self.ms += wait
        moment = datetime(2026, 11, 23, 18, 9, 25, tzinfo=UTC) + timedelta(milliseconds=self.ms)
        prefix = {
            "iso": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ "),
            "old": f"4711@{int(moment.timestamp())}.{moment.microsecond:06}:",
            "none": "",
        }[self.style]
        self.lines += [prefix + line for line in lines]

    def change(self, device: str, state: str, ms: float, *, running: int, reason: str, detail: bool = True) -> None:
        """Write a device's change of state in a handler."""
        if detail:
            self.add(f"vfio_migration_set_state  ({device}) new state {state}, recover state ERROR")
        self.add(wait=ms)
        if detail:
            self.add(f"vfio_migration_set_device_state  ({device}) state {state}")
        event = "vfio_vmstate_change_prepare" if state.endswith("P2P") else "vfio_vmstate_change"
        self.add(f"{event}  ({device}) running {running} reason {reason} device state {state}")

    def write(self, file: Path) -> Path:
        """Write the file."""
        file.write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")
        return file


def source_log(
    devices: dict[str, tuple[float, float, float]],
    *,
    style: str = "iso",
    precopy: bool = True,
    p2p: bool = True,
    detail: bool = True,
    stop_copy_ms: float = 0.0,
    handlers_ms: float = 0.0,
) -> HandWritten:
    """Write a source's log: prepare, main and saving of each device take so many milliseconds."""
    log = HandWritten(style)
    log.add("migrate_set_state new state setup")
    if precopy and detail:
        for device in devices:
            log.add(f"vfio_migration_set_state  ({device}) new state PRE_COPY, recover state RUNNING")
            log.add(f"vfio_migration_set_device_state  ({device}) state PRE_COPY", wait=2)
    log.add("migrate_set_state new state active", "virtio_set_status vdev 0x55ee val 15", wait=1)
    log.add("vmstate_downtime_checkpoint src-downtime-start", wait=50)
    log.add("runstate_set current_run_state 9 (running) new_state 7 (finish-migrate)")
    log.add("vm_state_notify running 0 reason 7 (finish-migrate)")
    if p2p:
        for device, (ms, _, _) in reversed(devices.items()):
            state = "PRE_COPY_P2P" if precopy else "RUNNING_P2P"
            log.change(device, state, ms, running=0, reason="finish-migrate", detail=detail)
    for device, (_, ms, _) in reversed(devices.items()):
        state = "STOP_COPY" if precopy else "STOP"
        log.change(device, state, ms, running=0, reason="finish-migrate", detail=detail)
    log.add("vmstate_downtime_checkpoint src-vm-stopped", wait=handlers_ms)
    log.add("migration_completion_vm_stop ret 0", "migrate_set_state new state device")
    for device, (_, _, ms) in devices.items():
        log.add(f"vfio_save_complete_precopy_start  ({device})")
        log.add(f"vfio_migration_set_state  ({device}) new state STOP_COPY, recover state STOP")
        if not precopy:
            log.add(f"vfio_migration_set_device_state  ({device}) state STOP_COPY", wait=stop_copy_ms)
        log.add(f"vfio_save_complete_precopy  ({device}) ret 0", wait=ms)
    log.add("vmstate_downtime_checkpoint src-iterable-saved", "vmstate_downtime_checkpoint src-non-iterable-saved")
    log.add("vmstate_downtime_checkpoint src-downtime-end", "migrate_set_state new state completed")
    log.add("runstate_set current_run_state 7 (finish-migrate) new_state 5 (postmigrate)")
    return log


def destination_log(
    devices: dict[str, tuple[float, float]], *, style: str = "iso", p2p: bool = True, detail: bool = True
) -> HandWritten:
    """Write a destination's log, by another clock: prepare and main of each device take so many milliseconds."""
    log = HandWritten(style)
    log.ms = -3_600_000
    log.add("migrate_set_state new state setup")
    if detail:
        for device in devices:
            log.add(f"vfio_migration_set_state  ({device}) new state RESUMING, recover state RUNNING")
            log.add(f"vfio_migration_set_device_state  ({device}) state RESUMING", wait=1)
    log.add("migrate_set_state new state active", wait=1)
    log.add(
        "vmstate_downtime_checkpoint dst-precopy-loadvm-completed", "vmstate_downtime_checkpoint dst-precopy-bh-enter"
    )
    log.add("vmstate_downtime_checkpoint dst-precopy-bh-announced", wait=1)
    log.add("runstate_set current_run_state 1 (inmigrate) new_state 9 (running)")
    log.add("vm_state_notify running 1 reason 9 (running)")
    if p2p:
        for device, (ms, _) in devices.items():
            log.change(device, "RUNNING_P2P", ms, running=1, reason="running", detail=detail)
    for device, (_, ms) in devices.items():
        log.change(device, "RUNNING", ms, running=1, reason="running", detail=detail)
    log.add("vmstate_downtime_checkpoint dst-precopy-bh-vm-started", "migrate_set_state new state completed")
    return log
