"""K2: devices measured by the mechanism itself; figures, and a scenario that predicts what was measured."""

import errno
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.fake_kernel import kernel_with

from vfio_migration import ALL_FLAGS, DeviceState, MigrationFlags, MockDevice
from vfio_migration.forecast import predict
from vfio_migration.kernel import KernelDevice
from vfio_migration.measuring import (
    MODES,
    PARKED,
    PER_CHANGE,
    SERIAL,
    MeasuredRun,
    Measurement,
    Request,
    Subject,
    figures,
    measure,
    measured_json,
    measured_scenario,
    slowed,
)
from vfio_migration.measuring.timed_backend import Requests, TimedBackend
from vfio_migration.recorded import Timeline
from vfio_migration.scenarios import parse_scenario, run_once
from vfio_migration.testing import check_backend
from vmstate import Clock, Lock, VirtualClock

S = DeviceState


def mock(seed: int, flags: MigrationFlags = ALL_FLAGS) -> MockDevice:
    latency = {
        (S.PRE_COPY, S.PRE_COPY_P2P): 0.02,
        (S.PRE_COPY_P2P, S.STOP_COPY): 0.03 * seed,
        (S.RESUMING, S.STOP): 0.04,
        (S.STOP, S.RUNNING_P2P): 0.01,
        (S.RUNNING_P2P, S.RUNNING): 0.02,
    }
    return MockDevice(flags=flags, latency=latency, seed=seed, state_size=3_000_000, rate=100e6, write_rate=200e6)


def pairs(count: int) -> list[Subject]:
    return [Subject(f"vf{number}", mock(number), mock(number + 10)) for number in range(1, count + 1)]


@pytest.fixture(scope="module")
def measured() -> Measurement:
    return measure(pairs(3), runs=3, make_clock=VirtualClock)


def median_of(measurement: Measurement, mode: str, part: str) -> float:
    found = measurement.part(mode, part)
    assert found is not None
    return found.median


def test_each_request_takes_what_the_device_takes(measured: Measurement) -> None:
    for number in (1, 2, 3):
        for mode in MODES:
            samples = measured.samples(mode, f"vf{number}")
            assert samples["PRE_COPY -> PRE_COPY_P2P"] == pytest.approx([0.02] * 3)
            assert samples["PRE_COPY_P2P -> STOP_COPY"] == pytest.approx([0.03 * number] * 3)
            assert samples["RESUMING -> STOP"] == pytest.approx([0.04] * 3)
            assert samples["all reads"] == pytest.approx([0.03] * 3)
            assert measured.sizes(mode, f"vf{number}")["state"] == [3_000_000] * 3


def test_changes_in_threads_are_the_mechanisms_own(measured: Measurement) -> None:
    stops = {mode: median_of(measured, mode, "source_stop_s") for mode in MODES}
    assert stops[SERIAL] == pytest.approx(3 * 0.02 + 0.03 + 0.06 + 0.09)
    assert stops[PER_CHANGE] == stops[PARKED] == pytest.approx(0.02 + 0.09)


def test_the_scenario_predicts_what_was_measured(measured: Measurement) -> None:
    found = measured_scenario(measured, "three of them")
    assert found is not None
    scenario = parse_scenario(found.text, Path("measured.toml"))
    for each, mode in ((scenario.serial(), SERIAL), (scenario, PER_CHANGE)):
        took = median_of(measured, mode, "switchover_s")
        assert predict(each).switchover_s == pytest.approx(took, rel=0.01)
        assert found.predicted[mode] == pytest.approx(took, rel=0.01)
        assert run_once(each, VirtualClock()).report.switchover_s == pytest.approx(took, rel=0.01)


def run_of(mode: str, parts: tuple[float, float, float], devices: int, arc_s: float) -> MeasuredRun:
    """Give a run as it could have been measured: each of the two arcs of each side took so long."""
    requests = [
        Request(f"vf{number}", side, "arc", 0, round(arc_s * 1e9), arc=arc)
        for number in range(devices)
        for side, arcs in (
            ("source", ((S.PRE_COPY, S.PRE_COPY_P2P), (S.PRE_COPY_P2P, S.STOP_COPY))),
            ("destination", ((S.STOP, S.RUNNING_P2P), (S.RUNNING_P2P, S.RUNNING))),
        )
        for arc in arcs
    ]
    return MeasuredRun(mode, *parts, tuple(requests), Timeline((), None, None))


def test_what_the_machine_around_the_devices_took_is_in_the_scenario_too() -> None:
    """Two devices of 10 ms an arc; walk and stream took 5, 3 and 7 ms more, and threads 8 ms."""
    measurement = Measurement(
        {"vf0": ALL_FLAGS, "vf1": ALL_FLAGS},
        itself=False,
        runs={
            SERIAL: (run_of(SERIAL, (0.045, 0.003, 0.047), 2, 0.01),),
            PER_CHANGE: (run_of(PER_CHANGE, (0.029, 0.003, 0.031), 2, 0.01),),
        },
    )
    found = measured_scenario(measurement, "by hand")
    assert found is not None
    phases = parse_scenario(found.text, Path("measured.toml")).phases
    assert (phases.pause_vcpus_s, phases.other_state_s, phases.load_state_s) == pytest.approx((0.005, 0.003, 0.007))
    assert found.predicted == pytest.approx({SERIAL: 0.095, PER_CHANGE: 0.063})
    assert phases.launch_s == phases.join_s > 0


