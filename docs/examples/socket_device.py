"""
A device that lives in another process and answers over a Unix socket: a `DeviceBackend` that is not the mock.

The process is this very file, run with `--serve`. It keeps the device's state and its memory, and takes its time for
each arc. If it dies, in the middle of an arc or anywhere else, whoever asked it gets an OSError, as from a driver
whose hardware is gone; resetting the device starts a new process. It waits for real, so it needs a machine in real
time.
"""

import base64
import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vfio_migration import DeviceState, MigrationFlags
from vmstate import Clock, RealClock, RegistrationError


class SocketDevice:
    """The side of the machine: one request at a time, one line of JSON each way."""

    flags = MigrationFlags.STOP_COPY | MigrationFlags.P2P

    def __init__(self, memory: bytes = b"", *, latency: float = 0.0, crash_in: str = "") -> None:
        """`crash_in`: the arc ("RUNNING_P2P -> STOP") in the middle of which the process dies, once."""
        self._settings = {"memory": _packed(memory), "latency": latency, "crash_in": crash_in}
        self._folder = tempfile.TemporaryDirectory()
        self._bound = False
        self._start()

    def close(self) -> None:
        """End the process."""
        self._stop()
        self._folder.cleanup()

    @property
    def state(self) -> DeviceState:
        """The state after the last answer; a device whose process is gone is in ERROR."""
        return self._state

    @property
    def memory(self) -> bytes:
        """What the device holds."""
        return _unpacked(self._ask("memory")["data"])

    def bind(self, clock: Clock) -> None:
        """Become part of a machine; `clock` is not needed, as the process takes real time."""
        if self._bound:
            raise RegistrationError("this device is part of a machine already")
        if not isinstance(clock, RealClock):
            raise RegistrationError("a device in another process takes real time: give its machine a RealClock")
        self._bound = True

    def unbind(self) -> None:
        """Be taken away."""
        self._bound = False

    def set_arc(self, target: DeviceState) -> None:
        """Go one arc; returns when the device says that it is there."""
        self._ask("arc", target=target.name)
        self._state = target

    def pending(self) -> int:
        """Say what pre-copy could read: nothing, this device has none."""
        return 0

    def read(self, size: int) -> bytes:
        """Read its state, in STOP_COPY."""
        return _unpacked(self._ask("read", size=size)["data"])

    def write(self, data: bytes) -> None:
        """Write its state, in RESUMING."""
        self._ask("write", data=_packed(data))

    def reset(self) -> None:
        """Start anew, with an empty memory and without the crash."""
        self._stop()
        self._settings.update(memory="", crash_in="")
        self._start()

    def _start(self) -> None:
        path = Path(self._folder.name, "device.sock")
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)
        with listener:
            self._process = subprocess.Popen([sys.executable, __file__, "--serve", str(path)])
            self._socket, _ = listener.accept()
        self._lines = self._socket.makefile("rw", encoding="ascii")
        self._state = DeviceState.RUNNING
        self._ask("set up", **self._settings)

    def _stop(self) -> None:
        self._lines.close()
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, what: str, **fields: Any) -> dict[str, Any]:
        try:
            self._lines.write(json.dumps({"what": what, **fields}) + "\n")
            self._lines.flush()
            line = self._lines.readline()
        except (OSError, ValueError):  # cut, or closed by a reset that failed
            line = ""
        if not line:
            self._state = DeviceState.ERROR
            raise OSError(errno.ENODEV, f"{what}: the device's process is gone")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise OSError(errno.EIO, f"{what}: {answer['error']}")
        return answer


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text)


class _Hardware:
    """The side of the device, in its own process."""

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["what"]:
            case "set up":
                self.state, self.memory, self.loaded = "RUNNING", _unpacked(request["memory"]), bytearray()
                self.latency, self.crash_in, self.place = request["latency"], request["crash_in"], 0
            case "arc":
                self._go(request["target"])
            case "read":
                data = self.memory[self.place : self.place + request["size"]]
                self.place += len(data)
                return {"data": _packed(data)}
            case "write":
                self.loaded += _unpacked(request["data"])
            case "memory":
                return {"data": _packed(self.memory)}
        return {}

    def _go(self, target: str) -> None:
        time.sleep(self.latency / 2)
        if self.crash_in == f"{self.state} -> {target}":
            os._exit(1)
        time.sleep(self.latency / 2)
        if self.state == "RESUMING":
            self.memory = bytes(self.loaded)
        self.state, self.place = target, 0


def _serve(path: str) -> None:
    hardware = _Hardware()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        with connection.makefile("rw", encoding="ascii") as lines:
            for line in lines:
                lines.write(json.dumps(hardware.answer(json.loads(line))) + "\n")
                lines.flush()


if __name__ == "__main__" and sys.argv[1:2] == ["--serve"]:
    _serve(sys.argv[2])
