"""What the tests of `vfio_migration` share: rigs that end with their test, devices that note what they are asked."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from vfio_migration import ALL_FLAGS, DeviceState, MigrationFlags, MockDevice, VFIOMigration
from vfio_migration.changes.launchers import DEFAULT_THREADS
from vfio_migration.changes.set_or_recover import StateSetter
from vfio_migration.device.mock import Arc
from vfio_migration.scenarios.file import parse_scenario
from vfio_migration.scenarios.model import Scenario
from vfio_migration.testing import MachineRig, PairRig
from vmstate import Clock, RunState

S = DeviceState
ARCS = frozenset(
    {
        (S.RUNNING, S.RUNNING_P2P),
        (S.RUNNING_P2P, S.RUNNING),
        (S.RUNNING_P2P, S.STOP),
        (S.STOP, S.RUNNING_P2P),
        (S.STOP, S.STOP_COPY),
        (S.STOP_COPY, S.STOP),
        (S.STOP, S.RESUMING),
        (S.RESUMING, S.STOP),
        (S.RUNNING, S.PRE_COPY),
        (S.PRE_COPY, S.RUNNING),
        (S.PRE_COPY, S.PRE_COPY_P2P),
        (S.PRE_COPY_P2P, S.PRE_COPY),
        (S.RUNNING_P2P, S.PRE_COPY_P2P),
        (S.PRE_COPY_P2P, S.RUNNING_P2P),
        (S.PRE_COPY_P2P, S.STOP_COPY),
    }
)
BARE = MigrationFlags.STOP_COPY
NO_PRECOPY = BARE | MigrationFlags.P2P
NO_P2P = BARE | MigrationFlags.PRE_COPY
FEATURES = (BARE, NO_PRECOPY, NO_P2P, ALL_FLAGS)
SERIAL = "serial"  # where tests say how a device's threads come about: it has none, parallel changes are off
LIMIT = 30.0  # seconds of real time after which a test has failed

after_the_test = ExitStack()  # closed by a fixture when a test is over


class Backend(MockDevice):
    """A mock that notes its arcs and resets, and runs `on_arc` before each arc."""

    def __init__(self, *, flags: MigrationFlags = ALL_FLAGS, latency: float | Mapping[Arc, float] = 0.0) -> None:
        super().__init__(flags=flags, latency=latency, state_size=64, precopy_size=16)
        self.asked: list[str] = []
        self.on_arc: Callable[[], object] = lambda: None

    def set_arc(self, target: DeviceState) -> None:
        self.asked.append(target.name)
        self.on_arc()
        super().set_arc(target)

    def reset(self) -> None:
        self.asked.append("reset")
        super().reset()


class Attempt:
    """A migration that a machine is tied to, as far as state changes know it."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    out_of_hand = False

    def keep_error(self, error: BaseException) -> None:
        self.errors.append(error)

    def note_error(self, error: BaseException) -> None:
        self.errors.append(error)


def begin_attempt(rig: MachineRig) -> Attempt:
    """Tie the machine to a migration, until that or the test ends."""
    attempt = Attempt()
    rig.machine.begin_attempt(attempt)
    after_the_test.callback(rig.machine.end_attempt, attempt)
    return attempt


Rig = TypeVar("Rig", MachineRig, PairRig)


def for_the_test(rig: Rig) -> Rig:
    """The same rig, which is closed when the test is over."""
    return after_the_test.enter_context(rig)


def by(threads: str) -> dict[str, Any]:
    """Options of a rig or device: changes by these threads, or none (SERIAL)."""
    return {"parallel": False} if threads == SERIAL else {"threads": threads}


def make_machine(threads: str = DEFAULT_THREADS, clock: Clock | None = None) -> MachineRig:
    """A machine that was never started."""
    return for_the_test(MachineRig(clock=clock, run_state=RunState.PRELAUNCH, **by(threads)))


def make_pair(
    ids: Iterable[str] = ("vf0", "vf1"),
    *,
    threads: str = DEFAULT_THREADS,
    clock: Clock | None = None,
    run_state: RunState = RunState.RUNNING,
    **options: Any,
) -> PairRig:
    """A pair with such devices, whose state takes time and rounds to send; `options` as of `add_device`."""
    pair = for_the_test(PairRig(clock=clock, run_state=run_state, **by(threads)))
    usual = {"depth": 2, "latency": 0.01, "state_size": 5000, "rate": 1e6}
    for name in ids:
        pair.add_device(name, **{**usual, "precopy_size": 2000, "precopy_dirty": (1000, 300), **options})
    return pair


def statuses(rig: MachineRig) -> list[str]:
    """What the machine announced but for states of devices and passes, a migration's status in place of MIGRATION."""
    left_out = ("VFIO_MIGRATION", "MIGRATION_PASS")
    return [str(event.data.get("status", event.name)) for event in rig.announced if event.name not in left_out]


def traced(rig: MachineRig, name: str) -> list[str]:
    """What was traced of a machine by this name, as its fields."""
    return [" ".join(map(str, event.fields.values())) for event in rig.recorder.select(name, machine=rig.machine.name)]


def state_of(device: VFIOMigration | StateSetter) -> DeviceState:
    """What QEMU believes of a device; a function, so that type checkers do not remember its last answer."""
    return device.device_state


def launched() -> list[str]:
    """Names of the state-change threads that are at work."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("vfio_vmstate_change")]


SMALL = """
[tree]
devices = [
    { bus = "main-system-bus", type = "host", buses = ["pcie.0"] },
    { bus = "pcie.0", type = "vfio-pci", id = "vf0" },
    { bus = "pcie.0", type = "vfio-pci", id = "vf1" },
]

[[vfio]]
devices = "vf*"
latency = { default = 0.010 }
"""


def small(name: str = "small") -> Scenario:
    """A scenario of two devices."""
    return parse_scenario(SMALL, Path(f"{name}.toml"))
