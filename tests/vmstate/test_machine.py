import threading
from collections.abc import Callable
from typing import Any

import pytest
from suite.handlers import SpyClock, Task, ignore, kinds, noting, raising, returning, wait_for

from vmstate import (
    BigLockError,
    InvalidTransitionError,
    LoadStream,
    Machine,
    MigrationEvent,
    NestedNotificationError,
    RegistrationError,
    RunState,
    SaveStream,
    StartRefusedError,
)

S = RunState
NOT_LIVE = [state for state in RunState if not state.live]
LIVE = [state for state in RunState if state.live]


class Scene:
    """A machine and the log of all that could be seen of it from outside."""

    def __init__(self, state: RunState = S.PRELAUNCH, **options: Any) -> None:
        self.machine = Machine("vm", run_state=state, **options)
        self.log: list[str] = []
        self.machine.monitor.subscribe(lambda event: self.log.append(f"{event.name} in {self.machine.run_state}"))
        self.machine.handlers.add(self._callback("main"), prepare_cb=self._callback("prepare"))

    def _callback(self, name: str) -> Callable[[bool, RunState], None]:
        def callback(running: bool, state: RunState) -> None:
            self.log.append(f"{name} {'start' if running else 'stop'} {state} in {self.machine.run_state}")

        return callback

    def nothing_happened(self, state: RunState) -> bool:
        return self.log == [] and self.machine.run_state is state


def started(state: str) -> list[str]:
    return [f"prepare start {state} in {state}", f"main start {state} in {state}"]


def stopped(state: str) -> list[str]:
    return [f"prepare stop {state} in {state}", f"main stop {state} in {state}"]


# Run states: rule M1


def test_m1_a_machine_begins_in_prelaunch_or_where_it_is_told() -> None:
    assert (Machine().run_state, Machine().name) == (S.PRELAUNCH, "vm")
    paused: Any = "paused"
    assert Machine("src", run_state=paused).run_state is S.PAUSED


@pytest.mark.parametrize("current", RunState)
def test_m1_a_transition_that_is_not_allowed_names_both_states_and_changes_nothing(current: RunState) -> None:
    for new in RunState:
        scene = Scene(current)
        if current.may_become(new):
            scene.machine.set_run_state(new)
            assert scene.nothing_happened(new)
        else:
            with pytest.raises(InvalidTransitionError, match=f"'vm'.*'{current}' to '{new}'"):
                scene.machine.set_run_state(new)
            assert scene.nothing_happened(current)


# Starting: rule M2


@pytest.mark.parametrize(
    "state",
    [state for state in NOT_LIVE if state.may_become(S.RUNNING) and state not in (S.INMIGRATE, S.FINISH_MIGRATE)],
)
def test_m2_start_announces_resume_then_sets_the_state_then_notifies(state: RunState) -> None:
    scene = Scene(state)
    scene.machine.start()
    assert scene.log == [f"RESUME in {state}", *started("running")]
    assert scene.machine.run_state is S.RUNNING


@pytest.mark.parametrize("state", LIVE)
def test_m2_starting_a_live_machine_does_nothing(state: RunState) -> None:
    scene = Scene(state)
    scene.machine.start()
    assert scene.nothing_happened(state)


@pytest.mark.parametrize("created_suspended", [True, False])
def test_m2_a_machine_that_was_suspended_goes_back_to_suspended(created_suspended: bool) -> None:
    scene = Scene(S.SUSPENDED if created_suspended else S.RUNNING)
    scene.machine.set_run_state(S.SUSPENDED)
    scene.machine.stop()
    assert scene.machine.was_suspended
    scene.log.clear()
    scene.machine.start()
    assert scene.log == ["RESUME in paused", *started("suspended")]
    scene.machine.set_run_state(S.RUNNING)  # the guest wakes up
    scene.machine.stop()
    scene.log.clear()
    scene.machine.start()
    assert scene.log == ["RESUME in paused", *started("running")]


