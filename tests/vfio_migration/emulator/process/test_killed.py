"""A process that is killed in any status of a migration: what the other one says, and that it can migrate again."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from suite.emulators import VFS, Emulator, Emulators

STATUSES = ("active", "pre-switchover", "device")
CHANNEL = "Channel error: Input/output error"
WORDS = {
    "active": "Unable to write to socket: Broken pipe",
    "pre-switchover": "Failed to save iterable device state: Unable to write to socket: Broken pipe",
    "device": "Failed to save iterable device state: Unable to write to socket: Broken pipe",
}


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with tempfile.TemporaryDirectory(prefix="emu") as folder, Emulators(Path(folder)) as started:
        yield started


def brought_to(status: str, source: Emulator) -> None:
    """Have a migration begin that stays in this status."""
    if status == "active":
        source.qmp.execute("migrate-set-parameters", max_bandwidth=100_000)
    if status == "pre-switchover":
        source.capability("pause-before-switchover")
    if status == "device":  # a device without pre-copy goes to STOP_COPY when it is saved
        source.qmp.execute("qom-set", path="vf0", property="x-stall", value="STOP -> STOP_COPY")
    source.qmp.execute("migrate", uri="unix:m.sock")
    source.qmp.wait_for("MIGRATION", status=status)


def let_go(status: str, source: Emulator) -> None:
    if status == "pre-switchover":
        source.qmp.execute("migrate-continue", state="pre-switchover")
    if status == "device":
        while not source.qmp.execute("qom-get", oob=True, path="vf0", property="x-stall"):
            pass
        source.qmp.execute("qom-set", oob=True, path="vf0", property="x-release", value=True)


def without_precopy(status: str) -> list[str]:
    return (
        [f"{each},x-precopy=off" if each.startswith("vfio-pci") else each for each in VFS]
        if status == "device"
        else VFS
    )


@pytest.mark.slow
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("return_path", [False, True])
def test_the_destination_is_killed(status: str, return_path: bool, emulators: Emulators) -> None:
    devices = without_precopy(status)
    source = emulators.start("src", *devices)
    destination = emulators.start("dst", *devices, "-incoming", "unix:m.sock")
    if return_path:
        source.capability("return-path")
    brought_to(status, source)
    destination.kill()
    let_go(status, source)
    source.qmp.wait_for("MIGRATION", status="failed")
    assert source.qmp.statuses()[-2:] == ["failing", "failed"]
    words = CHANNEL if return_path else WORDS[status]
    assert source.qmp.execute("query-migrate") == {"status": "failed", "error-desc": words}
    assert source.qmp.execute("query-status") == {"status": "running", "running": True}
    again = emulators.start("again", *devices, "-incoming", "unix:again.sock")
    source.qmp.events.clear()
    source.qmp.execute(
        "migrate-set-capabilities", capabilities=[{"capability": "pause-before-switchover", "state": False}]
    )
    source.qmp.execute("migrate-set-parameters", max_bandwidth=0)
    source.qmp.execute("migrate", uri="unix:again.sock")
    source.qmp.wait_for("MIGRATION", status="completed")
    again.qmp.wait_for("MIGRATION", status="completed")
    assert again.qmp.execute("query-status")["running"]


@pytest.mark.slow
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("stays", [False, True])
def test_the_source_is_killed(status: str, stays: bool, emulators: Emulators) -> None:
    network = ["-netdev", "user,id=net0"] if stays else []  # which has a section of its own, before the memory's
    devices = [*without_precopy(status), *network]
    source = emulators.start("src", *devices)
    destination = emulators.start("dst", *devices, "-incoming", "defer")
    destination.qmp.execute("migrate-incoming", uri="unix:m.sock", exit_on_error=not stays)
    brought_to(status, source)
    source.kill()
    destination.qmp.wait_for("MIGRATION", status="failed")
    words = f"load of migration failed: Invalid argument: Section footer error, section_id: {2 if stays else 1}"
    if stays:
        assert destination.qmp.execute("query-migrate") == {"status": "failed", "error-desc": words}
        assert destination.qmp.execute("query-status")["status"] == "inmigrate"
    else:
        exit_status, errors = destination.end()
        assert exit_status == 1
        assert "check_section_footer: Read section footer failed: -5\n" in errors
        assert words in errors
