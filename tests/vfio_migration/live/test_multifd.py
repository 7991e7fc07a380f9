"""B5: devices that are saved and loaded side by side, by threads of their own, over channels beside the stream."""

from collections.abc import Callable
from typing import Any

import pytest
from suite.machines import BARE, NO_PRECOPY, S, for_the_test

from vfio_migration import (
    DataFault,
    DeviceState,
    Link,
    MigrationParameters,
    MigrationReport,
    MigrationStatus,
    Ram,
    StreamError,
    VFIOMigrationError,
    Watchdog,
)
from vfio_migration.changes import Packet
from vfio_migration.live.channel_pool import ChannelPool
from vfio_migration.testing import PairRig, ScarceThreads
from vmstate import RealClock, RunState, TraceEvent, VirtualClock

MB = 1_000_000
MIB = 1 << 20
SAVE, LOAD = "vfio_save_complete_precopy_thread", "vfio_load_bufs_thread"


def pair_with(*devices: dict[str, Any], ram: int = 0, **options: Any) -> PairRig:
    pair = for_the_test(PairRig(**options))
    if ram:
        Ram(pair.source.machine, ram)
        Ram(pair.destination.machine, ram)
    for number, device in enumerate(devices):
        pair.add_device(f"vf{number}", contents="sizes", precopy_size=0, precopy_dirty=(), **device)
    return pair


def migrate(pair: PairRig, *, channels: int = 4, link: Link | None = None, **options: Any) -> MigrationReport:
    limits = {key: options.pop(key) for key in ("downtime_limit_s", "switchover_bandwidth") if key in options}
    parameters = MigrationParameters(multifd_channels=channels, **limits)
    return pair.migrate(parameters=parameters, link=link, **options)


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=2e-6, rel=0)


def spans(pair: PairRig, what: str) -> dict[str, tuple[int, int]]:
    """When each device's thread began and ended."""

    def times(name: str) -> dict[str, int]:
        return {event.fields["name"]: event.time_ns for event in pair.recorder.events if event.name == name}

    begins, ends = times(f"{what}_start"), times(f"{what}_end")
    assert begins.keys() == ends.keys()
    return {device: (begins[device], ends[device]) for device in begins}


def in_order(events: list[TraceEvent], *names: str) -> list[str]:
    return [
        f"{event.name} {event.fields.get('name', event.fields.get('checkpoint', ''))}"
        for event in events
        if event.name in names
    ]


TENTH = {"state_size": 100 * MB, "rate": 1e9}  # a tenth of a second to be read


def test_four_devices_of_a_tenth_take_four_tenths_in_turn_and_one_side_by_side() -> None:
    assert migrate(pair_with(*[TENTH] * 4), channels=0).transfer_s == about(0.4)
    pair = pair_with(*[TENTH] * 4)
    assert migrate(pair).transfer_s == about(0.1)
    saved = list(spans(pair, SAVE).values())
    assert len(set(saved)) == 1  # all four begin and end at the same moments
    assert len(spans(pair, LOAD)) == 4


def test_a_link_that_is_the_bottleneck_takes_what_it_takes() -> None:
    link = Link(1e9)
    limits: dict[str, Any] = {"downtime_limit_s": 1.0, "switchover_bandwidth": 1e9}
    # 400 MB over 1 GB/s; of the first chunk alone the link is idle, while it is read.
    report = migrate(pair_with(*[TENTH] * 4), link=link, **limits)
    assert report.transfer_s == about(0.4 + MIB / 1e9)
    # In turn reading and sending do not overlap.
    assert migrate(pair_with(*[TENTH] * 4), channels=0, link=link, **limits).transfer_s == about(0.8)


def test_memory_and_devices_share_the_link_piece_by_piece() -> None:
    pair = pair_with({"state_size": 100 * MIB}, ram=1000 * MB)
    begun = migrate(pair, link=Link(1e9), downtime_limit_s=0.5, switchover_bandwidth=1e9)
    # It fits when no more than 500 MB are left: 300 MB of memory and the device take what their sum takes.
    events = [event for event in pair.recorder.events if event.name in ("multifd_send_begin", "multifd_send_end")]
    assert begun.completed
    first, last = events[0].time_ns, events[-1].time_ns
    assert events[0].fields["bytes"] == MIB
    # From when it asks for the link behind one piece of memory to its last chunk: its own and as many of memory.
    assert last - first == pytest.approx(200 * MIB, abs=2 * MIB)


def test_the_arc_to_stop_copy_is_walked_in_the_thread() -> None:
    arcs = {"STOP -> STOP_COPY": 0.050}
    devices = [{**TENTH, "flags": NO_PRECOPY, "latency": arcs}] * 3
    assert migrate(pair_with(*devices), channels=0).transfer_s == about(0.45)
    assert migrate(pair_with(*devices)).transfer_s == about(0.15)


def test_loading_goes_on_side_by_side_and_configurations_in_turn() -> None:
    device = {"state_size": 100 * MB, "write_rate": 1e9, "config_load": 0.02}
    # All is there at once. One after another: 0.1 s of writing each, then 20 ms each.
    assert migrate(pair_with(*[device] * 4), channels=0).destination_start_s == about(0.48)
    assert migrate(pair_with(*[device] * 4)).destination_start_s == about(0.1 + 4 * 0.02)