def test_m2_stopping_a_stopped_machine_does_not_forget_that_it_was_suspended() -> None:
    machine = Machine(run_state=S.SUSPENDED)
    machine.stop()
    machine.stop()
    machine.start()
    assert machine.run_state is S.SUSPENDED


def test_m2_the_transition_is_checked_before_anything_is_announced() -> None:
    scene = Scene(S.SUSPENDED)
    scene.machine.stop(S.FINISH_MIGRATE)
    scene.machine.set_run_state(S.POSTMIGRATE)
    scene.log.clear()
    with pytest.raises(InvalidTransitionError, match="'postmigrate' to 'suspended'"):
        scene.machine.start()
    assert scene.nothing_happened(S.POSTMIGRATE)


def test_m2_what_the_source_knows_of_suspension_is_adopted() -> None:
    machine = Machine(run_state=S.PAUSED)
    machine.adopt_suspension(True)
    machine.start()
    assert machine.run_state is S.SUSPENDED


# Stopping: rule M3


@pytest.mark.parametrize("live", LIVE)
@pytest.mark.parametrize("state", [S.PAUSED, S.FINISH_MIGRATE, S.SHUTDOWN])
def test_m3_stop_sets_the_state_then_notifies_then_announces_stop(live: RunState, state: RunState) -> None:
    scene = Scene(live)
    assert scene.machine.stop(state) == 0
    assert scene.log == [*stopped(state), f"STOP in {state}"]


def test_m3_stop_is_to_paused_unless_told_otherwise() -> None:
    scene = Scene(S.RUNNING)
    scene.machine.stop()
    assert scene.log[-1] == "STOP in paused"


def test_m3_the_result_of_stop_is_that_of_notify() -> None:
    machine = Machine(run_state=S.RUNNING)
    for result in (1, 2, -8):
        machine.handlers.add(cb_ret=returning(result))
    assert machine.stop() == 1 | 2 | -8


@pytest.mark.parametrize("state", NOT_LIVE)
@pytest.mark.parametrize("how", [Machine.stop, Machine.shutdown])
def test_m3_stopping_a_machine_that_is_not_live_does_nothing(state: RunState, how: Callable[[Machine], int]) -> None:
    scene = Scene(state)
    scene.machine.handlers.add(cb_ret=returning(1))
    assert how(scene.machine) == 0
    assert scene.nothing_happened(state)


def test_m3_a_state_that_may_not_follow_is_refused_and_changes_nothing() -> None:
    scene = Scene(S.SUSPENDED)
    scene.machine.set_run_state(S.RUNNING)
    with pytest.raises(InvalidTransitionError, match="'running' to 'postmigrate'"):
        scene.machine.stop(S.POSTMIGRATE)
    assert scene.nothing_happened(S.RUNNING)
    assert not scene.machine.was_suspended  # as before: the guest has woken


@pytest.mark.parametrize("state", ["running", "suspended", "asleep"])
def test_m3_a_live_machine_cannot_be_stopped_with_a_live_state_or_one_that_does_not_exist(state: Any) -> None:
    scene = Scene(S.RUNNING)
    with pytest.raises(ValueError, match=state):
        scene.machine.stop(state)
    assert scene.nothing_happened(S.RUNNING)


def test_m3_shutdown_stops_and_announces_no_stop() -> None:
    scene = Scene(S.RUNNING)
    scene.machine.handlers.add(cb_ret=returning(3), priority=1)
    assert scene.machine.shutdown() == 3
    assert scene.log == stopped("shutdown")


def test_m3_the_forced_form_stops_a_live_machine_and_sets_the_state_of_any_other() -> None:
    scene = Scene(S.RUNNING)
    scene.machine.handlers.add(cb_ret=returning(3))
    assert scene.machine.force_stop(S.PAUSED) == 3
    assert scene.log == [*stopped("paused"), "STOP in paused"]
    scene.log.clear()
    assert scene.machine.force_stop(S.FINISH_MIGRATE) == 0
    assert scene.nothing_happened(S.FINISH_MIGRATE)


