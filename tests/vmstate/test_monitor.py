import logging

import pytest

from vmstate import Machine, Monitor, MonitorEvent, RealClock


def test_events_reach_all_subscribers_in_the_order_of_subscribing() -> None:
    monitor = Monitor("vm")
    seen: list[tuple[str, MonitorEvent]] = []
    for subscriber in [lambda event: seen.append(("a", event)), lambda event: seen.append(("b", event))]:
        monitor.subscribe(subscriber)
    stop = MonitorEvent("STOP")
    monitor.announce(stop)
    assert seen == [("a", stop), ("b", stop)]


def test_a_subscription_lasts_until_it_is_cancelled() -> None:
    monitor = Monitor("vm")
    seen: list[str] = []
    monitor.announce(MonitorEvent("before"))
    kept = monitor.subscribe(lambda event: seen.append(f"kept {event.name}"))
    with monitor.subscribe(lambda event: seen.append(event.name)) as subscription:
        monitor.announce(MonitorEvent("during"))
    subscription.cancel()
    monitor.announce(MonitorEvent("after"))
    kept.cancel()
    monitor.announce(MonitorEvent("never"))
    assert seen == ["kept during", "during", "kept after"]


def test_the_same_function_may_subscribe_twice_and_cancel_once() -> None:
    monitor = Monitor("vm")
    seen: list[MonitorEvent] = []
    first = monitor.subscribe(seen.append)
    monitor.subscribe(seen.append)
    monitor.announce(MonitorEvent("STOP"))
    assert len(seen) == 2
    first.cancel()
    monitor.announce(MonitorEvent("STOP"))
    assert len(seen) == 3


def test_a_subscriber_that_raises_is_logged_and_keeps_nobody_else_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(event: MonitorEvent) -> None:
        raise ValueError("not today")

    machine = Machine("src")
    seen: list[str] = []
    machine.monitor.subscribe(fail)
    machine.monitor.subscribe(lambda event: seen.append(event.name))
    machine.start()
    assert (machine.run_state, seen) == ("running", ["RESUME"])
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.name == "vmstate.monitor"
    fields = vars(record)
    assert (fields["machine"], fields["announced"]) == ("src", "RESUME")
    assert "not today" in fields["error"]


def test_a_subscriber_may_subscribe_and_cancel() -> None:
    monitor = Monitor("vm")
    seen: list[str] = []

    def once(event: MonitorEvent) -> None:
        seen.append(f"once {event.name}")
        subscription.cancel()
        monitor.subscribe(lambda later: seen.append(f"later {later.name}"))

    subscription = monitor.subscribe(once)
    monitor.announce(MonitorEvent("first"))
    monitor.announce(MonitorEvent("second"))
    assert seen == ["once first", "later second"]


def test_a_machine_announces_with_its_clocks_time_and_qapis_spelling_of_keys() -> None:
    class Stopped(RealClock):
        def now(self) -> int:
            return 42

    machine = Machine(clock=Stopped())
    seen: list[MonitorEvent] = []
    machine.monitor.subscribe(seen.append)
    machine.announce("VFIO_MIGRATION", device_id="vf0", qom_path="/machine")
    machine.announce("STOP")
    assert seen == [
        MonitorEvent("VFIO_MIGRATION", {"device-id": "vf0", "qom-path": "/machine"}, 42),
        MonitorEvent("STOP", {}, 42),
    ]
