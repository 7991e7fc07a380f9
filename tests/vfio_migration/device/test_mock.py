import errno
import hashlib
import struct
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite.machines import ARCS, BARE, NO_PRECOPY, S

from vfio_migration import ALL_FLAGS, DeviceState, MigrationFlags, MockDevice, transition_path
from vmstate import RegistrationError, VirtualClock

MS = 1_000_000
HARDER = settings(max_examples=60)


def sizes(most: int) -> st.SearchStrategy[list[int]]:
    """Sizes of reads or writes, taken in turn; one is not small, so that a few hundred of them are enough."""
    return st.builds(
        lambda some, big: [*some, big], st.lists(st.integers(1, most), max_size=2), st.integers(most // 40, most)
    )


def bound(device: MockDevice) -> tuple[MockDevice, VirtualClock]:
    clock = VirtualClock()
    device.bind(clock)
    return device, clock


def bring(device: MockDevice, *targets: DeviceState) -> MockDevice:
    for target in targets:
        for state in transition_path(device.state, target, device.flags):
            device.set_arc(state)
    return device


def reads(device: MockDevice, sizes: Sequence[int] = (100_000,)) -> Iterator[bytes]:
    """Read all that there is now, so many bytes at a time, in turn."""
    turn = 0
    while data := device.read(sizes[turn % len(sizes)]):
        turn += 1
        yield data


def stream_of(device: MockDevice) -> bytes:
    return b"".join(reads(bring(device, S.STOP_COPY)))


def resuming(seed: int = 99, flags: MigrationFlags = ALL_FLAGS) -> MockDevice:
    return bring(MockDevice(seed=seed, flags=flags), S.RESUMING)


# Arcs and their latencies:


@pytest.mark.parametrize("latency", [0.25, {(S.RUNNING, S.RUNNING_P2P): 0.25}])
def test_an_arc_takes_its_latency_and_the_device_is_there_only_then(
    latency: float | dict[tuple[DeviceState, DeviceState], float],
) -> None:
    device, clock = bound(MockDevice(latency=latency))
    seen = []

    def look() -> None:
        clock.sleep(0.249_999_999)
        seen.append(device.state)

    with clock.taking_part():
        watcher = clock.start_thread(look, "watcher")
        device.set_arc(S.RUNNING_P2P)
        clock.join(watcher)
    assert clock.now() == 250 * MS
    assert seen == [S.RUNNING]
    assert device.state is S.RUNNING_P2P


def test_arcs_that_a_table_leaves_out_take_no_time() -> None:
    device, clock = bound(MockDevice(latency={(S.RUNNING_P2P, S.STOP): 0.5}))
    device.set_arc(S.RUNNING_P2P)
    assert clock.now() == 0
    device.set_arc(S.STOP)
    assert clock.now() == 500 * MS
    assert device.arc_latency(S.STOP, S.RESUMING) == 0.0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"latency": -0.1}, "time"),
        ({"latency": float("nan")}, "time"),
        ({"latency": {(S.RUNNING, S.RUNNING_P2P): float("inf")}}, "time"),
        ({"state_size": -1}, "size"),
        ({"precopy_size": -1}, "size"),
        ({"precopy_dirty": (1, -1)}, "size"),
        ({"rate": 0}, "rate"),
        ({"rate": -1.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
    ],
)
def test_sizes_rates_and_latencies_that_make_no_sense_are_refused(arguments: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        MockDevice(**arguments)  # type: ignore[arg-type]


# Faults:


def test_a_fault_takes_the_arc_s_latency_and_leaves_the_device_where_it_was() -> None:
    device, clock = bound(MockDevice(latency=0.1))
    device.fail(S.RUNNING, S.RUNNING_P2P, times=2)
    for attempt in (1, 2):
        with pytest.raises(OSError, match="RUNNING to RUNNING_P2P") as caught:
            device.set_arc(S.RUNNING_P2P)
        assert caught.value.errno == errno.EIO
        assert clock.now() == attempt * 100 * MS
        assert device.state is S.RUNNING
    device.set_arc(S.RUNNING_P2P)
    assert device.state is S.RUNNING_P2P


def test_a_fault_has_the_errno_that_was_asked_for_and_meets_its_own_arc_only() -> None:
    device = MockDevice()
    device.fail(S.STOP, S.STOP_COPY, errno=errno.EBUSY)
    bring(device, S.STOP)
    with pytest.raises(OSError, match="STOP to STOP_COPY") as caught:
        device.set_arc(S.STOP_COPY)
    assert caught.value.errno == errno.EBUSY
    assert device.state is S.STOP


def test_faults_of_one_arc_come_in_the_order_in_which_they_were_arranged() -> None:
    device = MockDevice()
    device.fail(S.RUNNING, S.PRE_COPY, errno=errno.EIO)
    device.fail(S.RUNNING, S.PRE_COPY, errno=errno.ENOMEM)
    codes = []
    for _ in range(2):
        with pytest.raises(OSError, match="PRE_COPY") as caught:
            device.set_arc(S.PRE_COPY)
        codes.append(caught.value.errno)
    assert codes == [errno.EIO, errno.ENOMEM]


def test_heal_forgets_the_faults_not_met_yet() -> None:
    device = MockDevice()
    device.fail(S.RUNNING, S.RUNNING_P2P, times=1000)
    device.fail(S.RUNNING_P2P, S.STOP)
    device.heal()
    assert bring(device, S.STOP).state is S.STOP


@pytest.mark.parametrize(
    ("flags", "current", "target"),
    [
        (ALL_FLAGS, S.RUNNING, S.STOP),  # two arcs
        (ALL_FLAGS, S.RUNNING, S.RUNNING),  # none
        (ALL_FLAGS, S.STOP_COPY, S.PRE_COPY),  # blocked
        (ALL_FLAGS, S.RUNNING, S.ERROR),
        (BARE, S.RUNNING, S.RUNNING_P2P),  # missing
    ],
)
def test_a_fault_of_what_is_no_arc_of_the_device_is_refused(
    flags: MigrationFlags, current: DeviceState, target: DeviceState
) -> None:
    with pytest.raises(ValueError, match=f"{current.name} to {target.name}"):
        MockDevice(flags=flags).fail(current, target)


def test_without_p2p_a_fault_can_be_arranged_for_the_arc_that_skips_it() -> None:
    device = MockDevice(flags=BARE)
    device.fail(S.RUNNING, S.STOP)
    with pytest.raises(OSError, match="RUNNING to STOP"):
        device.set_arc(S.STOP)


@pytest.mark.parametrize(
    ("flags", "current", "target"),
    [
        (ALL_FLAGS, S.RUNNING, S.STOP),
        (ALL_FLAGS, S.RUNNING, S.STOP_COPY),
        (ALL_FLAGS, S.STOP_COPY, S.PRE_COPY),
        (ALL_FLAGS, S.RUNNING, S.ERROR),
        (BARE, S.RUNNING, S.RUNNING_P2P),
        (NO_PRECOPY, S.RUNNING, S.PRE_COPY),
    ],
)
def test_going_to_a_state_that_is_not_one_arc_away_is_einval(
    flags: MigrationFlags, current: DeviceState, target: DeviceState
) -> None:
    """S3, S5, S6: the mock stands for the driver, which has no such arc."""
    device = bring(MockDevice(flags=flags), current)
    with pytest.raises(OSError, match=target.name) as caught:
        device.set_arc(target)
    assert caught.value.errno == errno.EINVAL
    assert device.state is current


def test_the_device_has_all_arcs_of_the_kernel_and_no_other_can_fail() -> None:
    def is_arc(current: DeviceState, target: DeviceState) -> bool:
        try:
            MockDevice().fail(current, target)
        except ValueError:
            return False
        return True

    assert {(a, b) for a in DeviceState for b in DeviceState if is_arc(a, b)} == ARCS


# Its state, read on one side and written on the other:


@HARDER
@given(
    state_size=st.integers(0, 40_000),
    precopy_size=st.integers(0, 20_000),
    dirty=st.lists(st.integers(0, 25_000), max_size=3),
    chunks=sizes(20_000),
    cuts=sizes(20_000),
    precopy=st.booleans(),
    rounds_read=st.booleans(),
)
def test_state_arrives_intact_whatever_its_size_and_however_it_is_read_and_written(
    state_size: int,
    precopy_size: int,
    dirty: list[int],
    chunks: list[int],
    cuts: list[int],
    precopy: bool,
    rounds_read: bool,
) -> None:
    flags = ALL_FLAGS if precopy else NO_PRECOPY
    source = MockDevice(flags=flags, state_size=state_size, precopy_size=precopy_size, precopy_dirty=dirty, seed=1)
    destination = resuming(flags=flags)
    sent = b""
    if precopy:
        bring(source, S.PRE_COPY)
        if rounds_read:
            sent += b"".join(reads(source, chunks))
        bring(source, S.PRE_COPY_P2P)
        sent += b"".join(reads(source, chunks))
    bring(source, S.STOP_COPY)
    sent += b"".join(reads(source, chunks))
    place = turn = 0
    while place < len(sent):
        cut = cuts[turn % len(cuts)]
        destination.write(sent[place : place + cut])
        place, turn = place + cut, turn + 1
    assert len(sent) >= state_size
    assert destination.state_hash != source.state_hash or state_size + precopy_size == 0
    bring(destination, S.STOP)
    assert destination.state_hash == source.state_hash


@pytest.mark.parametrize(
    "route",
    [
        (S.STOP_COPY,),
        (S.PRE_COPY, S.STOP_COPY),
        (S.PRE_COPY_P2P, S.STOP_COPY),  # by RUNNING_P2P: the saving group is entered at PRE_COPY_P2P
        (S.PRE_COPY_P2P, S.PRE_COPY, S.STOP_COPY),
        (S.STOP, S.STOP_COPY),
        (S.STOP, S.PRE_COPY, S.STOP_COPY),
    ],
    ids=lambda route: "-".join(state.name for state in route),
)
@pytest.mark.parametrize("read_on_the_way", [True, False])
def test_state_arrives_intact_whichever_way_saving_was_reached(
    route: tuple[DeviceState, ...], read_on_the_way: bool
) -> None:
    source, destination = MockDevice(seed=1), resuming()
    for target in route:
        bring(source, target)
        if target is S.STOP_COPY or (read_on_the_way and target is not S.STOP):
            for data in reads(source):
                destination.write(data)
    bring(destination, S.STOP)
    assert destination.state_hash == source.state_hash


def test_a_pre_copy_that_was_given_up_leaves_nothing_behind() -> None:
    source, destination = MockDevice(seed=1), resuming()
    list(reads(bring(source, S.PRE_COPY)))
    bring(source, S.RUNNING)
    destination.write(stream_of(source))
    bring(destination, S.STOP)
    assert destination.state_hash == source.state_hash


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    streams = [stream_of(MockDevice(seed=seed)) for seed in (1, 1, 2)]
    assert streams[0] == streams[1] != streams[2]


def test_pending_counts_what_pre_copy_can_read_now_round_after_round() -> None:
    device = bring(MockDevice(precopy_size=4000, precopy_dirty=(300, 20)), S.PRE_COPY)
    pending = [device.pending()]
    while device.read(100_000):
        pending.append(device.pending())
    assert pending == [4000, 300, 20, 0]


@pytest.mark.parametrize("state", [S.RUNNING, S.RUNNING_P2P, S.STOP, S.RESUMING])
def test_there_is_nothing_to_read_outside_the_saving_states(state: DeviceState) -> None:
    with pytest.raises(OSError, match=state.name) as caught:
        bring(MockDevice(), state).read(1)
    assert caught.value.errno == errno.ENODEV


@pytest.mark.parametrize("state", [S.RUNNING, S.RUNNING_P2P, S.STOP, S.STOP_COPY, S.PRE_COPY])
def test_nothing_can_be_written_outside_resuming(state: DeviceState) -> None:
    with pytest.raises(OSError, match=state.name) as caught:
        bring(MockDevice(), state).write(b"x")
    assert caught.value.errno == errno.EINVAL


# What reading takes:


@HARDER
@given(
    size=st.integers(0, 100_000),
    rate=st.floats(1.0, 1e9),
    chunks=sizes(40_000),
)
def test_reading_takes_size_over_rate_exactly(size: int, rate: float, chunks: list[int]) -> None:
    """G5, and section 7's one rounding rule."""
    device, clock = bound(MockDevice(flags=NO_PRECOPY, state_size=size, rate=rate))
    bring(device, S.STOP_COPY)
    list(reads(device, chunks))
    assert clock.now() == round(size / rate * 1_000_000_000)


def test_each_phase_of_reading_takes_its_own_size_over_rate() -> None:
    device, clock = bound(MockDevice(state_size=5000, rate=1000.0, precopy_size=2000, precopy_dirty=(500,)))
    list(reads(bring(device, S.PRE_COPY)))
    assert clock.now() == 2500 * MS
    clock.sleep(10)
    list(reads(bring(device, S.STOP_COPY)))
    assert clock.now() == 17_500 * MS


def test_writing_and_reading_without_a_rate_take_no_time() -> None:
    source, clock = bound(MockDevice())
    data = stream_of(source)
    assert clock.now() == 0
    destination, clock = bound(MockDevice(rate=1.0))
    bring(destination, S.RESUMING).write(data)
    assert clock.now() == 0


# State that cannot be used:


@HARDER
@given(data=st.data())
def test_state_that_was_altered_is_refused_by_the_time_it_is_to_take_effect(data: st.DataObject) -> None:
    sent = bytearray(stream_of(MockDevice(state_size=300, precopy_size=0)))
    place = data.draw(st.integers(0, len(sent) - 1))
    sent[place] ^= data.draw(st.integers(1, 255))
    assert refused(bytes(sent))


@HARDER
@given(data=st.data())
def test_state_that_is_incomplete_is_refused(data: st.DataObject) -> None:
    sent = stream_of(MockDevice(state_size=20_000, precopy_size=100))
    assert refused(sent[: data.draw(st.integers(1, len(sent) - 1))])


def refused(stream: bytes) -> bool:
    """Whether a device with an older state takes it neither when written nor when it is to take effect."""
    device = resuming()
    before = device.state_hash
    try:
        device.write(stream)
        device.set_arc(S.STOP)
    except OSError as error:
        return error.errno == errno.EINVAL and device.state is S.RESUMING and device.state_hash == before
    return False


def record(kind: int, offset: int, body: bytes) -> bytes:
    return struct.pack(">BQI", kind, offset, len(body)) + body


@pytest.mark.parametrize(
    "after",
    [
        record(1, 0, b"x"),  # a block that would be taken before the end
        record(2, 300, bytes(32)),  # a second end
        b"\x01",
    ],
)
def test_whatever_comes_after_the_end_of_the_state_is_refused(after: bytes) -> None:
    assert refused(stream_of(MockDevice(state_size=300, precopy_size=0)) + after)


def test_a_block_larger_than_any_device_writes_is_refused() -> None:
    body = bytes(16 * 1024 + 1)
    assert refused(record(1, 0, body) + record(2, len(body), hashlib.sha256(body).digest()))


def test_a_refused_state_shows_after_the_arc_s_latency() -> None:
    device, clock = bound(MockDevice(latency={(S.RESUMING, S.STOP): 0.2}))
    bring(device, S.RESUMING).write(stream_of(MockDevice(seed=1))[:-1])
    with pytest.raises(OSError, match="incomplete"):
        device.set_arc(S.STOP)
    assert clock.now() == 200 * MS


def test_without_anything_loaded_resuming_can_be_left() -> None:
    device = resuming()
    before = device.state_hash
    assert bring(device, S.STOP).state_hash == before


# Reset and binding:


@pytest.mark.parametrize("state", [state for state in DeviceState if state is not S.ERROR])
def test_reset_leads_to_running_from_everywhere_and_the_state_is_lost(state: DeviceState) -> None:
    device = bring(MockDevice(seed=1), state)
    before = device.state_hash
    device.reset()
    assert device.state is S.RUNNING
    assert device.state_hash != before


def test_after_a_reset_in_resuming_what_was_written_is_forgotten() -> None:
    device, source = resuming(), MockDevice(seed=1)
    device.write(b"\x01 the beginning")
    device.reset()
    bring(device, S.RESUMING).write(stream_of(source))
    assert bring(device, S.STOP).state_hash == source.state_hash


def test_a_backend_is_of_one_machine_at_a_time() -> None:
    device = MockDevice()
    device.bind(VirtualClock())
    with pytest.raises(RegistrationError, match="already"):
        device.bind(VirtualClock())
    device.unbind()
    device.bind(VirtualClock())