# Exceptions: rule E4


def test_e4_a_handler_that_raises_leaves_a_machine_that_runs_and_can_be_stopped() -> None:
    scene = Scene()
    with scene.machine.handlers.add(raise_value_error, priority=-1):
        with pytest.raises(ExceptionGroup) as caught:
            scene.machine.start()
        assert kinds(caught.value.exceptions) == [ValueError]
        assert scene.log == ["RESUME in prelaunch", *started("running")]
        assert not scene.machine.big_lock.held
        scene.log.clear()
        with pytest.raises(ExceptionGroup):
            scene.machine.stop()
    assert scene.log == [*stopped("paused"), "STOP in paused"]
    scene.machine.start()
    assert scene.machine.run_state is S.RUNNING


def test_e4_an_interrupt_in_a_handler_stops_the_machine_before_it_is_raised() -> None:
    scene = Scene(S.RUNNING)
    with (
        scene.machine.handlers.add(lambda _running, _state: raising(KeyboardInterrupt())(), priority=1),
        pytest.raises(KeyboardInterrupt),
    ):
        scene.machine.stop()
    assert scene.log == [*stopped("paused"), "STOP in paused"]
    assert not scene.machine.big_lock.held


def test_e4_a_shutdown_in_which_a_handler_raises_announces_no_stop_either() -> None:
    scene = Scene(S.RUNNING)
    with scene.machine.handlers.add(raise_value_error), pytest.raises(ExceptionGroup):
        scene.machine.shutdown()
    assert sorted(scene.log) == sorted(stopped("shutdown"))


def raise_value_error(running: bool, state: RunState) -> None:
    raise ValueError


# Who may change a machine, and when: rules E6, M4

CHANGES: list[tuple[Callable[[Machine], object], str]] = [
    (Machine.start, "start"),
    (Machine.stop, "stop"),
    (Machine.shutdown, "stop"),
    (Machine.resume, "start"),
    (Machine.prepare_incoming, "prepare for an incoming migration"),
    (lambda machine: machine.force_stop(S.PAUSED), "stop"),
    (lambda machine: machine.handlers.notify(True, S.RUNNING), "notify"),
]
every_change = pytest.mark.parametrize(
    ("change", "named"),
    CHANGES,
    ids=["start", "stop", "shutdown", "resume", "prepare_incoming", "force_stop", "notify"],
)


@every_change
@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("prepare", [True, False])
def test_e6_a_handler_cannot_change_the_machine_that_calls_it(
    change: Callable[[Machine], object], named: str, live: bool, prepare: bool
) -> None:
    scene = Scene(S.RUNNING if live else S.PAUSED)
    seen: list[tuple[RunState, RunState]] = []

    def nested(running: bool, state: RunState) -> None:
        before = scene.machine.run_state
        with pytest.raises(NestedNotificationError, match=f"cannot {named} the machine"):
            change(scene.machine)
        seen.append((before, scene.machine.run_state))

    with scene.machine.handlers.add(prepare_cb=nested) if prepare else scene.machine.handlers.add(nested):
        scene.machine.stop() if live else scene.machine.start()
    state = S.PAUSED if live else S.RUNNING
    assert seen == [(state, state)]
    assert scene.log == ([*stopped("paused"), "STOP in paused"] if live else ["RESUME in paused", *started("running")])


def test_e6_a_refused_change_that_is_not_caught_is_raised_with_the_rest() -> None:
    scene = Scene()
    with scene.machine.handlers.add(lambda _running, _state: scene.machine.stop()):
        with pytest.raises(ExceptionGroup) as caught:
            scene.machine.start()
        assert kinds(caught.value.exceptions) == [NestedNotificationError]
    assert scene.machine.run_state is S.RUNNING


