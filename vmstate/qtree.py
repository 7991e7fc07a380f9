"""Reads what QEMU's monitor prints for `info qtree`: the device tree of a real machine."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from vmstate.device_tree import Bus, Device
from vmstate.errors import DeviceNotFoundError, DeviceTreeError, QtreeError

_BUS = re.compile(r"bus: (?P<name>.*)")
_DEVICE = re.compile(r'dev: (?P<type>.*), id "(?P<id>.*)"')
_AROUND = ("(qemu)", "info qtree", "QEMU ")  # prompt, echo and banner of the monitor
_STEP = 2  # QEMU indents each level by two blanks


class DeviceTree:
    """The buses and devices below one root bus."""

    def __init__(self, root: Bus) -> None:
        self.root = root

    def __iter__(self) -> Iterator[Device]:
        """Iterate over all devices, each before those on its own buses, in the order of the text."""
        waiting = list(reversed(self.root.devices))
        while waiting:
            device = waiting.pop()
            yield device
            for bus in reversed(device.buses):
                waiting.extend(reversed(bus.devices))

    def device(self, id: str) -> Device:  # noqa: A002 - QEMU's word
        """
        Give the device with this id.

        Raises:
            DeviceNotFoundError: there is none, or more than one.

        """
        found = [device for device in self if device.id == id]
        if not id or len(found) != 1:
            ids = ", ".join(sorted({device.id for device in self if device.id})) or "none"
            raise DeviceNotFoundError(f"{len(found)} devices have the id {id!r}; ids in this tree: {ids}")
        return found[0]

    def match(self, pattern: str) -> list[Device]:
        """Give the devices whose id matches a shell pattern such as `vf*`; never those without an id."""
        return [device for device in self if device.id and fnmatchcase(device.id, pattern)]

    def match_type(self, pattern: str) -> list[Device]:
        """Give the devices whose type matches a shell pattern such as `virtio-*-device`."""
        return [device for device in self if fnmatchcase(device.type, pattern)]


def parse_qtree(text: str) -> DeviceTree:
    """
    Read the text that QEMU's monitor prints for `info qtree`.

    The monitor's banner, its prompt and its echo of the command may stand around it. Properties are passed over.

    Raises:
        QtreeError: the text is something else, or was cut or edited; the message names the line.

    """
    root: Bus | None = None
    # The way from the root to the line above: what stands there, and how far it is indented.
    above: list[tuple[int, Bus | Device]] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        content = line.strip()
        indent = len(line) - len(line.lstrip())
        if content.startswith("bus: "):
            name = _matched(_BUS, content, number)["name"]
            if indent == 0:
                if root is not None:
                    raise QtreeError(f"line {number}: a second root bus {name!r}, after {root.name!r}")
                root = Bus(name)
                above = [(0, root)]
                continue
            parent = _parent(above, indent, number, content)
            if not isinstance(parent, Device):
                raise QtreeError(f"line {number}: bus {name!r} must belong to a device, stands below a bus")
            above.append((indent, Bus(name, parent)))
        elif content.startswith("dev: "):
            match = _matched(_DEVICE, content, number)
            bus = _parent(above, indent, number, content)
            if not isinstance(bus, Bus):
                raise QtreeError(f"line {number}: device {match['type']!r} must sit on a bus, stands below a device")
            above.append((indent, _device(match, bus, number)))
        elif content and not above and not content.startswith(_AROUND):
            raise QtreeError(f"line {number}: expected 'bus: NAME' as `info qtree` prints first, got {content[:60]!r}")
    if root is None:
        raise QtreeError("no line 'bus: NAME' in the text: expected what the monitor prints for `info qtree`")
    return DeviceTree(root)


def _matched(pattern: re.Pattern[str], content: str, number: int) -> re.Match[str]:
    match = pattern.fullmatch(content)
    if match is None:
        raise QtreeError(f"line {number}: expected 'dev: TYPE, id \"ID\"' or 'bus: NAME', got {content[:60]!r}")
    return match


def _device(match: re.Match[str], bus: Bus, number: int) -> Device:
    try:
        return Device(match["id"], bus, match["type"])
    except DeviceTreeError as error:
        raise QtreeError(f"line {number}: {error}") from error


def _parent(above: list[tuple[int, Bus | Device]], indent: int, number: int, content: str) -> Bus | Device:
    """Drop what the line is not below, and give what it stands directly below."""
    while above and above[-1][0] >= indent:
        above.pop()
    if not above:
        raise QtreeError(f"line {number}: {content[:60]!r} stands below nothing: the root bus must come first")
    expected = above[-1][0] + _STEP
    if indent != expected:
        raise QtreeError(
            f"line {number}: {content[:60]!r} is indented by {indent}, expected at most {expected}: a line is missing"
        )
    return above[-1][1]
