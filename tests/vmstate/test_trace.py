import logging
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from functools import partial
from typing import Any

import pytest
from suite.handlers import Task, ignore, noting, raising, returning

from vmstate import Machine, PassKind, Recorder, RunState, StructlogSink, TraceEvent, tee


def event(name: str = "runstate_set", machine: str = "vm", /, **fields: Any) -> TraceEvent:
    return TraceEvent(17, machine, "MainThread", name, fields)


def test_an_event_reads_as_one_line() -> None:
    assert str(event(current_state=6, new_state=9)) == "17 vm [MainThread] runstate_set current_state=6 new_state=9"
    assert str(event()) == "17 vm [MainThread] runstate_set"


def test_an_event_cannot_be_changed() -> None:
    name: Any = "time_ns"
    with pytest.raises(FrozenInstanceError):
        setattr(event(), name, 1)


def test_a_recorder_keeps_events_in_order_and_selects_by_name_and_machine() -> None:
    recorder = Recorder()
    events = [event("a"), event("b", "other"), event("a", "other"), event("c")]
    for each in events:
        recorder(each)
    assert recorder.events == events
    assert recorder.select("a") == [events[0], events[2]]
    assert recorder.select("c", "b") == [events[1], events[3]]
    assert recorder.select("a", machine="other") == [events[2]]
    assert recorder.select() == []
    recorder.events.clear()
    assert len(recorder.events) == 4
    recorder.clear()
    assert recorder.events == []


def test_a_recorder_loses_nothing_of_what_several_threads_announce() -> None:
    recorder = Recorder()
    begin = threading.Barrier(4)

    def announce(machine: str) -> None:
        begin.wait(10)
        for number in range(200):
            recorder(event(str(number), machine))

    tasks = [Task(partial(announce, machine)) for machine in "abcd"]
    for task in tasks:
        task.result()
    for machine in "abcd":
        assert [each.name for each in recorder.events if each.machine == machine] == list(map(str, range(200)))


def test_tee_gives_every_event_to_every_sink_in_order() -> None:
    seen: list[tuple[str, str]] = []
    sink = tee(lambda each: seen.append(("first", each.name)), lambda each: seen.append(("second", each.name)))
    sink(event("a"))
    sink(event("b"))
    assert seen == [("first", "a"), ("second", "a"), ("first", "b"), ("second", "b")]
    tee()(event())


def test_the_structlog_sink_logs_at_debug_with_prefixed_fields(caplog: pytest.LogCaptureFixture) -> None:
    sink = StructlogSink()
    caplog.set_level(logging.INFO, logger="vmstate")
    sink(event())
    assert caplog.records == []
    caplog.set_level(logging.DEBUG, logger="vmstate")
    sink(event("vm_state_notify", running=1, name="a field's name may be anything", event="even this"))
    (record,) = caplog.records
    attributes = vars(record)
    assert (record.levelno, record.name) == (logging.DEBUG, "vmstate.trace")
    assert record.getMessage().startswith("vm_state_notify ")
    assert (attributes["machine"], attributes["time_ns"], attributes["thread_name"]) == (
        "vm",
        17,
        "MainThread",
    )
    assert (attributes["trace_running"], attributes["trace_event"]) == (1, "even this")


def test_the_structlog_sink_writes_to_a_logger_of_the_embedders() -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Logger:
        def debug(self, name: str, **fields: Any) -> None:
            calls.append((name, fields))

    StructlogSink(Logger())(event("a", x=1))
    assert calls == [("a", {"machine": "vm", "time_ns": 17, "thread_name": "MainThread", "trace_x": 1})]


def test_a_machine_traces_the_run_state_and_the_notification_as_qemu_does() -> None:
    recorder = Recorder()
    machine = Machine("src", trace=recorder)
    machine.start()
    machine.stop(RunState.FINISH_MIGRATE)
    machine.set_run_state(RunState.FINISH_MIGRATE)  # changes nothing, so it is not announced
    assert [(each.name, dict(each.fields)) for each in recorder.events] == [
        (
            "runstate_set",
            {
                "current_state": 6,
                "current_state_str": "prelaunch",
                "new_state": 9,
                "new_state_str": "running",
            },
        ),
        ("vm_state_notify", {"running": 1, "reason": 9, "reason_str": "running"}),
        (
            "runstate_set",
            {
                "current_state": 9,
                "current_state_str": "running",
                "new_state": 7,
                "new_state_str": "finish-migrate",
            },
        ),
        ("vm_state_notify", {"running": 0, "reason": 7, "reason_str": "finish-migrate"}),
    ]
    assert {(each.machine, each.thread) for each in recorder.events} == {("src", threading.current_thread().name)}
    times = [each.time_ns for each in recorder.events]
    assert times == sorted(times)


@pytest.mark.parametrize("action", [lambda: None, raising(ValueError())], ids=["returns", "raises"])
def test_a_traced_machine_announces_the_begin_and_the_end_of_every_callback(
    action: Callable[[], object],
) -> None:
    recorder = Recorder()
    machine = Machine(trace=recorder)
    machine.handlers.add(noting([], "", action), prepare_cb=ignore, priority=3, name="nic")
    try:
        machine.start()
    except ExceptionGroup as group:
        assert len(group.exceptions) == 1  # noqa: PT017 - raised in one of two cases only
    fields = {kind: {"handler": "nic", "priority": 3, "kind": str(kind)} for kind in PassKind}
    assert [(each.name, each.fields) for each in recorder.select("handler_begin", "handler_end")] == [
        (name, fields[kind]) for kind in PassKind for name in ("handler_begin", "handler_end")
    ]


def test_a_machine_without_a_sink_calls_the_very_callbacks_that_were_registered() -> None:
    """The walk pays nothing when tracing is off: there is no wrapper on the stack."""
    from_where: list[str] = []

    def callback(running: bool, state: RunState) -> None:
        import inspect  # noqa: PLC0415

        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        from_where.append(frame.f_back.f_code.co_name)

    machine = Machine()
    machine.handlers.add(callback)
    machine.start()
    traced = Machine(trace=Recorder())
    traced.handlers.add(callback)
    traced.start()
    assert from_where == ["_walk", "traced"]


def test_what_is_added_in_a_pass_is_traced_too() -> None:
    recorder = Recorder()
    machine = Machine(trace=recorder)
    machine.handlers.add(noting([], "", lambda: machine.handlers.add(ignore, priority=5, name="late")))
    machine.handlers.add(ignore, priority=1)
    machine.start()
    assert [each.fields["handler"] for each in recorder.select("handler_begin")] == ["", "", "late"]


def test_a_traced_stop_returns_the_same_result() -> None:
    machine = Machine(run_state=RunState.RUNNING, trace=Recorder())
    machine.handlers.add(cb_ret=returning(6))
    assert machine.stop() == 6
