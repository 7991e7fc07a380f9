import json
import re
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suite import DATA

from vmstate import Bus, DeviceNotFoundError, DeviceTree, QtreeError, parse_qtree

CAPTURES = {name: (DATA / "qemu-11.1.3" / f"{name}.qtree.txt").read_text(encoding="utf-8") for name in ("flat", "host")}
SMALL = """\
bus: main-system-bus
  type System
  dev: host, id ""
    addr = 0
    bus: pcie.0
      type PCIE
      dev: nic, id "nic1"
        mac = "52:54:00:12:34:56"
      dev: nic, id "nic0"
    bus: pcie.1
      dev: gpu, id "gpu0"
  dev: last, id ""
"""


@pytest.fixture(params=sorted(CAPTURES))
def capture(request: pytest.FixtureRequest) -> str:
    return CAPTURES[str(request.param)]


def shape(tree: DeviceTree) -> list[tuple[str, str, int, str]]:
    return [(device.type, device.id, device.depth, device.bus.name if device.bus else "") for device in tree]


def devices_by_indent(text: str) -> list[tuple[str, str, int]]:
    """Read off every device's line: its type, its id, and the depth that its indent stands for."""
    found = re.findall(r'^( *)dev: (\S+), id "(.*)"$', text, re.MULTILINE)
    return [(type_, id_, (len(indent) + 2) // 4) for indent, type_, id_ in found]


def test_the_captures_give_every_device_in_the_order_and_at_the_depth_of_the_text(capture: str) -> None:
    tree = parse_qtree(capture)
    assert [entry[:3] for entry in shape(tree)] == devices_by_indent(capture)


def test_the_captures_give_every_bus_with_its_devices(capture: str) -> None:
    tree = parse_qtree(capture)
    assert (tree.root.name, tree.root.parent) == ("main-system-bus", None)
    buses: list[Bus] = [tree.root]
    buses += [bus for device in tree for bus in device.buses]
    assert Counter(bus.name for bus in buses) == Counter(re.findall(r"^ *bus: (.*)$", capture, re.MULTILINE))
    assert sum(len(bus.devices) for bus in buses) == len(list(tree))


@pytest.mark.parametrize(
    ("id_", "depth", "type_", "bus", "above"),
    [
        ("net0", 2, "virtio-net-pci", "pcie.0", "q35-pcihost"),
        ("vf0", 3, "edu", "rp0", "pcie-root-port"),
        ("hd0", 4, "scsi-hd", "scsi0.0", "virtio-scsi-device"),
        ("gpu3", 5, "edu", "dn3", "xio3130-downstream"),
    ],
)
def test_the_devices_of_the_host_capture_sit_where_qemu_put_them(
    id_: str, depth: int, type_: str, bus: str, above: str
) -> None:
    device = parse_qtree(CAPTURES["host"]).device(id_)
    assert device.bus is not None
    assert device.bus.parent is not None
    assert (device.depth, device.type, device.bus.name, device.bus.parent.type) == (depth, type_, bus, above)
    assert device in device.bus.devices
    assert device.bus in device.bus.parent.buses


def test_devices_are_found_by_patterns_in_the_order_of_the_text() -> None:
    tree = parse_qtree(CAPTURES["host"])
    assert [device.id for device in tree.match("vf*")] == ["vf3", "vf2", "vf1", "vf0"]
    assert [device.id for device in tree.match("gpu[01]")] == ["gpu1", "gpu0"]
    assert tree.match("VF*") == []
    assert [device.type for device in tree.match_type("virtio-*-device")] == [
        "virtio-balloon-device",
        "virtio-rng-device",
        "virtio-scsi-device",
        "virtio-net-device",
    ]
    assert tree.match("") == []
    assert all(device.id for device in tree.match("*"))


def test_a_device_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    tree = parse_qtree(SMALL)
    with pytest.raises(DeviceNotFoundError, match=r"'nic2'.*gpu0, nic0, nic1"):
        tree.device("nic2")
    with pytest.raises(DeviceNotFoundError):
        tree.device("")  # many have none
    with pytest.raises(DeviceNotFoundError, match="none"):
        parse_qtree("bus: main-system-bus").device("nic")
    twice = parse_qtree(SMALL.replace("gpu0", "nic0"))
    with pytest.raises(DeviceNotFoundError, match=r"^2 devices"):
        twice.device("nic0")


def test_all_of_a_small_tree_is_read() -> None:
    assert shape(parse_qtree(SMALL)) == [
        ("host", "", 1, "main-system-bus"),
        ("nic", "nic1", 2, "pcie.0"),
        ("nic", "nic0", 2, "pcie.0"),
        ("gpu", "gpu0", 2, "pcie.1"),
        ("last", "", 1, "main-system-bus"),
    ]


@pytest.mark.parametrize(
    "altered",
    [
        pytest.param(SMALL.replace("\n", "\r\n"), id="CRLF"),
        pytest.param("(qemu) info qtree\r\n" + SMALL.replace("\n", "\r\n") + "(qemu) ", id="prompt"),
        pytest.param("info qtree\n" + SMALL, id="echo"),
        pytest.param("\n\n" + SMALL.replace("\n", "\n\n") + "\n", id="blank lines"),
        pytest.param(SMALL.rstrip("\n"), id="no end of line"),
        pytest.param("".join(f"     {line}\n" for line in SMALL.splitlines()), id="indented as a whole"),
        pytest.param("".join(f"> {line}\n" for line in SMALL.splitlines()), id="quoted"),
        pytest.param("".join(f">> > {line}\n" for line in SMALL.splitlines()), id="quoted twice"),
        pytest.param("(qemu) info status\nVM status: running\n(qemu) info qtree\n" + SMALL, id="transcript"),
        pytest.param(SMALL + "(qemu) info status\nVM status: running\n(qemu) quit\n", id="transcript that goes on"),
        pytest.param(json.dumps({"return": SMALL.replace("\n", "\r\n"), "id": "libvirt-9"}), id="QMP"),
        pytest.param(json.dumps({"return": SMALL}, indent=2), id="QMP, pretty"),
        pytest.param(f'{{"QMP": {{}}}}\n{{"return": {{}}}}\n{json.dumps({"return": SMALL})}\n', id="QMP, a dialogue"),
        pytest.param(SMALL.replace("nic0", "nic9") + "(qemu) info qtree\n" + SMALL, id="two captures"),
        pytest.param(SMALL.replace("\n", "   \n"), id="blanks at the ends"),
        pytest.param(re.sub(r"^ *(type|addr|mac).*\n", "", SMALL, flags=re.MULTILINE), id="no properties"),
    ],
)
def test_what_stands_around_the_tree_makes_no_difference(altered: str) -> None:
    assert shape(parse_qtree(altered)) == shape(parse_qtree(SMALL))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line 'bus: NAME'"),
        ("\r\n \n", "no line 'bus: NAME'"),
        ("(qemu) info qtree\n(qemu) ", "no line 'bus: NAME'"),
        ("hello\nbos: a", "line 1: expected 'bus: NAME'.*'hello'"),
        ('{"return": {}}', "line 1: expected"),
        ('dev: nic, id "a"', "line 1: .*stands below nothing"),
        ('  bus: a\ndev: x, id ""', "line 2: .*stands below nothing"),
        ('bus: a\n  dev: x, id ""\n\taddr = 1', "line 3: 'addr = 1' is indented with a tab"),
        ("bus: a\nbus: b", "line 2: a second root bus 'b', after 'a'"),
        ('bus: a\n  dev: x, id ""\nbus: b', "line 3: a second root bus"),
        ('bus: a\ndev: x, id ""', "line 2: .*stands below nothing"),
        ("bus: a\n  bus: b", "line 2: bus 'b' must belong to a device"),
        ('bus: a\n  dev: x, id ""\n    dev: y, id ""', "line 3: device 'y' must sit on a bus"),
        ('bus: a\n dev: x, id ""', "line 2: .*indented by 1, expected at most 2"),
        ('bus: a\n   dev: x, id ""', "line 2: .*indented by 3, expected at most 2"),
        ('bus: a\n    dev: x, id ""', "line 2: .*indented by 4"),
        ('bus: a\n  dev: x, id ""\n      bus: b', "line 3: .*indented by 6, expected at most 4"),
        ('bus: a\n  dev: x, id ""\n   bus: b', "line 3: .*indented by 3"),
        ("bus: a\n  dev: x", "line 2: expected 'dev: TYPE, id"),
        ('bus: a\n  dev: x, id "cut', "line 2: expected 'dev: TYPE, id"),
    ],
)
def test_bad_text_is_refused_with_the_line_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(QtreeError, match=message):
        parse_qtree(text)


