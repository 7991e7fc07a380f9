"""P2: the process, from its command line to its exit status."""

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from suite.emulators import COMMAND, LIMIT_S, VFS, Emulators, connected

from vfio_migration.testing import QmpClientError


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with tempfile.TemporaryDirectory(prefix="emu") as folder, Emulators(Path(folder)) as started:
        yield started


def refused(*options: str) -> str:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 1
    assert not done.stdout
    return done.stderr


def test_a_migration_between_two_processes(emulators: Emulators) -> None:
    source = emulators.start("src", *VFS, "-D", "src.log", "-trace", "vm_state_notify", "-msg", "timestamp=on")
    destination = emulators.start("dst", *VFS, "-incoming", "unix:m.sock")
    source.qmp.execute("qom-set", path="vf0", property="x-latency", value=0.01)
    source.qmp.execute("migrate", uri="unix:m.sock")
    source.qmp.wait_for("MIGRATION", status="completed")
    destination.qmp.wait_for("MIGRATION", status="completed")
    assert destination.qmp.execute("query-status") == {"status": "running", "running": True}
    assert source.qmp.execute("query-migrate")["vfio"]["transferred"] > 0
    for each in (source, destination):
        each.qmp.execute("quit")
        assert each.end()[0] == 0
        assert not each.path.exists()
    log = (emulators.folder / "src.log").read_text()
    assert "Z vm_state_notify running 0 reason 7 (finish-migrate)" in log
    assert not (emulators.folder / "m.sock").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-foo",), "-foo: invalid option"),
        (("-action", "reboot=foo"), "-action reboot=foo: Parameter 'reboot' does not accept value 'foo'"),
        (("-action", "foo=bar"), "-action foo=bar: Invalid parameter 'foo'"),
        (("-machine",), "-machine: requires an argument"),
        (("-machine", "x35"), 'unsupported machine type: "x35"'),
        (("-nodefaults", "-device", "nosuch"), "-device nosuch: 'nosuch' is not a valid device model name"),
        (("-nodefaults", "-device", "edu,id=a", "-device", "edu,id=a"), "Duplicate ID 'a' for device"),
        (("-nodefaults", "-device", "vfio-pci,id=a,x-fail=NOWHERE"), "expected an arc such as"),
        (("-nodefaults", "-device", "edu,id=a,x-stall=reset"), "Property 'edu.x-stall' not found"),
        (
            ("-nodefaults", "-device", "vfio-pci,id=a,x-latency=soon"),
            "-device vfio-pci,id=a,x-latency=soon: Property 'vfio-pci.x-latency'",
        ),
        (
            ("-qmp", "unix:/nosuch/x,server=on,wait=off"),
            "Failed to bind socket to /nosuch/x: No such file or directory",
        ),
        (("-m", "foo"), "-m foo: Parameter 'size' expects a non-negative number below 2^64"),
        (("-incoming", "pigeon:1"), "-incoming pigeon:1: unknown migration protocol: pigeon:1"),
        (("-uuid", "x"), "-uuid x: failed to parse UUID string: wrong format"),
        (("-mon", "chardev=c0,mode=control"), 'chardev "c0" not found'),
        (("-D", "/nosuch/log"), "-D /nosuch/log: No such file or directory"),
        (("-pidfile", "/nosuch/pid"), "cannot create PID file: No such file or directory"),
    ],
)
def test_what_no_qemu_knows_is_an_error(options: tuple[str, ...], words: str) -> None:
    assert words in refused(*options)


@pytest.mark.slow
def test_a_scenario_that_cannot_be_used_is_named(emulators: Emulators) -> None:
    env = {"VFIO_SWITCHOVER_SCENARIO": str(emulators.folder / "none.toml")}
    status, errors = emulators.start("src", env=env, connect=False).end()
    assert status == 1
    assert "VFIO_SWITCHOVER_SCENARIO" in errors


@pytest.mark.slow
def test_a_scenario_for_the_whole_process(emulators: Emulators) -> None:
    scenario = emulators.folder / "s.toml"
    scenario.write_text(
        """
        handlers = [{ devices = "rp0", stop = 0.01 }]
        ram = { size = 1000000 }
        [[vfio]]
        devices = "vf*"
        events = true
        latency = { default = 0.002 }
        [[faults]]
        device = "vf0"
        at = "RESUMING -> STOP"
        side = "destination"
        """
    )
    env = {"VFIO_SWITCHOVER_SCENARIO": str(scenario)}
    devices = [each.replace("vfio-pci,", "edu,") for each in VFS]
    source = emulators.start("src", *devices, env=env)
    destination = emulators.start("dst", *devices, "-incoming", "unix:m.sock", env=env)
    assert set(source.qmp.execute("qom-get", path="vf0", property="x-latency").values()) == {0.002}
    assert source.qmp.execute("qom-get", path="vf0", property="x-fail") == []
    assert destination.qmp.execute("qom-get", path="vf0", property="x-fail") != []
    source.qmp.execute("migrate", uri="unix:m.sock")
    source.qmp.wait_for("VFIO_MIGRATION", **{"device-id": "vf0", "device-state": "stop-copy"})
    # As QEMU's, the destination runs all the same, with a device that was reset.
    destination.qmp.wait_for("MIGRATION", status="completed")


