"""Real clients of QEMU's monitor drive two processes: the package `qemu.qmp`, and its `qmp-shell`."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient
from suite.emulators import LIMIT_S, VFS, Emulators

EVENTS = {"capabilities": [{"capability": "events", "state": True}]}
SHELL = Path(sys.executable).parent / "qmp-shell"


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with tempfile.TemporaryDirectory(prefix="emu") as folder, Emulators(Path(folder)) as started:
        yield started


class Client:
    """One connection, and the statuses of migrations that it has heard of."""

    def __init__(self, qmp: QMPClient, events: EventListener) -> None:
        self.qmp = qmp
        self._events = events
        self.statuses: list[str] = []

    async def until(self, *wanted: str) -> str:
        while True:
            event = await asyncio.wait_for(self._events.get(), LIMIT_S)
            data: Any = event["data"]
            self.statuses.append(data["status"])
            if data["status"] in wanted:
                return str(data["status"])


@asynccontextmanager
async def client_of(path: Path) -> Any:
    qmp = QMPClient(path.stem)
    while True:
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - the process is not there yet, and nobody says when it is
            await asyncio.sleep(0.01)
        try:
            await qmp.connect(str(path))
            break
        except ConnectError:  # nor quite
            await asyncio.sleep(0.01)
    events = EventListener("MIGRATION")
    qmp.register_listener(events)
    await qmp.execute("migrate-set-capabilities", EVENTS)
    try:
        yield Client(qmp, events)
    finally:
        with suppress(EOFError):  # of a process that has ended
            await qmp.disconnect()


async def a_failed_a_cancelled_a_completed_and_a_back_migration(emulators: Emulators) -> None:
    options: dict[str, Any] = {"connect": False}
    there = emulators.start("a", *VFS, **options)
    here = emulators.start("b", *VFS, "-incoming", "unix:1.sock", **options)
    async with client_of(there.path) as source:
        stall_or_fail = {"path": "vf1", "property": "x-fail", "value": "PRE_COPY_P2P -> STOP_COPY"}
        await source.qmp.execute("qom-set", stall_or_fail)
        async with client_of(here.path):
            await source.qmp.execute("migrate", {"uri": "unix:1.sock"})
            assert await source.until("failed", "completed") == "failed"
        assert "vf1" in (await source.qmp.execute("query-migrate"))["error-desc"]
        assert here.end()[0] == 1

        await source.qmp.execute("migrate-set-parameters", {"max-bandwidth": 100_000})
        lost = emulators.start("c", *VFS, "-incoming", "unix:2.sock", **options)
        async with client_of(lost.path):
            await source.qmp.execute("migrate", {"uri": "unix:2.sock"})
            await source.until("active")
            await source.qmp.execute("migrate_cancel")
            assert await source.until("cancelled") == "cancelled"

        await source.qmp.execute("migrate-set-parameters", {"max-bandwidth": 0})
        new = emulators.start("d", *VFS, "-incoming", "unix:3.sock", **options)
        async with client_of(new.path) as destination:
            source.statuses.clear()
            await source.qmp.execute("migrate", {"uri": "unix:3.sock"})
            await source.until("completed")
            assert source.statuses == ["setup", "active", "device", "completed"]
            await destination.until("completed")
            with pytest.raises(ExecuteError, match="Can't migrate the vm that was paused due to previous migration"):
                await source.qmp.execute("migrate", {"uri": "unix:4.sock"})

            back = emulators.start("e", *VFS, "-incoming", "unix:4.sock", **options)
            async with client_of(back.path) as home:
                await destination.qmp.execute("migrate", {"uri": "unix:4.sock"})
                await destination.until("completed")
                await home.until("completed")
                assert await home.qmp.execute("query-status") == {"status": "running", "running": True}


@pytest.mark.slow
def test_qemu_qmp_drives_all_kinds_of_migrations(emulators: Emulators) -> None:
    asyncio.run(a_failed_a_cancelled_a_completed_and_a_back_migration(emulators))


@pytest.mark.slow
def test_qmp_shell_drives_a_migration(emulators: Emulators) -> None:
    source = emulators.start("src", *VFS)
    destination = emulators.start("dst", *VFS, "-incoming", "unix:m.sock")
    source.qmp.close()
    typed = "qom-set path=vf0 property=x-latency value=0.01\nmigrate uri=unix:m.sock\nquery-status\n"
    shell = subprocess.run(
        [SHELL, source.path], input=typed, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert "Connected to QEMU 11.1.3" in shell.stdout
    assert shell.stdout.count('{"return": {}}') == 2
    assert '"status": ' in shell.stdout
    destination.qmp.wait_for("MIGRATION", status="completed")
    assert destination.qmp.execute("query-status")["running"]