@pytest.mark.parametrize("line", [28, 30, 389, 391], ids=["bus", "device", "inner bus", "inner device"])
def test_a_capture_in_which_a_line_has_moved_is_refused(line: int) -> None:
    lines = CAPTURES["host"].splitlines()
    lines[line - 1] = "  " + lines[line - 1]
    with pytest.raises(QtreeError, match=f"^line {line}: "):
        parse_qtree("\n".join(lines))


@pytest.mark.parametrize("line", [1, 28, 389, 391], ids=["root", "bus", "port's bus", "only device"])
def test_a_capture_that_lacks_a_line_that_others_stand_below_is_refused(line: int) -> None:
    lines = CAPTURES["host"].splitlines()
    del lines[line - 1]
    with pytest.raises(QtreeError, match=r"^line \d+: "):
        parse_qtree("\n".join(lines))


pieces = st.sampled_from(
    [
        "bus: a",
        "bus: ",
        "bus:",
        'dev: t, id "i"',
        'dev: t, id ""',
        "dev: ",
        "dev: t",
        "type PCIE",
        "(qemu) ",
        "\t",
        "\x0b",
    ]
)
indents = st.integers(0, 9).map(lambda count: " " * count) | st.sampled_from(["\t", "\xa0", "\u3000 "])
lines = st.tuples(indents, pieces | st.text(max_size=8)).map("".join)
endings = st.sampled_from(["\n", "\r\n", "\r", "\u2028"])
near_misses = st.builds(lambda ending, parts: ending.join(["bus: root", *parts]), endings, st.lists(lines, max_size=8))
growing = st.integers(1, 30).map(
    lambda levels: "\n".join(" " * 2 * level + ('dev: t, id "i"' if level % 2 else "bus: b") for level in range(levels))
)