def test_e6_a_handler_may_change_another_machine() -> None:
    scene, other = Scene(), Machine("other")
    scene.machine.handlers.add(lambda _running, _state: other.start())
    scene.machine.start()
    assert other.run_state is S.RUNNING


def test_e6_a_stop_from_another_thread_waits_until_the_start_is_over() -> None:
    clock = SpyClock()
    scene = Scene(clock=clock)
    inside, go_on = threading.Event(), threading.Event()

    def hold(running: bool, state: RunState) -> None:
        if running:
            inside.set()
            wait_for(go_on)

    scene.machine.handlers.add(prepare_cb=hold)
    starter = Task(scene.machine.start)
    wait_for(inside)
    stopper = Task(scene.machine.stop)
    clock.until_somebody_waits_for("big lock of machine 'vm'")
    assert scene.machine.run_state is S.RUNNING
    go_on.set()
    starter.result()
    assert stopper.result() == 0
    assert scene.log == ["RESUME in prelaunch", *started("running"), *stopped("paused"), "STOP in paused"]


def test_m4_handlers_and_what_is_announced_run_under_the_big_lock() -> None:
    machine = Machine()
    held: list[bool] = []
    machine.handlers.add(
        lambda _running, _state: held.append(machine.big_lock.held),
        prepare_cb=lambda _running, _state: held.append(machine.big_lock.held),
    )
    machine.start()
    machine.stop()
    assert held == [True] * 4
    assert not machine.big_lock.held


def test_m4_a_thread_that_holds_the_big_lock_may_start_and_stop() -> None:
    machine = Machine()
    with machine.big_lock:
        machine.start()
        machine.stop()
        assert machine.big_lock.held
    assert machine.run_state is S.PAUSED


@every_change
@pytest.mark.parametrize("live", [True, False])
def test_m4_a_state_change_thread_is_refused_at_once_while_its_holder_waits_for_it(
    change: Callable[[Machine], object], named: str, live: bool
) -> None:
    scene = Scene(S.RUNNING if live else S.PAUSED, clock=SpyClock())

    def attempt() -> None:
        with scene.machine.big_lock.barred(), pytest.raises(BigLockError, match=f"must not {named} machine 'vm'"):
            change(scene.machine)

    with scene.machine.big_lock:
        Task(attempt).result()
    assert scene.nothing_happened(S.RUNNING if live else S.PAUSED)


def test_m4_a_thread_launched_by_a_handler_is_refused_too() -> None:
    machine = Machine()
    refused: list[type[BaseException]] = []

    def work() -> None:
        with machine.big_lock.barred():
            try:
                machine.set_run_state(S.PAUSED)
            except BigLockError as error:
                refused.append(type(error))

    machine.handlers.add(lambda _running, _state: Task(work).result())
    machine.start()
    assert refused == [BigLockError]
    assert machine.run_state is S.RUNNING


# Where starting is refused: rule M5


def test_m5_while_inmigrate_start_and_stop_only_note_whether_to_run() -> None:
    scene = Scene(S.INMIGRATE)
    assert scene.machine.autostart
    assert scene.machine.stop() == 0
    assert not scene.machine.autostart
    scene.machine.start()
    assert scene.machine.autostart
    assert scene.nothing_happened(S.INMIGRATE)


@pytest.mark.parametrize("state", [S.PAUSED, S.FINISH_MIGRATE])
def test_m5_outside_inmigrate_nothing_is_noted(state: RunState) -> None:
    machine = Machine(run_state=state)
    machine.stop()
    assert machine.autostart


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (S.FINISH_MIGRATE, "migration is not finalized yet"),
        (S.SHUTDOWN, "shut down"),
        (S.INTERNAL_ERROR, "internal error"),
    ],
)
def test_m5_a_start_is_refused_with_the_reason(state: RunState, reason: str) -> None:
    scene = Scene(state)
    with pytest.raises(StartRefusedError, match=f"'vm'.*'{state}'.*{reason}"):
        scene.machine.start()
    assert scene.nothing_happened(state)