def test_one_channel_is_as_good_as_many_where_nothing_is_on_the_link() -> None:
    assert migrate(pair_with(*[TENTH] * 4), channels=1).transfer_s == about(0.1)


def test_devices_with_it_off_go_over_the_main_channel_beside_the_others() -> None:
    off = {**TENTH, "multifd": False}
    pair = pair_with(TENTH, off, TENTH, off)
    assert migrate(pair).transfer_s == about(0.2)
    assert set(spans(pair, SAVE)) == {"vf0", "vf2"}


def test_the_order_is_qemu_s() -> None:
    pair = pair_with(TENTH, TENTH)
    assert migrate(pair).completed
    order = in_order(pair.recorder.events, f"{SAVE}_start", f"{SAVE}_end", f"{LOAD}_end", "vmstate_downtime_checkpoint")
    place = {what: order.index(what) for what in order}
    saved = place["vmstate_downtime_checkpoint src-iterable-saved"]
    loaded = place["vmstate_downtime_checkpoint dst-precopy-loadvm-completed"]
    for device in ("vf0", "vf1"):
        assert place["vmstate_downtime_checkpoint src-vm-stopped"] < place[f"{SAVE}_start {device}"]
        assert place[f"{SAVE}_end {device}"] < saved
        assert place[f"{LOAD}_end {device}"] < loaded
    sections = [e.fields["name"] for e in pair.recorder.events if e.name == "vfio_save_complete_precopy_start"]
    assert sections == []  # on the main channel there is nothing to be saved


def test_threads_are_those_of_changes_of_state_and_bear_qemu_s_names(threads: str) -> None:
    pair = pair_with(TENTH, TENTH, threads=threads)
    assert migrate(pair).completed
    names = {event.thread for event in pair.recorder.events if event.name in (f"{SAVE}_start", f"{LOAD}_start")}
    assert names == {f"{what} vf{number}" for what in (SAVE, LOAD) for number in (0, 1)}


def test_without_channels_a_device_that_insists_fails_the_set_up() -> None:
    report = migrate(pair_with({**TENTH, "multifd": True}), channels=0)
    assert report.status is MigrationStatus.FAILED
    assert "'vf0' has multifd transfer on" in str(report.error)
    assert report.source_state is RunState.RUNNING


def test_a_destination_that_has_it_off_refuses_the_device() -> None:
    pair = for_the_test(PairRig())
    pair.source.add_device("vf0", multifd=True)
    pair.destination.add_device("vf0", multifd=False)
    report = pair.migrate(parameters=MigrationParameters(multifd_channels=2), check=False)
    assert report.status is MigrationStatus.FAILED
    assert "'vf0' has multifd transfer off here" in str(report.error)
    assert report.source_state is RunState.RUNNING


def fail_arc(pair: PairRig) -> None:
    pair.source.mocks["vf1"].fail(S.STOP, S.STOP_COPY)


def fail_read(pair: PairRig) -> None:
    pair.source.mocks["vf1"].fail_read()


def cut_read(pair: PairRig) -> None:
    pair.source.mocks["vf1"].fail_read(DataFault.CUT)


def fail_write(pair: PairRig) -> None:
    pair.destination.mocks["vf1"].fail_write()


def lose_write(pair: PairRig) -> None:
    pair.destination.mocks["vf1"].fail_write(DataFault.CUT)


def fail_load(pair: PairRig) -> None:
    pair.destination.mocks["vf1"].fail(S.RESUMING, S.STOP)


@pytest.mark.parametrize("fault", [fail_arc, fail_read, cut_read, fail_write, lose_write, fail_load])
@pytest.mark.parametrize("linked", [False, True], ids=["no link", "link"])
def test_a_fault_in_any_thread_fails_the_migration_and_it_can_be_tried_again(
    fault: Callable[[PairRig], None], linked: bool, threads: str
) -> None:
    pair = pair_with(*[{**TENTH, "flags": NO_PRECOPY, "write_rate": 1e9}] * 4, threads=threads)
    options: dict[str, Any] = {"downtime_limit_s": 3.0, "switchover_bandwidth": 1e9}
    link = Link(1e9, 0.001) if linked else None
    fault(pair)
    report = migrate(pair, link=link, **options)
    assert report.status is MigrationStatus.FAILED
    assert "vf1" in str(report.error)
    assert not report.lost_devices
    assert report.source_state is RunState.RUNNING
    assert set(pair.source.device_states.values()) == {DeviceState.RUNNING}
    assert report.destination_state is not RunState.RUNNING
    assert migrate(pair, link=link, **options).completed


def test_the_first_that_fails_stops_the_others() -> None:
    pair = pair_with(*[{"state_size": 1000 * MB, "rate": 1e9, "flags": NO_PRECOPY}] * 3)
    pair.source.mocks["vf1"].fail(S.STOP, S.STOP_COPY)
    migrate(pair)
    assert all(device.transferred <= MIB for device in pair.source.devices.values())