@settings(max_examples=400)
@given(st.text() | near_misses | growing | st.lists(lines).map("\n".join))
def test_no_text_raises_anything_but_a_qtree_error(text: str) -> None:
    try:
        tree = parse_qtree(text)
    except QtreeError:
        return
    for device in tree:
        assert device.bus is not None
        assert device in device.bus.devices
        assert device.depth >= 1


@settings(max_examples=100)
@given(st.recursive(st.just([]), lambda below: st.lists(st.lists(below, max_size=3), max_size=3), max_leaves=20))
def test_every_tree_that_is_written_as_qemu_writes_it_is_read_back(shape_of_root: list[list[object]]) -> None:
    """A node is a list of what is below it: a bus of devices, a device of buses."""
    written: list[str] = []
    expected: list[tuple[str, int]] = []

    def write(below: object, level: int) -> None:
        if level % 2:
            expected.append((f"d{len(expected)}", (level + 1) // 2))
            written.append(f'{"  " * level}dev: type, id "{expected[-1][0]}"')
        else:
            written.append(f"{'  ' * level}bus: b{level}")
        assert isinstance(below, list)
        for child in below:
            write(child, level + 1)

    write(shape_of_root, 0)
    assert [(device.id, device.depth) for device in parse_qtree("\n".join(written))] == expected


def test_the_last_of_two_captures_is_read_and_that_is_said() -> None:
    assert parse_qtree(SMALL).notes == ()
    assert parse_qtree(SMALL + "(qemu) info qtree\n" + SMALL).notes == (
        "the text holds 2 captures of a tree; the last is taken",
    )


def test_bytes_that_are_no_text_do_no_harm() -> None:
    tree = parse_qtree(b'bus: a\n  dev: x, id "n"\n    serial = "\xff\xfe"\n  dev: y, id "\xe9"\n')
    assert [device.id for device in tree] == ["n", "\N{REPLACEMENT CHARACTER}"]


UNNAMED = """bus: main-system-bus
  dev: q35-pcihost, id ""
    bus: pcie.0
      dev: vfio-pci, id ""
        addr = 04.0
        host = "0000:01:00.0"
      dev: vfio-pci, id ""
        host = "ffff:ff:ff.f"
        sysfsdev = "/sys/bus/mdev/devices/c0ffee"
      dev: vfio-pci, id ""
        fd = "23"
      dev: edu, id ""
      dev: nic, id "nic0"
        host = "0000:02:00.0"
"""


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("0000:01:00.0", ["pcie.0/04.0"]),
        ("c0ffee", ["pcie.0/1"]),
        ("/sys/bus/mdev/devices/*", ["pcie.0/1"]),
        ("VFIO_FD23", ["pcie.0/2"]),
        ("23", ["pcie.0/2"]),
        ("edu", ["pcie.0/3"]),
        ("pcie.0/3", ["pcie.0/3"]),
        ("vfio-pci", ["pcie.0/04.0", "pcie.0/1", "pcie.0/2"]),
        ("0000:02:*", ["pcie.0/4"]),
        ("*", ["pcie.0/04.0", "pcie.0/1", "pcie.0/2", "pcie.0/4"]),
        ("none", []),
    ],
)
def test_a_device_is_found_by_whatever_names_it(pattern: str, places: list[str]) -> None:
    assert [device.place for device in parse_qtree(UNNAMED).find(pattern)] == places


def test_a_hostile_line_takes_no_time() -> None:
    before = time.process_time()
    with pytest.raises(QtreeError, match="line 2: expected 'dev: TYPE, id"):
        parse_qtree("bus: a\n  dev: x" + ', id "' * 100_000)
    assert time.process_time() - before < 1
