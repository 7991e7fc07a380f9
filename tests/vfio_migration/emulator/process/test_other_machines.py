"""Processes whose machines do not go together: what both say, as a QEMU 11.1.3 that was given such pairs did."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from suite.emulators import VFS, Emulator, Emulators

pytestmark = pytest.mark.slow
RAM = "error while loading state for instance 0x0 of device 'ram': Failed to load vmstate version_id: 4, ret: -22"


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with tempfile.TemporaryDirectory(prefix="emu") as folder, Emulators(Path(folder)) as started:
        yield started


def slowly(source: Emulator) -> None:
    """Have memory take so long that a destination has failed before, however busy the machine is."""
    source.qmp.execute("migrate-set-parameters", max_bandwidth=50_000)


@pytest.mark.parametrize("return_path", [False, True])
def test_less_memory_at_the_destination(return_path: bool, emulators: Emulators) -> None:
    source = emulators.start("src", *VFS)
    destination = emulators.start("dst", *VFS, "-m", "32", "-incoming", "unix:m.sock")
    if return_path:
        source.capability("return-path")
    slowly(source)
    source.qmp.execute("migrate", uri="unix:m.sock")
    source.qmp.wait_for("MIGRATION", status="failed")
    assert source.qmp.statuses() == ["setup", "active", "failing", "failed"]
    assert not [each for each in source.qmp.events if each["event"] == "STOP"]
    words = "Sibling indicated error 1" if return_path else "Unable to write to socket: Broken pipe"
    assert source.qmp.execute("query-migrate") == {"status": "failed", "error-desc": words}
    assert source.qmp.execute("query-status")["running"]
    exit_status, errors = destination.end()
    assert exit_status == 1
    printed = [line.partition(": ")[2] for line in errors.splitlines() if "warning" not in line]
    assert printed == [
        "Size mismatch: pc.ram: 0x4000000 != 0x2000000: Invalid argument",
        f"load of migration failed: Invalid argument: {RAM}",
    ]


def test_another_machine_at_the_destination_that_stays(emulators: Emulators) -> None:
    source = emulators.start("src", "-device", "vfio-pci,id=vf0")
    destination = emulators.start("dst", "-machine", "pc", "-device", "vfio-pci,id=vf0", "-incoming", "defer")
    destination.qmp.execute("migrate-incoming", uri="unix:m.sock", exit_on_error=False)
    slowly(source)
    source.qmp.execute("migrate", uri="unix:m.sock")
    source.qmp.wait_for("MIGRATION", status="failed")
    destination.qmp.wait_for("MIGRATION", status="failed")
    assert destination.qmp.statuses() == ["setup", "active", "failed"]
    assert destination.qmp.execute("query-migrate")["error-desc"] == (
        "load of migration failed: Invalid argument: post load hook failed for: configuration, version_id: 1, "
        "minimum_version: 0: Machine type received is 'pc-q35-11.1' and local is 'pc-i440fx-11.1'"
    )
    again = emulators.start("again", "-device", "vfio-pci,id=vf0", "-incoming", "unix:again.sock")
    source.qmp.events.clear()
    source.qmp.execute("migrate-set-parameters", max_bandwidth=0)
    source.qmp.execute("migrate", uri="unix:again.sock")
    again.qmp.wait_for("MIGRATION", status="completed")
    assert again.qmp.execute("query-status")["running"]


def test_a_device_that_the_destination_lacks_is_told_over_the_return_path(emulators: Emulators) -> None:
    source = emulators.start("src", *VFS, "-device", "virtio-rng-pci,id=rng0,addr=9")
    emulators.start("dst", *VFS, "-incoming", "unix:m.sock")
    source.capability("return-path")
    source.qmp.execute("migrate", uri="unix:m.sock")
    source.qmp.wait_for("MIGRATION", status="failed")
    assert source.qmp.statuses() == ["setup", "active", "device", "failing", "failed"]
    assert source.qmp.execute("query-migrate")["error-desc"] == "Sibling indicated error 1"
    assert source.qmp.execute("query-status")["running"]


@pytest.mark.parametrize("status", ["active", "pre-switchover"])
def test_a_source_that_is_cancelled_has_lost_its_return_path(status: str, emulators: Emulators) -> None:
    source = emulators.start("src", *VFS)
    emulators.start("dst", *VFS, "-incoming", "unix:m.sock")
    source.capability("return-path")
    source.capability("pause-before-switchover")
    if status == "active":
        slowly(source)
    source.qmp.execute("migrate", uri="unix:m.sock")
    source.qmp.wait_for("MIGRATION", status=status)
    source.qmp.execute("migrate_cancel")
    source.qmp.wait_for("MIGRATION", status="cancelled")
    said = source.qmp.execute("query-migrate")
    assert said == {"status": "cancelled", "error-desc": "Channel error: Input/output error"}


def test_a_source_that_was_yanked_in_its_pause_says_so_while_it_waits(emulators: Emulators) -> None:
    source = emulators.start("src", *VFS)
    emulators.start("dst", *VFS, "-incoming", "unix:m.sock")
    source.capability("return-path")
    source.capability("pause-before-switchover")
    source.qmp.execute("migrate", uri="unix:m.sock")
    source.qmp.wait_for("MIGRATION", status="pre-switchover")
    source.qmp.execute("yank", instances=[{"type": "migration"}])
    said = source.qmp.execute("query-migrate")
    assert (said["status"], said["error-desc"]) == ("pre-switchover", "Channel error: Input/output error")


@pytest.mark.parametrize(
    ("said", "words"),
    [(b"x" * 40, "unknown channel magic: 2021161080"), (b"", "Failed to peek at channel")],
    ids=["noise", "nothing"],
)
def test_a_stranger_is_no_source(said: bytes, words: str, emulators: Emulators) -> None:
    destination = emulators.start("dst", *VFS, "-incoming", "unix:m.sock")
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(emulators.folder / "m.sock"))
        stranger.sendall(said)
    exit_status, errors = destination.end()
    assert exit_status == 1
    assert f": {words}\n" in errors


@pytest.mark.parametrize(
    ("source_has", "destination_has", "words"),
    [
        (None, 2, "multifd is off at the source and on here"),
        (2, None, "multifd is on at the source and off here"),
        (4, 2, "multifd-channels is 4 at the source and 2 here"),
        (2, 4, "multifd-channels is 2 at the source and 4 here"),
    ],
)
def test_channels_that_differ_are_said_at_once(
    source_has: int | None, destination_has: int | None, words: str, emulators: Emulators
) -> None:
    """Where a QEMU's destination waits for more than come, or ends with words about something else."""
    source = emulators.start("src", *VFS)
    destination = emulators.start("dst", *VFS, "-incoming", "defer")
    for each, channels in ((source, source_has), (destination, destination_has)):
        if channels is not None:
            each.capability("multifd")
            each.qmp.execute("migrate-set-parameters", multifd_channels=channels)
    refused_alike(source, destination, words)