def test_a_thread_that_stalls_is_given_up_and_costs_the_device() -> None:
    pair = pair_with(*[{**TENTH, "flags": NO_PRECOPY, "watchdog": Watchdog(give_up_after_s=2.0)}] * 2)
    pair.source.mocks["vf1"].stall(S.STOP, S.STOP_COPY)
    with pair.clock.taking_part():
        report = migrate(pair)
        assert report.status is MigrationStatus.FAILED
        assert f"{SAVE}, STOP -> STOP_COPY, was given up after 2 s" in str(report.error)
        assert report.lost_devices == ("vf1",)
        assert report.source_state is RunState.RUNNING
        before = pair.recorder.events
        pair.source.mocks["vf1"].release()  # it comes back, and changes nothing
        pair.clock.sleep(1.0)
        assert pair.recorder.events == before
    pair.remove_device("vf1")


@pytest.mark.parametrize("slow", [{"rate": 1e7}, {"write_rate": 1e7}, {}], ids=["read", "written", "link"])
def test_a_watchdog_gives_up_a_step_of_a_device_and_no_thread_that_goes_on(slow: dict[str, Any], threads: str) -> None:
    """A hundred steps of a tenth of a second each, with a limit of two; and a link of which no device knows."""
    watchdog = Watchdog(give_up_after_s=2.0)
    device = {"state_size": 100 * MB, "flags": NO_PRECOPY, "watchdog": watchdog, **slow}
    pair = pair_with(device, device, threads=threads)
    link = None if slow else Link(1e7)
    report = migrate(pair, link=link, downtime_limit_s=100.0, switchover_bandwidth=1e7)
    assert report.completed
    assert report.transfer_s is not None
    assert report.destination_start_s is not None
    assert report.transfer_s + report.destination_start_s > 9.0


def test_a_packet_that_nobody_needs_fails_the_migration() -> None:
    pair = pair_with(TENTH, {**TENTH, "multifd": False})
    real = ChannelPool.send

    def send(pool: ChannelPool, index: int, device: str, packets: list[Packet]) -> None:
        real(pool, index, device, packets)
        if packets[0].number == 0:
            real(pool, 1 - index, device, packets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChannelPool, "send", send)
        report = migrate(pair)
    assert report.status is MigrationStatus.FAILED
    assert "data after its configuration" in str(report.error)
    assert report.source_state is RunState.RUNNING


@pytest.mark.parametrize("pattern", [f"{SAVE}*", f"{LOAD}*"])
def test_where_no_thread_can_be_had_the_work_is_done_on_the_spot(pattern: str) -> None:
    pair = pair_with(*[TENTH] * 3, clock=ScarceThreads(VirtualClock(), pattern=pattern))
    report = migrate(pair)
    assert report.completed
    assert report.transfer_s == about(0.3 if SAVE in pattern else 0.1)  # slower, never lost


def test_without_threads_for_the_channels_the_migration_fails() -> None:
    pair = pair_with(TENTH, clock=ScarceThreads(VirtualClock(), pattern="mig/dst/recv_1"))
    report = migrate(pair)
    assert report.status is MigrationStatus.FAILED
    assert "can't start new thread" in str(report.error)
    assert report.source_state is RunState.RUNNING


def test_what_is_sent_counts_as_without_channels() -> None:
    serial = migrate(pair_with(TENTH, TENTH), channels=0)
    parallel = migrate(pair_with(TENTH, TENTH))
    assert parallel.bytes_sent == pytest.approx(serial.bytes_sent, rel=0.01)
    again = migrate(pair_with(TENTH, TENTH))
    assert (again.stream_sha256, again.bytes_sent) == (parallel.stream_sha256, parallel.bytes_sent)


@pytest.mark.parametrize("contents", ["bytes", "sizes"])
@pytest.mark.parametrize("real", [False, True], ids=["virtual", "real"])
def test_states_arrive_intact(contents: str, real: bool) -> None:
    pair = for_the_test(PairRig(clock=RealClock() if real else VirtualClock()))
    for number in range(3):
        pair.add_device(f"vf{number}", contents=contents, state_size=3 * MIB + number, seed=number)
    assert migrate(pair, channels=2).completed
    assert pair.destination.state_hashes == pair.source.state_hashes
    assert len(set(pair.source.state_hashes.values())) == 3


def test_a_single_bare_device_goes_in_a_thread_too() -> None:
    pair = pair_with({**TENTH, "flags": BARE})
    assert migrate(pair).transfer_s == about(0.1)
    assert set(spans(pair, SAVE)) == {"vf0"}


def test_a_machine_reset_while_it_is_loaded_fails_the_migration() -> None:
    pair = pair_with({"state_size": 10 * MB, "write_rate": 1e6})

    def reset() -> None:
        pair.clock.sleep(1.0)
        pair.destination.machine.reset()

    with pair.clock.taking_part():
        resetting = pair.clock.start_thread(reset, "reset")
        report = migrate(pair)
        pair.clock.join(resetting)
    assert report.status is MigrationStatus.FAILED
    assert report.source_state is RunState.RUNNING
    assert isinstance(report.error, VFIOMigrationError | StreamError)
