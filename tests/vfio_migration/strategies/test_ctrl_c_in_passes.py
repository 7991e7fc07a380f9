"""Ctrl-C by each strategy, real signals in real time: raised when handlers were called and threads joined."""

import threading

import pytest
from suite.machines import LIMIT, make_machine
from suite.signals import press_ctrl_c
from suite.strategies import STRATEGIES

from vfio_migration import DeviceState, use_strategy
from vfio_migration.testing import our_threads
from vmstate import RealClock, RunState

S = DeviceState
pytestmark = pytest.mark.usefixtures("ctrl_c")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ctrl_c_in_a_handler_is_raised_when_all_threads_are_joined_and_handlers_called(
    strategy: str, threads: str
) -> None:
    rig = make_machine(threads, RealClock())
    machine = rig.machine
    use_strategy(machine, strategy)
    devices = [rig.add_device(f"vf{place}", depth=1 + place % 2) for place in range(4)]
    machine.start()
    called: list[RunState] = []
    before = our_threads()  # which are parked
    machine.handlers.add(lambda running, state: called.append(state), priority=-5)
    rig.add_handler("d", lambda running, state: press_ctrl_c(), depth=2)
    with pytest.raises(KeyboardInterrupt):
        machine.stop()
    assert [device.device_state for device in devices] == [S.STOP] * 4
    assert called == [RunState.PAUSED]
    assert set(our_threads()) <= set(before)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "serial"])
def test_ctrl_c_while_a_thread_is_joined_waits_for_that_thread_and_those_behind_it(strategy: str, threads: str) -> None:
    rig = make_machine(threads, RealClock())
    machine = rig.machine
    use_strategy(machine, strategy)
    devices = [rig.add_device("vf0", depth=1)]
    devices.append(rig.add_device("vf1", depth=1, stall="RUNNING_P2P -> STOP"))  # launched first, and joined first
    mock = rig.mocks["vf1"]
    machine.start()
    pressed = threading.Event()

    def interrupt_then_release() -> None:
        while not mock.stalled:
            threading.Event().wait(0.001)
        press_ctrl_c()
        pressed.set()
        threading.Event().wait(0.01)
        mock.release()

    thread = threading.Thread(target=interrupt_then_release)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        machine.stop()
    thread.join(LIMIT)
    assert pressed.is_set()
    states = [[device.device_state for device in devices]]
    machine.start()
    states.append([device.device_state for device in devices])
    assert states == [[S.STOP] * 2, [S.RUNNING] * 2]