@pytest.mark.slow
def test_a_signal_ends_it_and_says_from_whom(emulators: Emulators) -> None:
    emulator = emulators.start("src")
    emulator.process.send_signal(signal.SIGTERM)
    emulator.qmp.wait_for("SHUTDOWN", reason="host-signal")
    status, errors = emulator.end()
    assert status == 0
    assert f"terminating on signal 15 from pid {os.getpid()}" in errors
    assert not emulator.path.exists()


@pytest.mark.slow
def test_a_second_process_at_a_path_is_told_so(emulators: Emulators) -> None:
    first = emulators.start("src")
    status, errors = emulators.start("src", connect=False).end()
    assert status == 1
    assert "Address already in use" in errors
    assert first.qmp.execute("query-status")["running"]


@pytest.mark.slow
def test_in_the_background_with_a_pidfile(emulators: Emulators) -> None:
    pidfile = emulators.folder / "pid"
    started = emulators.start("src", "-daemonize", "-pidfile", str(pidfile), connect=False)
    assert started.end()[0] == 0  # ready: the socket is there, and the number in its file
    pid = int(pidfile.read_text())
    with connected(started.path) as qmp:
        assert qmp.execute("query-status")["running"]
        qmp.execute("quit")
    while pidfile.exists():  # which goes with the process
        os.sched_yield()
    assert pid > 1


@pytest.mark.slow
def test_it_waits_for_a_client_where_it_is_told_to(emulators: Emulators) -> None:
    waited = emulators.folder / "w.qmp"
    emulator = emulators.start("src", "-qmp", f"unix:{waited},server=on", connect=False)
    with connected(waited) as qmp:
        assert qmp.execute("query-status") == {"status": "running", "running": True}
    with connected(emulator.path) as qmp:
        assert qmp.execute("query-status")["running"]


@pytest.mark.slow
@pytest.mark.parametrize("listening", [True, False])
def test_a_socket_that_was_passed(emulators: Emulators, listening: bool) -> None:
    path = str(emulators.folder / "passed")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    ours = socket.socket(socket.AF_UNIX)
    if not listening:
        ours.connect(path)
        server, closed = server.accept()[0], server
        closed.close()
    command = [
        *COMMAND,
        "-nodefaults",
        "-S",
        "-chardev",
        f"socket,id=c,fd={server.fileno()},server={'on' if listening else 'off'},wait=off",
    ]
    process = subprocess.Popen([*command, "-mon", "chardev=c,mode=control"], pass_fds=[server.fileno()])
    server.close()
    if listening:
        ours.connect(path)
    with ours, ours.makefile("rwb") as lines:
        assert b"QMP" in lines.readline()
        lines.write(b'{"execute": "qmp_capabilities"}{"execute": "query-status"}{"execute": "quit"}')
        lines.flush()
        answers = lines.read()
    assert b'"prelaunch"' in answers
    assert process.wait(LIMIT_S) == 0


@pytest.mark.slow
def test_nothing_listens_on_tcp_unless_it_is_told_to(emulators: Emulators) -> None:
    emulator = emulators.start("src", *VFS)
    table = Path(f"/proc/{emulator.process.pid}/net/tcp").read_text()
    inodes = {line.split()[9] for line in table.splitlines()[1:] if line.split()[3] == "0A"}
    owned = {str(each.readlink()) for each in Path(f"/proc/{emulator.process.pid}/fd").iterdir()}
    assert not {f"socket:[{inode}]" for inode in inodes} & owned


@pytest.mark.slow
def test_commands_of_a_qemu_that_are_none_here_say_so(emulators: Emulators) -> None:
    emulator = emulators.start("src", "-D", "log")
    with pytest.raises(QmpClientError, match="dump-guest-memory is not supported here"):
        emulator.qmp.execute("dump-guest-memory", paging=False, protocol="file:x")
    assert "a command that is not supported here" in (emulators.folder / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", [["-no-reboot"], ["-action", "reboot=shutdown"], []], ids=" ".join)
def test_a_reset_may_be_the_end(how: list[str], emulators: Emulators) -> None:
    emulator = emulators.start("src", *how)
    if not how:
        emulator.qmp.execute("set-action", reboot="shutdown")
    emulator.qmp.execute("system_reset")
    emulator.qmp.wait_for("SHUTDOWN", guest=False, reason="host-qmp-system-reset")
    assert emulator.end()[0] == 0


@pytest.mark.slow
def test_a_reset_may_be_a_shutdown_that_stays(emulators: Emulators) -> None:
    emulator = emulators.start("src", "-no-reboot", "-no-shutdown")
    emulator.qmp.execute("system_reset")
    assert [each["event"] for each in emulator.qmp.events] == ["SHUTDOWN", "STOP"]
    assert emulator.qmp.execute("query-status") == {"status": "shutdown", "running": False}
    with pytest.raises(QmpClientError, match="Resetting the Virtual Machine is required"):
        emulator.qmp.execute("cont")
    emulator.qmp.execute("set-action", reboot="reset")
    emulator.qmp.execute("system_reset")
    assert emulator.qmp.execute("query-status")["status"] == "prelaunch"
    emulator.qmp.execute("cont")
    assert emulator.qmp.execute("query-status")["running"]
