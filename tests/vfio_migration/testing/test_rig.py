import threading
from collections.abc import Callable
from typing import Any

import pytest

from vfio_migration import DataFault, DeviceState, MockDevice, Watchdog
from vfio_migration.testing import MachineRig, PairRig
from vmstate import RegistrationError, RunState


def test_devices_and_handlers_lie_at_the_depth_that_was_asked_for(vm_machine: MachineRig) -> None:
    device = vm_machine.add_device("vf0", depth=3)
    entry = vm_machine.add_handler("disk", depth=2)
    assert device.vfio_device.device.depth == 3
    assert entry.priority == 2 * 65536 + 32768
    assert vm_machine.add_handler("plain", priority=-7).priority == -7
    with pytest.raises(ValueError, match="depth of 1 or more"):
        vm_machine.bus(0)


@pytest.mark.parametrize("text", ["STOP", "STOP -> NOWHERE", "-> STOP", "stop -> running"])
def test_a_fault_that_is_no_arc_is_refused(vm_machine: MachineRig, text: str) -> None:
    with pytest.raises(ValueError, match="an arc is written"):
        vm_machine.add_device("vf0", fail=text)


@pytest.mark.parametrize(
    ("arc", "lost_side"), [("PRE_COPY -> PRE_COPY_P2P", "source"), ("STOP -> RUNNING_P2P", "destination")]
)
def test_a_fault_of_a_pair_goes_to_the_side_that_walks_the_arc(vm_pair: PairRig, arc: str, lost_side: str) -> None:
    vm_pair.add_device("vf0", fail=[arc])
    report = vm_pair.migrate()
    assert report.status == "failed"
    assert ("destination" in str(report.error)) == (lost_side == "destination")
    assert vm_pair.migrate().completed


def test_a_handler_may_do_something_of_its_own(vm_pair: PairRig) -> None:
    calls = []
    vm_pair.add_handler("noted", callback=lambda running, state: calls.append((running, state)), depth=1, prepare=True)
    assert vm_pair.migrate().completed
    assert calls == [(False, RunState.FINISH_MIGRATE)] * 2 + [(True, RunState.RUNNING)] * 2


def test_closing_takes_all_devices_away_even_those_that_stall() -> None:
    with PairRig() as pair:
        pair.add_device("vf0", stall="RESUMING -> STOP")
        pair.source.add_device("extra", threads="parked")
        assert pair.source.device_states == {"vf0": DeviceState.RUNNING, "extra": DeviceState.RUNNING}
    assert pair.source.machine.migratables == pair.destination.machine.migratables == ()
    assert len(pair.source.machine.handlers) == 0


def test_latencies_may_be_written_as_arcs(vm_machine: MachineRig) -> None:
    vm_machine.add_device("vf0", latency={"PRE_COPY_P2P -> STOP_COPY": 0.08})
    assert vm_machine.mocks["vf0"].arc_latency(DeviceState.PRE_COPY_P2P, DeviceState.STOP_COPY) == 0.08
    with pytest.raises(ValueError, match="an arc is written"):
        vm_machine.add_device("vf1", latency={"STOP_COPY": 0.08})
    with pytest.raises(ValueError, match="no device has an arc RUNNING -> RESUMING"):
        vm_machine.add_device("vf1", latency={"RUNNING -> RESUMING": 0.08})


def test_a_pair_takes_any_backend(vm_pair: PairRig) -> None:
    made: list[MockDevice] = []

    def make() -> MockDevice:
        made.append(MockDevice(latency=0.001))
        return made[-1]

    vm_pair.add_device("own", backend=make)
    assert vm_pair.migrate().completed
    assert [device.state for device in made] == [DeviceState.STOP, DeviceState.RUNNING]
    with pytest.raises(TypeError, match="'other' has a backend of its own"):
        vm_pair.add_device("other", backend=make, latency=0.1)


def test_a_backend_that_lacks_something_is_named(vm_machine: MachineRig) -> None:
    with pytest.raises(TypeError, match="the backend of device 'vf0' lacks flags, state, bind"):
        vm_machine.add_device("vf0", backend=object)  # type: ignore[arg-type]


def test_devices_change_by_the_threads_of_their_rig_unless_told_otherwise() -> None:
    with MachineRig(threads="parked") as parked, MachineRig(parallel=False) as serial:
        for rig in (parked, serial):
            rig.add_device("usual")
            rig.add_device("other", parallel=True, threads="per-change")
        parked_threads = [each.name for each in threading.enumerate() if each.name.startswith("vfio_parked")]
        entries = [[entry.name for entry in rig.machine.handlers].count("usual") for rig in (parked, serial)]
    assert parked_threads == ["vfio_parked usual"]
    assert entries == [2, 1]


@pytest.mark.parametrize("make", [lambda mock: mock, lambda mock: lambda: mock], ids=["it", "what makes it"])
def test_a_mock_of_one_s_own_is_among_the_mocks(vm_machine: MachineRig, make: Callable[[MockDevice], Any]) -> None:
    mock = MockDevice()
    vm_machine.add_device("vf0", backend=make(mock))
    assert vm_machine.mocks == {"vf0": mock}


def test_a_refused_device_takes_no_place() -> None:
    with MachineRig() as rig:
        first = rig.add_device("vf0")
        mock = rig.mocks["vf0"]
        with pytest.raises(RegistrationError, match="vf0"):
            rig.add_device("vf0")
        assert (rig.devices, rig.mocks) == ({"vf0": first}, {"vf0": mock})


def test_a_lost_device_that_stalls_is_removed_and_another_takes_its_place(vm_pair: PairRig) -> None:
    vm_pair.add_device("vf0", stall="PRE_COPY_P2P -> STOP_COPY", watchdog=Watchdog(give_up_after_s=5))
    assert vm_pair.migrate().lost_devices == ("vf0",)
    vm_pair.remove_device("vf0")
    assert vm_pair.source.machine.migratables == vm_pair.destination.machine.migratables == ()
    assert not vm_pair.source.mocks
    assert not vm_pair.source.devices
    vm_pair.add_device("vf0")
    assert vm_pair.migrate().completed


def test_a_pair_migrates_there_and_back_with_states_that_differed(vm_pair: PairRig) -> None:
    for name in ("vf0", "vf1"):
        vm_pair.add_device(name)
    hashes = vm_pair.source.state_hashes
    assert len({*hashes.values(), *vm_pair.destination.state_hashes.values()}) == 4
    assert vm_pair.migrate().completed
    assert vm_pair.destination.state_hashes == vm_pair.source.state_hashes
    assert vm_pair.migrate(back=True).completed
    assert vm_pair.source.machine.run_state is RunState.RUNNING
    assert vm_pair.source.state_hashes == vm_pair.destination.state_hashes


def test_a_fault_that_was_arranged_and_never_met_is_named() -> None:
    with PairRig() as pair:
        pair.add_device("vf0", fail=["PRE_COPY -> PRE_COPY_P2P", "STOP -> RUNNING_P2P"], stall="RUNNING -> PRE_COPY")
        pair.source.mocks["vf0"].fail_write()
        pair.source.mocks["vf0"].release()
        pair.source.mocks["vf0"].heal()
        pair.source.mocks["vf0"].fail(DeviceState.PRE_COPY, DeviceState.PRE_COPY_P2P)
        pair.source.mocks["vf0"].fail_reset()
        pair.source.mocks["vf0"].fail_read(DataFault.CUT, probability=0.0)
        pair.migrate(check=False)
        assert pair.unmet_faults == (
            "cut of read of device 'vf0', source",
            "failure of STOP -> RUNNING_P2P of device 'vf0', destination",
        )
