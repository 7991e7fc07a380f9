"""
Every arc of a migration on both sides, times every fault, times serial and parallel with threads of each kind, times
device features, times one device and all: all invariants hold, and the next migration of the pair completes. In virtual
time.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from suite import ROOT
from suite.machines import BARE, NO_P2P, NO_PRECOPY, SERIAL, make_pair

from vfio_migration import (
    ALL_FLAGS,
    DataFault,
    DeviceState,
    MigrationFlags,
    MigrationStatus,
    MockDevice,
    Watchdog,
    transition_path,
)
from vfio_migration.changes.launchers import THREADS
from vfio_migration.testing import Invariants, MachineRig, PairRig

S = DeviceState
Arc = tuple[DeviceState, DeviceState]
FEATURES = {"all": ALL_FLAGS, "no precopy": NO_PRECOPY, "no p2p": NO_P2P, "bare": BARE}


def arcs_of(side: str, flags: MigrationFlags) -> list[Arc]:
    """Follow a device through a migration: setup, prepare and main pass, saving or loading, the clean-up."""
    p2p, precopy = MigrationFlags.P2P in flags, MigrationFlags.PRE_COPY in flags
    if side == "source":
        stops = [S.RUNNING, *([S.PRE_COPY] if precopy else [])]
        if p2p:
            stops.append(S.PRE_COPY_P2P if precopy else S.RUNNING_P2P)
        stops += [S.STOP_COPY] if precopy else [S.STOP, S.STOP_COPY]
        stops.append(S.STOP)
    else:
        stops = [S.RUNNING, S.RESUMING, *([S.RUNNING_P2P] if p2p else []), S.RUNNING]
    way = [stops[0]]
    for stop in stops[1:]:
        way += transition_path(way[-1], stop, flags)
    return list(itertools.pairwise(way))


FAULTS: dict[str, Callable[[MockDevice, Arc], None]] = {
    "fails": lambda mock, arc: mock.fail(*arc),
    "fails twice": lambda mock, arc: mock.fail(*arc, times=2),
    "fails into ERROR": lambda mock, arc: mock.fail(*arc, into_error=True),
    "fails, and its reset": lambda mock, arc: (mock.fail(*arc), mock.fail_reset())[0],  # type: ignore[func-returns-value]
    "stalls for a while": lambda mock, arc: mock.stall(*arc, seconds=50.0),
    "stalls, then fails": lambda mock, arc: (mock.stall(*arc, seconds=50.0), mock.fail(*arc))[0],  # type: ignore[func-returns-value]
    "stalls for good": lambda mock, arc: mock.stall(*arc),
}


@dataclass(frozen=True)
class Case:
    side: str
    features: str
    arc: Arc
    fault: str
    mode: str
    everybody: bool

    def __str__(self) -> str:
        way = f"{self.arc[0].name}->{self.arc[1].name}"
        return " ".join([self.side, self.features, way, self.fault, self.mode, "all" if self.everybody else "one"])


def cases() -> Iterator[Case]:
    for side, features, fault, mode, everybody in itertools.product(
        ("source", "destination"), FEATURES, FAULTS, (SERIAL, *THREADS), (True, False)
    ):
        flags = FEATURES[features]
        if everybody and MigrationFlags.P2P not in flags:
            continue  # such a device migrates alone: one is all
        for arc in dict.fromkeys(arcs_of(side, flags)):
            if fault == "stalls for good" and (mode == SERIAL or not given_up_at(side, arc)):
                continue  # nobody watches there: it would stall for good
            yield Case(side, features, arc, fault, mode, everybody)


def given_up_at(side: str, arc: Arc) -> bool:
    """Whether an arc is one of a state-change thread, whose join is watched."""
    if side == "source":
        return arc[1] is not S.PRE_COPY and arc not in ((S.STOP, S.STOP_COPY), (S.STOP_COPY, S.STOP))
    # The way to RESUMING goes by these too, and is met first.
    return arc in ((S.RESUMING, S.STOP), (S.STOP, S.RUNNING_P2P), (S.RUNNING_P2P, S.RUNNING), (S.STOP, S.RUNNING))


CASES = list(cases())


def build(case: Case) -> PairRig:
    options: dict[str, Any] = {
        "flags": FEATURES[case.features],
        "state_size": 600,
        "watchdog": Watchdog(warn_after_s=5.0, give_up_after_s=100.0),
    }
    p2p = MigrationFlags.P2P in options["flags"]
    pair = make_pair(("vf0", "vf1") if p2p else ("vf0",), threads=case.mode, **options)
    if p2p:
        pair.add_device("vf2", depth=4, latency=0.01, rate=1e6, **options)
    return pair


def replace_lost(pair: PairRig, flags: MigrationFlags) -> None:
    """Take lost devices away, on both sides, and put new ones in their places."""
    for name in list(pair.source.devices):
        if any(side.device_states[name] is S.ERROR for side in (pair.source, pair.destination)):
            pair.remove_device(name)
            pair.add_device(name, flags=flags, state_size=600)


def marked(case: Case) -> Any:
    """
    Leave to the slow tests what others show too: parked threads, and of devices that lack features all but one way.

    What is asked of both launchers alike is in tests of their own.
    """
    again = case.features != "all" and (case.mode == SERIAL or case.everybody)
    return pytest.param(case, id=str(case), marks=pytest.mark.slow if case.mode == "parked" or again else ())


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_whatever_fails_nothing_is_lost(case: Case) -> None:
    pair = build(case)
    chosen: MachineRig = getattr(pair, case.side)
    for name in chosen.mocks if case.everybody else list(chosen.mocks)[-1:]:
        FAULTS[case.fault](chosen.mocks[name], case.arc)
    invariants = Invariants(pair.source.machine, pair.destination.machine)
    report = pair.migrate(check=False)
    lost = {*report.lost_devices, *report.destination_lost_devices}
    invariants.check(report, given_up=len(lost) if case.fault == "stalls for good" else 0)

    completes = case.fault == "stalls for a while" or case.arc == (S.STOP_COPY, S.STOP)
    assert report.status is (MigrationStatus.COMPLETED if completes else MigrationStatus.FAILED)
    assert (report.error is None) == completes
    if case.fault in ("fails", "fails into ERROR", "stalls for a while", "stalls, then fails"):
        assert lost == set()
    if case.fault == "stalls for good":
        assert lost

    for side in (pair.source, pair.destination):
        for mock in side.mocks.values():
            mock.heal()
    replace_lost(pair, FEATURES[case.features])
    second = pair.migrate(back=report.completed)
    assert second.completed, second.error


def test_the_number_of_combinations_is_what_the_reference_says() -> None:
    assert len(CASES) == len(set(map(str, CASES))) == 1024
    assert "1024 combinations" in (ROOT / "docs" / "withstands.md").read_text(encoding="utf-8")


DATA_CASES = [
    *(("source", fault) for fault in DataFault),
    *(("destination", fault) for fault in DataFault if fault is not DataFault.SHORT),
]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(("side", "fault"), DATA_CASES)
def test_whatever_happens_to_the_state_on_its_way_nothing_wrong_ever_runs(
    side: str, fault: DataFault, features: str, mode: str
) -> None:
    flags = FEATURES[features]
    pair = make_pair(("vf0", "vf1") if MigrationFlags.P2P in flags else ("vf0",), flags=flags, threads=mode)
    if side == "source":
        pair.source.mocks["vf0"].fail_read(fault)
    else:
        pair.destination.mocks["vf0"].fail_write(fault)
    report = pair.migrate()
    assert report.completed == (fault is DataFault.SHORT)
    if not report.completed:
        for each in (pair.source, pair.destination):
            each.mocks["vf0"].heal()
        assert pair.migrate().completed