@pytest.mark.parametrize("state", [S.FINISH_MIGRATE, S.INMIGRATE])
def test_m5_a_migration_may_resume_its_machine(state: RunState) -> None:
    scene = Scene(state)
    scene.machine.resume()
    assert scene.log == [f"RESUME in {state}", *started("running")]


# Becoming a destination: rule G9


@pytest.mark.parametrize(
    "state", [state for state in NOT_LIVE if state.may_become(S.PRELAUNCH) and state is not S.INMIGRATE]
)
def test_g9_a_stopped_machine_becomes_a_destination_by_way_of_prelaunch(state: RunState) -> None:
    scene = Scene(state)
    scene.machine.prepare_incoming()
    assert scene.nothing_happened(S.INMIGRATE)
    assert scene.machine.autostart


@pytest.mark.parametrize("state", [state for state in RunState if state.live or not state.may_become(S.PRELAUNCH)])
def test_g9_any_other_is_refused_and_left_as_it_is(state: RunState) -> None:
    scene = Scene(state)
    with pytest.raises(InvalidTransitionError, match=f"'vm'.*'{state}'"):
        scene.machine.prepare_incoming()
    assert scene.nothing_happened(state)


def test_g9_a_machine_that_waits_already_keeps_what_was_noted() -> None:
    machine = Machine()
    machine.prepare_incoming()
    machine.stop()
    machine.prepare_incoming()
    assert not machine.autostart
    machine.set_run_state(S.PAUSED)
    machine.prepare_incoming()  # another migration begins with a clean sheet
    assert machine.autostart


# What migrates with a machine


class Part:
    """Something that migrates, as far as registering goes."""

    def __init__(self, id_: str) -> None:
        self._id = id_

    @property
    def id(self) -> str:
        return self._id

    def save_setup(self, stream: SaveStream) -> None: ...
    def pending(self) -> int:
        return 0

    def save_iterate(self, stream: SaveStream) -> int:
        return 0

    def save_complete(self, stream: SaveStream) -> None: ...
    def save_state(self, stream: SaveStream) -> None: ...
    def save_cleanup(self) -> None: ...
    def load_setup(self) -> None: ...
    def load(self, stream: LoadStream) -> None: ...
    def load_complete(self) -> None: ...
    def load_cleanup(self) -> None: ...
    def notify(self, event: MigrationEvent) -> None: ...

    resets = 0

    def reset(self) -> None:
        self.resets += 1


class Nothing:
    """A migration that does nothing."""

    def note_error(self, error: BaseException) -> None: ...

    def keep_error(self, error: BaseException) -> None: ...

    out_of_hand = False


def test_the_registry_keeps_the_order_of_registration() -> None:
    machine = Machine()
    parts = [Part(name) for name in ("vf1", "vf0", "gpu0")]
    for part in parts:
        machine.register(part)
    assert list(machine.migratables) == parts
    machine.unregister(parts[1])
    machine.unregister(parts[1])
    assert list(machine.migratables) == [parts[0], parts[2]]
    machine.register(parts[1])
    assert list(machine.migratables) == [parts[0], parts[2], parts[1]]


def test_an_id_that_is_empty_or_taken_is_refused() -> None:
    machine = Machine()
    part = Part("vf0")
    machine.register(part)
    with pytest.raises(RegistrationError, match="'vf0'"):
        machine.register(Part("vf0"))
    with pytest.raises(RegistrationError, match="needs an id"):
        machine.register(Part(""))
    machine.unregister(Part("vf0"))  # another one with the same id
    assert list(machine.migratables) == [part]


