"""Rules V1 and V2, the trace of a request, and H11."""

import errno
from dataclasses import dataclass

import pytest
from suite.machines import Backend, S, begin_attempt, for_the_test, make_machine, make_pair

from vfio_migration import (
    BlockedTransitionError,
    DeviceLostError,
    DeviceState,
    MockDevice,
    VFIOMigration,
    VFIOMigrationError,
)
from vfio_migration.testing import MachineRig
from vmstate import RunState

REQUEST = "vfio_migration_set_state"
RECORDED = "vfio_migration_set_device_state"


class Subject(MachineRig):
    """One device, and what is asked of it."""

    def __init__(self, *, events: bool = True) -> None:
        super().__init__(run_state=RunState.PRELAUNCH)
        for_the_test(self)
        self.backend = Backend()
        self.migration = self.add_device("vf0", backend=self.backend, events=events)
        self.setter = self.migration._setter

    def bring(self, *states: DeviceState) -> None:
        for state in states:
            self.setter.set_state_or_reset(state)
        self.recorder.clear()
        self.announced.clear()
        self.backend.asked.clear()

    def requests(self) -> list[tuple[str, str, str]]:
        return [
            (e.fields["name"], e.fields["new_state"], e.fields["recover_state"]) for e in self.recorder.select(REQUEST)
        ]

    def recorded(self) -> list[str]:
        return [event.fields["state"] for event in self.recorder.select(RECORDED)]

    def states_announced(self) -> list[str]:
        return [event.data["device-state"] for event in self.announced if event.name == "VFIO_MIGRATION"]

    @property
    def states(self) -> tuple[DeviceState, DeviceState]:
        """What QEMU believes, and what is so."""
        return self.migration.device_state, self.backend.state


def test_a_device_begins_in_running_whatever_its_machine_does() -> None:
    subject = Subject()
    assert subject.machine.run_state is RunState.PRELAUNCH
    assert subject.states == (S.RUNNING, S.RUNNING)


def test_a_state_is_reached_arc_by_arc() -> None:
    subject = Subject()
    subject.setter.set_state(S.STOP_COPY, S.STOP)
    assert subject.states == (S.STOP_COPY, S.STOP_COPY)
    assert subject.backend.asked == ["RUNNING_P2P", "STOP", "STOP_COPY"]
    assert subject.requests() == [("vf0", "STOP_COPY", "STOP")]
    assert subject.recorded() == ["STOP_COPY"]


@pytest.mark.parametrize("state", [state for state in DeviceState if state is not S.ERROR])
def test_asking_for_the_current_state_does_nothing_but_is_traced(state: DeviceState) -> None:
    subject = Subject()
    subject.bring(state)
    subject.setter.set_state(state, S.ERROR)
    assert subject.states == (state, state)
    assert subject.backend.asked == subject.recorded() == subject.states_announced() == []
    assert subject.requests() == [("vf0", state.name, "ERROR")]


@dataclass
class Case:
    """A device is asked for something, and some arcs fail."""

    begin: DeviceState
    new: DeviceState
    recover: DeviceState
    faults: list[tuple[DeviceState, DeviceState]]
    asked: list[str]
    end: DeviceState
    dies: bool = False


