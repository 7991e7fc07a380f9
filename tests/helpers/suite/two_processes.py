"""Ends of a migration in processes of their own, which may be killed at any moment."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Any

from vfio_migration import (
    Incoming,
    MigrationParameters,
    MockDevice,
    Outgoing,
    VFIODevice,
    VFIOMigration,
)
from vfio_migration.errors import described
from vmstate import Bus, Device, Machine, RunState

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["suite.two_processes"])
LIMIT_S = 20.0  # after which a process that says nothing has failed its test
LATENCY_S = 0.002


class End:
    """
    A process with a machine of two devices that is one end of a migration, and then does what it is told.

    What it says are statuses as they are taken, then a report.
    """

    def __init__(self, side: str, uri: str, *, takeover: str = "confirmed", channels: int = 0) -> None:
        self._pipe, theirs = _processes.Pipe()
        self._process = _processes.Process(target=_be, args=(theirs, side, uri, takeover, channels), daemon=True)
        self._process.start()
        theirs.close()
        self.statuses: list[str] = []

    def until(self, *wanted: str) -> str:
        """Wait until it says one of these."""
        while True:
            what, value = self._hear()
            if what == "status":
                self.statuses.append(value)
            if value in wanted or what in wanted:
                return str(value)

    def report(self) -> dict[str, Any]:
        """Wait for its report."""
        while True:
            what, value = self._hear()
            if what == "report":
                assert isinstance(value, dict)
                return value
            self.statuses.append(value)

    def begin(self, *command: str) -> None:
        """Have it do something, and wait until it listens, if it is to receive."""
        self._pipe.send(command)
        if command[0] == "receive":
            self.until("waiting")

    def tell(self, *command: str) -> Any:
        """Have it do something, and give what it says to that."""
        self._pipe.send(command)
        return self.answer()

    def answer(self) -> Any:
        """Wait for what it says to a command."""
        while True:
            what, value = self._hear()
            if what == "answer":
                return value

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join(LIMIT_S)

    def close(self) -> None:
        """Have it end, however it is."""
        self._process.kill()
        self._process.join(LIMIT_S)
        self._pipe.close()

    def _hear(self) -> tuple[str, Any]:
        assert self._pipe.poll(LIMIT_S), "it says nothing"
        said: tuple[str, Any] = self._pipe.recv()
        return said


def _be(pipe: Connection, side: str, uri: str, takeover: str, channels: int) -> None:
    machine = Machine(side)
    bus = Bus("pcie.0")
    for number in range(2):
        mock = MockDevice(latency=LATENCY_S, state_size=5000, seed=number + (100 if side == "receive" else 0))
        VFIOMigration(machine, VFIODevice(Device(f"vf{number}", bus), mock))

    def say(event: Any) -> None:
        if event.name == "MIGRATION":
            pipe.send(("status", event.data["status"]))

    machine.monitor.subscribe(say)
    if side == "send":
        machine.start()
    pipe.send(("report", _migrate(pipe, machine, side, uri, takeover, channels)))
    while True:
        what, *arguments = pipe.recv()
        if what == "start":
            machine.start()
            pipe.send(("answer", str(machine.run_state)))
        elif what == "state":
            pipe.send(("answer", str(machine.run_state)))
        else:
            pipe.send(("answer", _migrate(pipe, machine, what, arguments[0], takeover, channels)))


def _migrate(pipe: Connection, machine: Machine, side: str, uri: str, takeover: str, channels: int) -> dict[str, Any]:
    parameters = MigrationParameters(multifd_channels=channels)
    end: Outgoing | Incoming
    if side == "send":
        end = Outgoing(machine, uri, parameters=parameters, takeover=takeover)  # type: ignore[arg-type]
    else:
        end = Incoming(machine, uri, parameters=parameters, takeover=takeover)  # type: ignore[arg-type]
    end.start()
    if side == "receive":
        pipe.send(("waiting", str(end.address)))
    report = end.wait()
    error = report.error
    return {
        "status": str(report.status),
        "error": None if error is None else described(error),
        "unknown": type(error).__name__ == "TakeoverUnknownError",
        "state": str(machine.run_state),
        "running": machine.run_state is RunState.RUNNING,
        "stream": getattr(report, "stream_sha256", ""),
    }