def test_nothing_is_left_of_real_devices() -> None:
    kernel = kernel_with(6)
    real = [KernelDevice(each.name, system=kernel) for each in kernel.devices]
    measurement = measure([Subject(f"vf{n}", real[n], real[n + 3]) for n in range(3)], runs=2)
    for each in real:
        each.close()
    assert measurement.failures == ()
    assert kernel.open_descriptors == {}
    assert {each.state for each in kernel.devices} == {S.RUNNING}


def test_devices_take_back_their_own_state() -> None:
    kernel = kernel_with(2)
    before = [each.memory for each in kernel.devices]
    real = [KernelDevice(each.name, system=kernel) for each in kernel.devices]
    measurement = measure([Subject(each.name, each) for each in real], runs=2)
    assert measurement.failures == ()
    assert measurement.itself
    for each in real:
        each.close()
    assert [each.memory for each in kernel.devices] == before
    for mode in MODES:
        arcs = measurement.samples(mode, real[0].name)
        assert {"PRE_COPY_P2P -> STOP_COPY", "RESUMING -> STOP", "RUNNING_P2P -> RUNNING", "all writes", "reset"} < set(
            arcs
        )
        assert len(arcs["RUNNING_P2P -> RUNNING"]) == 2
    found = measured_scenario(measurement, "itself")
    assert found is not None
    assert any("its own state" in note for note in found.notes)


class OneAtATime(MockDevice):
    """Firmware that carries out one command at a time: in threads an arc takes as long as those before it, too."""

    busy: Lock

    def bind(self, clock: Clock) -> None:
        super().bind(clock)
        self.busy = _BUSY.setdefault(id(clock), clock.lock("firmware"))

    def set_arc(self, target: DeviceState) -> None:
        self.busy.acquire()
        try:
            super().set_arc(target)
        finally:
            self.busy.release()


_BUSY: dict[int, Lock] = {}


def test_devices_that_wait_for_each_other_are_found_out() -> None:
    clocks: list[VirtualClock] = []  # kept, as locks are told apart by their clocks

    def make_clock() -> VirtualClock:
        clocks.append(VirtualClock())
        return clocks[-1]

    subjects = [
        Subject(f"vf{number}", *(OneAtATime(latency=0.01, seed=seed) for seed in (number, number + 9)))
        for number in (1, 2)
    ]
    measurement = measure(subjects, runs=2, make_clock=make_clock)
    assert measurement.failures == ()
    times = slowed(measurement, PER_CHANGE)
    assert max(times.values()) > 1.25
    found = measured_scenario(measurement, "one at a time")
    assert found is not None
    assert any("wait for each other" in " ".join(note.split()) for note in found.notes)
    assert found.predicted[PER_CHANGE] == pytest.approx(median_of(measurement, PER_CHANGE, "switchover_s"), rel=0.3)


def test_a_mode_that_failed_is_not_run_again_and_says_why() -> None:
    subjects = pairs(1)
    source = subjects[0].source
    assert isinstance(source, MockDevice)
    source.fail(S.PRE_COPY_P2P, S.STOP_COPY, errno=errno.EIO)
    measurement = measure(subjects, runs=3, modes=(SERIAL,), make_clock=VirtualClock)
    assert len(measurement.runs[SERIAL]) == 1
    assert len(measurement.failures) == 1
    assert "vf1" in measurement.failures[0]
    assert measured_scenario(measurement, "nothing") is None
    assert measured_json(measurement, None)["failures"] == list(measurement.failures)


def test_what_cannot_be_one_switchover_is_refused() -> None:
    one = mock(1)
    for subjects, said in (
        ([], "no device"),
        ([Subject("a", one, mock(2)), Subject("b", mock(3))], "or none"),
        ([Subject("a", one), Subject("a", mock(2))], "one name"),
        ([Subject("a", one, one)], "named twice"),
    ):
        with pytest.raises(ValueError, match=said):
            measure(subjects, make_clock=VirtualClock)


def test_without_pre_copy_and_with_one_mode_only() -> None:
    flags = MigrationFlags.STOP_COPY | MigrationFlags.P2P
    subjects = [Subject("vf0", mock(1, flags=flags), mock(2, flags=flags))]
    measurement = measure(subjects, runs=1, modes=(PARKED,), make_clock=VirtualClock)
    found = measured_scenario(measurement, "no pre-copy")
    assert found is not None
    assert "precopy = false" in found.text
    assert found.predicted[PARKED] == pytest.approx(median_of(measurement, PARKED, "switchover_s"), rel=0.01)


def test_json_has_every_figure(measured: Measurement) -> None:
    data = json.loads(json.dumps(measured_json(measured, measured_scenario(measured, "x"))))
    assert data["modes"][SERIAL]["switchover_s"]["count"] == 3
    assert data["modes"][SERIAL]["predicted_s"] == pytest.approx(
        data["modes"][SERIAL]["switchover_s"]["median"], rel=0.01
    )
    assert data["devices"]["vf1"]["times"]["RESUMING -> STOP"][PARKED]["p90"] == pytest.approx(0.04)
    assert data["devices"]["vf1"]["flags"] == ["STOP_COPY", "P2P", "PRE_COPY"]


def test_a_timed_backend_is_a_backend() -> None:
    check_backend(lambda: TimedBackend(MockDevice(latency=0.001), "vf0", "source", Requests()))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_figures_are_ranks(values: list[float]) -> None:
    found = figures(values)
    assert found is not None
    ordered = sorted(values)
    assert sum(each <= found.p90 for each in ordered) >= 0.9 * len(ordered)
    assert sum(each < found.p90 for each in ordered) < 0.9 * len(ordered)
    assert found.spread == ordered[-1] - ordered[0]
    assert asdict(found)["count"] == len(values)
