"""The monitors' commands against the migration that they steer, and against one another, in many schedules."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vfio_migration.emulator.migrating.migrations
import vfio_migration.live.control
import vfio_migration.live.outgoing
from vfio_migration.emulator import MonitorServer, QmpError
from vfio_migration.emulator.commands.dispatch import Dispatcher
from vfio_migration.emulator.monitor.request import Request
from vfio_migration.emulator.profile import Profile
from vfio_migration.testing import PairRig, our_threads
from vmstate import RunState, VirtualClock
from vmstate.exploring import explore

Test = Callable[[VirtualClock], None]
PROFILE = Profile.bundled()  # read once
PREEMPT = (vfio_migration.emulator.migrating.migrations, vfio_migration.live.outgoing, vfio_migration.live.control)
OVER = ("completed", "failed", "cancelled")
URI = "unix:there"


class Monitor:
    """A machine's monitor without its socket: what a session hands on, in the thread that calls."""

    def __init__(self, server: MonitorServer) -> None:
        self.server = server
        self._dispatcher = Dispatcher(server._emulated)

    def ask(self, command: str, **arguments: Any) -> Any:
        """Give the answer; an error of QEMU's is one."""
        request = Request(command, {name.replace("_", "-"): value for name, value in arguments.items()})
        try:
            return self._dispatcher.run(None, request, self._dispatcher.check(request))
        except QmpError as error:
            return error

    def wait(self, clock: VirtualClock) -> str:
        """Ask until the migration is over, or was none; gives how it ended."""
        while True:
            status = self.ask("query-migrate").get("status")
            if status in (None, *OVER):
                return str(status)
            clock.sleep(0.002)


Step = tuple[str, dict[str, Any]]
QUERIES = ("query-migrate", "query-status", "query-migrate-parameters", "query-migrate-capabilities", "query-chardev")
STEPS: dict[str, list[Step]] = {
    "cancel": [("migrate_cancel", {})],
    "cancel and migrate again": [("migrate_cancel", {}), ("migrate", {"uri": URI})],
    "migrate too": [("migrate", {"uri": URI})],
    "stop and cont": [("stop", {}), ("cont", {})],
    "reset": [("system_reset", {})],
    "parameters": [
        ("migrate-set-parameters", {"downtime-limit": 100}),
        ("migrate-set-parameters", {"max-bandwidth": 0}),
    ],
    "capabilities": [
        ("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]}),
        ("migrate-set-capabilities", {"capabilities": [{"capability": "pause-before-switchover", "state": False}]}),
    ],
    "continue": [("migrate-continue", {"state": "pre-switchover"})],
    "queries": [(name, {}) for name in QUERIES],
    "people ask": [
        ("human-monitor-command", {"command-line": line}) for line in ("info migrate", "info status", "info qtree")
    ],
    "faults": [
        ("qom-set", {"path": "vf0", "property": "x-latency", "value": 0.02}),
        ("qom-set", {"path": "vf0", "property": "x-fail", "value": "STOP_COPY"}),
        ("qom-set", {"path": "vf0", "property": "x-heal", "value": True}),
    ],
    "unplug": [("device_del", {"id": "vf0"})],
    "incoming again": [("migrate-incoming", {"uri": URI})],
}


def commanded(steps: list[Step], after_s: float, *, at_destination: bool = False) -> Test:
    """Somebody migrates, and somebody else gives these commands at another monitor of the source (or destination)."""

    def test(clock: VirtualClock) -> None:
        with PairRig(clock=clock) as pair:
            for name in ("vf0", "vf1"):
                pair.add_device(name, latency=0.01, state_size=256)
            servers = [
                MonitorServer(rig.machine, Path("never-listened-at"), profile=PROFILE)
                for rig in (pair.source, pair.destination)
            ]
            source, destination = map(Monitor, servers)

            def steer() -> None:
                clock.sleep(after_s)
                for command, arguments in steps:
                    (destination if at_destination else source).ask(command, **arguments)

            thread = clock.start_thread(steer, "the other monitor")
            destination.ask("migrate-incoming", uri=URI)
            source.ask("migrate", uri=URI)
            source.wait(clock)
            clock.join(thread)
            ended = source.wait(clock)  # of one that the other has begun
            wait_for_threads(servers[0], servers[1], ended)
            look_at(pair, source, ended, may_start=("cont", {}) in steps)
            for server in servers:
                server.close()
        assert our_threads() == []

    return test


def wait_for_threads(source: MonitorServer, destination: MonitorServer, ended: str) -> None:
    """Wait for both ends; a destination to which nobody has come waits on, as a QEMU does, and is told to leave."""
    outgoing, incoming = source._emulated.migrations._outgoing, destination._emulated.migrations._incoming
    if outgoing is not None and outgoing.started:
        outgoing.wait()
    if incoming is not None and incoming.started:
        if ended != "completed":
            incoming.cancel()
        incoming.wait()


def look_at(pair: PairRig, source: Monitor, ended: str, *, may_start: bool) -> None:
    """See that nobody is in between, that not both run where QEMU's would not, and that the monitor says what is."""
    machines = pair.source.machine, pair.destination.machine
    for machine in machines:
        assert machine.attempt is None
        assert not machine.big_lock.held
    runs = [machine.run_state.live for machine in machines]
    if not may_start:  # QEMU starts a machine in postmigrate, if somebody wants it so
        # A cancel after the end of the stream starts the source beside the destination, as QEMU's does (rule G1).
        assert sum(runs) <= 1 + (ended == "cancelled")
    if ended == "completed" and not may_start:
        assert machines[0].run_state in (RunState.POSTMIGRATE, RunState.PRELAUNCH)
    status = source.ask("query-status")
    assert status["running"] == runs[0]
    assert status["status"] == str(machines[0].run_state)
    between = {"RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P", "STOP_COPY"}
    assert not between & {state.name for state in pair.source.device_states.values()}


# In pre-copy, while the source stops, while devices are saved, and while the destination starts.
MOMENTS = {"before": 0.0, "active": 0.02, "stop": 0.06, "save": 0.08, "end": 0.11}


@pytest.mark.parametrize("steps", ["cancel", "migrate too"])
def test_commands_meet_a_migration_in_a_few_orders(steps: str) -> None:
    explore(commanded(STEPS[steps], 0.0), policy="pct", timing="any", schedules=8).check()


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("steps", [name for name in STEPS if name != "incoming again"])
def test_commands_meet_a_migration_at_any_moment(steps: str, moment: str) -> None:
    for policy, timing in (("pct", "any"), ("random", "exact")):
        explore(commanded(STEPS[steps], MOMENTS[moment]), policy=policy, timing=timing, schedules=12).check()


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["cancel", "stop and cont", "reset", "unplug", "queries", "incoming again"])
def test_commands_meet_a_migration_at_its_destination(steps: str) -> None:
    for moment in MOMENTS.values():
        test = commanded(STEPS[steps], moment, at_destination=True)
        explore(test, policy="pct", timing="any", schedules=8).check()


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["cancel", "cancel and migrate again", "migrate too", "continue", "queries"])
def test_commands_meet_a_migration_between_any_two_lines(steps: str) -> None:
    for policy in ("pct", "random"):
        test = commanded(STEPS[steps], 0.0)
        explore(test, policy=policy, timing="any", schedules=25, preempt=PREEMPT).check()