CASES = {
    "recovers by going on from where the walk had come to": Case(
        S.RUNNING, S.STOP, S.RUNNING, [(S.RUNNING_P2P, S.STOP)], ["RUNNING_P2P", "STOP", "RUNNING"], S.RUNNING
    ),
    "recovers where it is": Case(S.STOP, S.STOP_COPY, S.STOP, [(S.STOP, S.STOP_COPY)], ["STOP_COPY"], S.STOP),
    "recovers in another state than it had": Case(
        S.STOP, S.STOP_COPY, S.RUNNING_P2P, [(S.STOP, S.STOP_COPY)], ["STOP_COPY", "RUNNING_P2P"], S.RUNNING_P2P
    ),
    "recovering fails": Case(
        S.RUNNING,
        S.STOP,
        S.RUNNING,
        [(S.RUNNING_P2P, S.STOP), (S.RUNNING_P2P, S.RUNNING)],
        ["RUNNING_P2P", "STOP", "RUNNING", "reset"],
        S.RUNNING,
    ),
    "recovering is no way": Case(
        S.STOP, S.RUNNING, S.RESUMING, [(S.STOP, S.RUNNING_P2P)], ["RUNNING_P2P", "reset"], S.RUNNING, dies=True
    ),
    "no recover state": Case(
        S.RUNNING, S.STOP, S.ERROR, [(S.RUNNING, S.RUNNING_P2P)], ["RUNNING_P2P", "reset"], S.RUNNING
    ),
    "no recover state, and the driver left it in ERROR": Case(
        S.RUNNING, S.STOP, S.ERROR, [(S.RUNNING, S.RUNNING_P2P)], ["RUNNING_P2P", "reset"], S.RUNNING, dies=True
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_after_a_failure_the_device_is_in_the_recover_state_or_was_reset(case: Case) -> None:
    subject = Subject()
    subject.bring(case.begin)
    for arc in case.faults:
        subject.backend.fail(*arc, into_error=case.dies)
    with pytest.raises(OSError, match=" to ".join(state.name for state in case.faults[0])) as caught:
        subject.setter.set_state(case.new, case.recover)
    assert caught.value.errno == errno.EIO  # the first error, whatever recovering did
    assert subject.states == (case.end, case.end)
    assert subject.backend.asked == case.asked
    assert subject.requests() == [("vf0", case.new.name, case.recover.name)]
    assert subject.recorded() == [case.end.name]
    assert subject.states_announced() == [case.end.qapi]


def test_after_a_failure_the_same_can_be_asked_again() -> None:
    subject = Subject()
    subject.backend.fail(S.RUNNING, S.RUNNING_P2P)
    with pytest.raises(OSError, match="RUNNING_P2P"):
        subject.setter.set_state_or_reset(S.STOP)
    subject.setter.set_state_or_reset(S.STOP)
    assert subject.states == (S.STOP, S.STOP)


@pytest.mark.parametrize("recover", [S.ERROR, S.RUNNING])
def test_a_way_that_is_blocked_fails_as_an_arc_does(recover: DeviceState) -> None:
    subject = Subject()
    subject.bring(S.STOP_COPY)
    with pytest.raises(BlockedTransitionError):
        subject.setter.set_state(S.PRE_COPY, recover)
    assert subject.states == (S.RUNNING, S.RUNNING)
    assert ("reset" in subject.backend.asked) is (recover is S.ERROR)


# Lost devices:


def lose(subject: Subject) -> DeviceLostError:
    subject.backend.fail_reset(errno=errno.ENODEV)
    subject.backend.fail(subject.backend.state, S.RUNNING_P2P)
    with pytest.raises(DeviceLostError) as caught:
        subject.setter.set_state(S.RUNNING_P2P, S.ERROR)
    subject.backend.asked.clear()
    return caught.value


def test_a_device_whose_reset_fails_is_lost() -> None:
    subject = Subject()
    error = lose(subject)
    assert all(word in str(error) for word in ("'vf0'", "No such device", "RUNNING to RUNNING_P2P"))
    assert isinstance(error, VFIOMigrationError)
    assert subject.migration.device_state is S.ERROR


def test_a_lost_device_is_logged_and_not_announced(caplog: pytest.LogCaptureFixture) -> None:
    subject = Subject()
    lose(subject)
    assert subject.recorded() == subject.states_announced() == []
    assert [(r.levelname, r.__dict__["device"]) for r in caplog.records] == [("ERROR", "vf0")]


@pytest.mark.parametrize("recover", DeviceState)
@pytest.mark.parametrize("new", DeviceState)
def test_a_lost_device_refuses_everything_and_its_backend_is_asked_nothing(
    new: DeviceState, recover: DeviceState
) -> None:
    subject = Subject()
    lose(subject)
    with pytest.raises(DeviceLostError, match="vf0"):
        subject.setter.set_state(new, recover)
    assert subject.backend.asked == []
    assert subject.migration.device_state is S.ERROR
    assert subject.requests()[-1] == ("vf0", new.name, recover.name)


def test_a_lost_device_is_not_reset_again() -> None:
    """Section 10: a lost device accepts nothing until it is taken away."""
    subject = Subject()
    lose(subject)
    with pytest.raises(DeviceLostError, match="vf0"):
        subject.setter.reset()
    assert subject.backend.asked == []
    assert subject.migration.device_state is S.ERROR


def test_a_lost_device_cannot_become_part_of_a_destination() -> None:
    subject = Subject()
    lose(subject)
    with pytest.raises(DeviceLostError, match="vf0"):
        subject.migration.load_setup()
    assert subject.backend.asked == []


def test_a_machine_with_a_lost_device_starts_and_stops_all_the_same(mode: str) -> None:
    rig = make_machine(mode)
    backends = {name: Backend() for name in ("vf0", "vf1")}
    vf0, vf1 = (rig.add_device(name, backend=backend) for name, backend in backends.items())
    rig.machine.start()
    backends["vf0"].asked.clear()
    backends["vf0"].fail(S.RUNNING, S.RUNNING_P2P)
    backends["vf0"].fail_reset(errno=errno.ENODEV)
    attempt = begin_attempt(rig)
    assert rig.machine.stop() == 0
    assert (vf0.device_state, vf1.device_state) == (S.ERROR, S.STOP)
    assert [type(error) for error in attempt.errors] == [DeviceLostError] * 2  # of prepare, and of main
    rig.machine.end_attempt(attempt)
    rig.machine.start()
    assert (vf0.device_state, vf1.device_state) == (S.ERROR, S.RUNNING)
    assert backends["vf0"].asked == ["RUNNING_P2P", "reset"]


def test_a_lost_device_that_was_taken_away_can_be_registered_anew() -> None:
    subject = Subject()
    lose(subject)
    subject.migration.close()
    again = VFIOMigration(subject.machine, subject.migration.vfio_device)
    assert (again.device_state, subject.backend.state) == (S.RUNNING, S.RUNNING)


# H11:


def test_each_recorded_state_is_announced_with_the_device_s_id_and_path() -> None:
    subject = Subject()
    for state in (S.PRE_COPY, S.PRE_COPY, S.STOP_COPY, S.RUNNING):
        subject.setter.set_state_or_reset(state)
    events = [event for event in subject.announced if event.name == "VFIO_MIGRATION"]
    assert subject.states_announced() == ["pre-copy", "stop-copy", "running"]  # not each arc
    assert events[0].data == {
        "device-id": "vf0",
        "qom-path": "/machine/peripheral/vf0",
        "device-state": "pre-copy",
    }


def test_events_come_at_the_time_at_which_the_state_was_reached() -> None:
    rig = make_machine()
    migration = rig.add_device("vf0", latency=0.5, events=True)
    migration._setter.set_state_or_reset(S.STOP)
    assert [event.time_ns for event in rig.announced] == [1_000_000_000]


def test_without_migration_events_nothing_is_announced() -> None:
    subject = Subject(events=False)
    subject.setter.set_state_or_reset(S.STOP)
    assert subject.recorded() == ["STOP"]
    assert subject.announced == []


# V2:


def test_pre_copy_is_recovered_from_by_going_back_to_running() -> None:
    subject = Subject()
    subject.backend.fail(S.RUNNING, S.PRE_COPY)
    with pytest.raises(OSError, match="PRE_COPY"):
        subject.migration.save_setup(Sink())
    assert subject.requests() == [("vf0", "PRE_COPY", "RUNNING")]
    assert subject.states == (S.RUNNING, S.RUNNING)
    assert "reset" not in subject.backend.asked


def test_stop_copy_while_saving_is_recovered_from_by_going_to_stop() -> None:
    subject = Subject()
    subject.bring(S.STOP)
    subject.backend.fail(S.STOP, S.STOP_COPY)
    with pytest.raises(OSError, match="STOP_COPY"):
        subject.migration.save_complete(Sink())
    assert subject.requests() == [("vf0", "STOP_COPY", "STOP")]
    assert subject.states == (S.STOP, S.STOP)


def test_resuming_is_recovered_from_by_going_back_to_where_the_device_was() -> None:
    subject = Subject()
    subject.backend.fail(S.STOP, S.RESUMING)
    with pytest.raises(OSError, match="RESUMING"):
        subject.migration.load_setup()
    assert subject.requests() == [("vf0", "RESUMING", "RUNNING")]
    assert subject.states == (S.RUNNING, S.RUNNING)


def test_stop_after_a_completed_migration_is_reached_even_if_it_takes_a_reset() -> None:
    subject = Subject()
    subject.bring(S.STOP_COPY)
    subject.backend.fail(S.STOP_COPY, S.STOP)
    subject.migration.save_cleanup()
    assert subject.requests()[0] == ("vf0", "STOP", "ERROR")
    assert subject.states == (S.STOP, S.STOP)
    assert subject.backend.asked == ["STOP", "reset", "RUNNING_P2P", "STOP"]


class Sink:
    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    budget = None

    def carry(self, size: int) -> None:
        """Nothing takes time."""

    def stand_for(self, size: int) -> None:
        """Nobody counts."""


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_backend_that_comes_back_without_having_arrived_is_named_on_the_side_where_it_happened(side: str) -> None:
    class AbsentThere(MockDevice):
        def set_arc(self, target: DeviceState) -> None:
            if target is not (S.PRE_COPY if side == "source" else S.RESUMING):
                super().set_arc(target)

    pair = make_pair(("vf1",))
    pair.add_device("vf0", backend=AbsentThere)
    report = pair.migrate()
    assert str(report.status) == "failed"
    assert "backend of device 'vf0' came back from" in str(report.error)
    assert ("the destination failed" in str(report.error)) == (side == "destination")