def test_the_registry_is_closed_while_the_machine_migrates() -> None:
    machine = Machine()
    part, attempt = Part("vf0"), Nothing()
    machine.register(part)
    machine.begin_attempt(attempt)
    assert machine.attempt is attempt
    refusals: list[Callable[[], None]] = [
        lambda: machine.register(Part("vf1")),
        lambda: machine.unregister(part),
        lambda: machine.begin_attempt(Nothing()),
    ]
    for refused in refusals:
        with pytest.raises(RegistrationError, match="migration is over"):
            refused()
    assert (machine.attempt, machine.migratables) == (attempt, (part,))
    machine.end_attempt(Nothing())  # of another, which is over by now
    assert machine.attempt is attempt
    machine.end_attempt(attempt)
    assert machine.attempt is None
    machine.unregister(part)
    assert machine.migratables == ()


def test_handlers_stay_with_the_machine_whatever_state_it_is_in() -> None:
    machine = Machine()
    entry = machine.handlers.add(ignore)
    machine.start()
    machine.shutdown()
    assert list(machine.handlers) == [entry]
    assert machine.handlers.big_lock is machine.big_lock


# Reset (M6) and a guest that shuts down (M7):


@pytest.mark.parametrize("state", RunState)
def test_m6_a_reset_is_carried_out_in_every_run_state(state: RunState) -> None:
    machine, part = Machine(run_state=state), Part("vf0")
    machine.register(part)
    called: list[str] = []
    machine.handlers.add(noting(called, "handler"))
    announced: list[str] = []
    machine.monitor.subscribe(lambda event: announced.append(event.name))
    machine.reset()
    kept = state in (RunState.RUNNING, RunState.INMIGRATE, RunState.FINISH_MIGRATE)
    kept |= not state.may_become(RunState.PRELAUNCH)  # save-vm, from which QEMU knows no way
    assert machine.run_state is (state if kept else RunState.PRELAUNCH)
    assert (announced, called, part.resets) == (["RESET"], [], 1)


def test_m6_a_machine_that_was_reset_can_be_started() -> None:
    machine = Machine(run_state=RunState.SHUTDOWN)
    machine.reset()
    machine.start()
    assert machine.run_state is RunState.RUNNING


def test_m6_a_suspended_machine_is_no_longer_after_a_reset() -> None:
    machine = Machine(run_state=RunState.SUSPENDED)
    machine.reset()
    machine.start()
    assert machine.run_state is RunState.RUNNING


def test_m7_a_guest_that_shuts_down_and_is_kept_announces_shutdown_then_stop() -> None:
    machine = Machine(run_state=RunState.RUNNING)
    announced: list[str] = []
    machine.monitor.subscribe(lambda event: announced.append(event.name))
    assert machine.guest_shutdown() == 0
    assert (announced, machine.run_state) == (["SHUTDOWN", "STOP"], RunState.SHUTDOWN)


# What callbacks raise outside of a migration:


@pytest.mark.parametrize("error", [AssertionError("as tests do"), pytest.fail.Exception("as tests do"), SystemExit(1)])
def test_what_a_subscriber_raises_for_a_test_is_raised_when_the_machine_has_changed(error: BaseException) -> None:
    machine, called = Machine(run_state=RunState.RUNNING), list[str]()
    machine.handlers.add(noting(called, "handler"))
    subscription = machine.monitor.subscribe(lambda event: raising(error)())
    with pytest.raises(type(error)) as caught:
        machine.stop()
    assert caught.value is error
    assert (machine.run_state, called) == (RunState.PAUSED, ["handler"])
    subscription.cancel()
    machine.start()


def test_what_a_subscriber_raises_stands_beside_what_a_handler_raises() -> None:
    machine = Machine(run_state=RunState.RUNNING)
    machine.handlers.add(noting([], "", raising(ValueError("of a handler"))))
    machine.monitor.subscribe(lambda event: raising(AssertionError("of a subscriber"))())
    with pytest.raises(ExceptionGroup, match="of a handler") as caught:
        machine.stop()
    assert "of a subscriber" in caught.value.__notes__[0]


def test_an_ordinary_error_of_a_subscriber_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(run_state=RunState.RUNNING)
    machine.monitor.subscribe(lambda event: raising(ValueError("a bug"))())
    machine.stop()
    assert "a bug" in caplog.text
