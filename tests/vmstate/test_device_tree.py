import pytest
from hypothesis import given
from hypothesis import strategies as st
from suite.handlers import ignore, noting, returning

from vmstate import (
    Bus,
    Device,
    DeviceTreeError,
    HandlerList,
    RunState,
    add_device_handler,
    depth_of_priority,
    device_priority,
)

depths = st.integers(0, 32767)
adjusts = st.integers(-32768, 32767)


def chain(length: int) -> list[Device]:
    """A device without a bus, one on a bus of that, one on a bus of that, and so on."""
    devices = [Device("d0")]
    for number in range(1, length):
        devices.append(Device(f"d{number}", Bus(f"b{number}", devices[-1])))
    return devices


def test_d1_creating_a_device_or_a_bus_attaches_it_in_order() -> None:
    root = Bus("main-system-bus")
    host, other = Device("host", root, "q35-pcihost"), Device("other", root)
    pcie, spare = Bus("pcie.0", host), Bus("spare", host)
    nic = Device("nic", pcie)
    assert list(root.devices) == [host, other]
    assert list(host.buses) == [pcie, spare]
    assert (root.parent, pcie.parent) == (None, host)
    assert (nic.bus, Device("loose").bus) == (pcie, None)
    assert (host.id, host.type, nic.type) == ("host", "q35-pcihost", "")
    assert list(spare.devices) == []


def test_d1_depth_counts_the_buses_on_the_way_up() -> None:
    assert [device.depth for device in chain(5)] == [0, 1, 2, 3, 4]
    assert Device("on-main", Bus("main-system-bus")).depth == 1


def test_d1_a_device_can_be_moved_and_takes_along_what_lies_below() -> None:
    top, middle, leaf = chain(3)
    root = Bus("root")
    middle.unplug()
    assert (middle.bus, middle.depth, leaf.depth) == (None, 0, 1)
    assert list(top.buses[0].devices) == []
    middle.unplug()  # sits on none
    middle.plug(Bus("deeper", Device("x", root)))
    assert (middle.depth, leaf.depth) == (2, 3)


def test_d1_a_device_cannot_sit_on_two_buses() -> None:
    device = Device("nic", Bus("a"))
    other = Bus("b")
    with pytest.raises(DeviceTreeError, match=r"'nic'.*'a'"):
        device.plug(other)
    assert list(other.devices) == []
    assert device.bus is not other


def test_d1_a_device_cannot_lie_below_itself() -> None:
    devices = chain(3)
    with pytest.raises(DeviceTreeError, match=r"'d0'.*'own'.*below"):
        devices[0].plug(Bus("own", devices[2]))
    assert [device.depth for device in devices] == [0, 1, 2]


@pytest.mark.parametrize(
    ("depth", "adjust", "priority"),
    [
        (0, 0, 32768),
        (0, -32768, 0),
        (1, 0, 98304),
        (1, -1, 98303),
        (3, 1, 3 * 65536 + 32769),
        (32767, 32767, 32767 * 65536 + 65535),
    ],
)
def test_d2_a_priority_is_made_of_depth_and_adjustment(depth: int, adjust: int, priority: int) -> None:
    assert device_priority(depth, adjust) == priority


@pytest.mark.parametrize(
    ("depth", "adjust", "word"),
    [(-1, 0, "depth"), (32768, 0, "depth"), (0, -32769, "adjust"), (0, 32768, "adjust")],
)
def test_d2_anything_else_is_refused(depth: int, adjust: int, word: str) -> None:
    with pytest.raises(ValueError, match=f"{word} must be in .* got {depth or adjust}"):
        device_priority(depth, adjust)


@given(depths, adjusts, depths, adjusts)
def test_d2_priorities_are_ordered_by_depth_first_and_adjustment_second(
    depth: int, adjust: int, other_depth: int, other_adjust: int
) -> None:
    lower = device_priority(depth, adjust) < device_priority(other_depth, other_adjust)
    assert lower == ((depth, adjust) < (other_depth, other_adjust))


@pytest.mark.parametrize("adjust", [-1, 0, 1])
@pytest.mark.parametrize("depth", [0, 1, 5, 32767])
def test_the_depth_can_be_read_off_a_device_priority(depth: int, adjust: int) -> None:
    assert depth_of_priority(device_priority(depth, adjust)) == depth


@pytest.mark.parametrize("priority", [-100, -1, 0, 1, 100])
def test_a_plain_priority_stands_for_no_depth(priority: int) -> None:
    assert depth_of_priority(priority) is None


def test_d2_plain_handlers_come_before_every_device_when_starting_and_after_it_when_stopping() -> None:
    handlers = HandlerList()
    log: list[str] = []
    for device in reversed(chain(3)):
        add_device_handler(handlers, device, noting(log, device.id))
    for priority in (0, 100):
        handlers.add(noting(log, f"plain{priority}"), priority=priority)
    handlers.notify(True, RunState.RUNNING)
    assert log == ["plain0", "plain100", "d0", "d1", "d2"]
    log.clear()
    handlers.notify(False, RunState.PAUSED)
    assert log == ["d2", "d1", "d0", "plain100", "plain0"]


def test_d3_a_handler_keeps_the_priority_of_the_depth_at_which_it_was_registered() -> None:
    handlers = HandlerList()
    device = chain(3)[2]
    entry = add_device_handler(handlers, device, ignore, adjust=-1)
    assert entry.priority == device_priority(2, -1)
    device.unplug()
    assert entry.priority == device_priority(2, -1)
    assert add_device_handler(handlers, device, ignore).priority == device_priority(0)


def test_a_device_handler_is_an_entry_like_any_other() -> None:
    handlers = HandlerList()
    log: list[str] = []
    add_device_handler(handlers, Device("nic"), prepare_cb=noting(log, "prepare"), cb_ret=returning(4))
    assert [entry.name for entry in handlers] == ["nic"]
    assert handlers.notify(False, RunState.PAUSED) == 4
    assert log == ["prepare"]
    with pytest.raises(ValueError, match="adjust"):
        add_device_handler(handlers, Device("nic"), ignore, adjust=40000)
    with pytest.raises(ValueError, match="at least one callback"):
        add_device_handler(handlers, Device("nic"))
    assert len(handlers) == 1


@pytest.mark.parametrize("name", ["vf0", "", "短い名前", "a b", "x" * 255])
def test_an_id_is_printable_text(name: str) -> None:
    assert Device(name).id == name


@pytest.mark.parametrize("name", ["a\nb", "a\x00b", "\x1b[31m", "x" * 256, "短" * 86, "\ud800"])
def test_an_id_that_no_stream_can_say_is_refused_when_the_device_is_made(name: str) -> None:
    with pytest.raises(DeviceTreeError, match="printable text of at most 255 bytes"):
        Device(name)