@pytest.mark.parametrize("side", ["source", "destination"])
def test_acknowledgements_that_one_side_has_are_said_at_once(side: str, emulators: Emulators) -> None:
    source = emulators.start("src", *VFS)
    destination = emulators.start("dst", *VFS, "-incoming", "defer")
    for each in (source, destination):
        each.capability("return-path")
    (source if side == "source" else destination).capability("switchover-ack")
    theirs, ours = ("on", "off") if side == "source" else ("off", "on")
    refused_alike(source, destination, f"switchover-ack is {theirs} at the source and {ours} here")


def refused_alike(source: Emulator, destination: Emulator, words: str) -> None:
    """Both fail, the source as any whose destination has failed."""
    destination.qmp.execute("migrate-incoming", uri="unix:m.sock", exit_on_error=False)
    slowly(source)
    source.qmp.execute("migrate", uri="unix:m.sock")
    source.qmp.wait_for("MIGRATION", status="failed")
    destination.qmp.wait_for("MIGRATION", status="failed")
    said = destination.qmp.execute("query-migrate")["error-desc"]
    assert said == f"load of migration failed: Invalid argument: {words}: give both sides the same"
    assert source.qmp.statuses() == ["setup", "active", "failing", "failed"]
    assert destination.qmp.statuses() == ["setup", "active", "failed"]
    assert source.qmp.execute("query-status")["running"]
