"""Reads what QEMU's monitor prints for `info qtree`: the device tree of a real machine."""

import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

from vmstate.device_tree import Bus, Device
from vmstate.errors import DeviceNotFoundError, DeviceTreeError, QtreeError

_QUOTED = re.compile(r"(?:>+ ?)+")
_STEP = 2  # QEMU indents each level by two blanks
_AROUND = ("(qemu)", "info qtree", "QEMU ")  # prompt, echo and banner of the monitor
_SHOWN = 20  # ids that an error names
_BY_PLACE = 2  # which of the ways to find a device
# What else names a device than its id: where it is on the host, or on its bus.
_PROPERTIES = (
    "host",
    "sysfsdev",
    "fd",
    "addr",
    "x-migration-parallel-states",
    "below-4g-mem-size",
    "above-4g-mem-size",
)


class DeviceTree:
    """The buses and devices below one root bus; `notes` say what of a text was passed over."""

    def __init__(self, root: Bus, notes: tuple[str, ...] = ()) -> None:
        self.root = root
        self.notes = notes

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
            raise DeviceNotFoundError(f"{len(found)} devices have the id {id!r}; ids in this tree: {self.shown_ids()}")
        return found[0]

    def match(self, pattern: str) -> list[Device]:
        """Give the devices whose id matches a shell pattern such as `vf*`; never those without an id."""
        return [device for device in self if device.id and fnmatchcase(device.id, pattern)]

    def match_type(self, pattern: str) -> list[Device]:
        """Give the devices whose type matches a shell pattern such as `virtio-*-device`."""
        return [device for device in self if fnmatchcase(device.type, pattern)]

    def find(self, pattern: str) -> list[Device]:
        """
        Give the devices that a shell pattern names in any way.

        That is by id and, for one without, by what VFIO calls it (`host`, `sysfsdev`, `fd`); if none has such a name,
        by any of these of all devices, by place (`pcie.0/04.0`), or by type: whichever is the first to name any.
        """
        ways: tuple[Callable[[Device], tuple[str, ...]], ...] = (
            lambda each: (each.name,),
            lambda each: each.host_names,
            lambda each: (each.place,),
            lambda each: (each.type,),
        )
        devices = list(self)
        for number, names in enumerate(ways):
            if number == _BY_PLACE and "/" not in pattern:
                continue  # counting places is dear where no device has an address
            found = [each for each in devices if any(name and fnmatchcase(name, pattern) for name in names(each))]
            if found:
                return found
        return []

    def shown_ids(self) -> str:
        """Give the ids for people: a few, and how many more there are."""
        ids = sorted({device.id for device in self if device.id})
        more = f", ... ({len(ids):,} ids)" if len(ids) > _SHOWN else ""
        return f"{', '.join(ids[:_SHOWN])}{more}" or "none"


def parse_qtree(text: str | bytes) -> DeviceTree:
    """
    Read the text that QEMU's monitor prints for `info qtree`, as people keep it.

    It may be indented as a whole or quoted, stand in a reply of QMP or in a transcript with other commands; of several
    captures in one text the last is read. Bytes that are no UTF-8 are replaced. Of the properties, only those are kept
    that name a device, and a few that matter to a migration.

    Raises:
        QtreeError: the text is something else, was cut or edited, or is indented with tabs; the message names the line.

    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    reader = _Reader()
    for number, line in enumerate(_unwrapped(text.removeprefix("\ufeff")).split("\n"), start=1):
        reader.take(number, line.rstrip())
    return reader.tree()


def _unwrapped(text: str) -> str:
    """Take the text out of a reply of QMP, or the last such reply of a dialogue; any other stays as it is."""
    if not text.lstrip().startswith("{"):
        return text
    decoder, found, at = json.JSONDecoder(), "", 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        if isinstance(value, dict) and isinstance(value.get("return"), str) and "bus: " in value["return"]:
            found = value["return"]
    return found or text


class _Reader:
    """Takes the lines of a text one after another, and builds the tree of the last capture in it."""

    def __init__(self) -> None:
        self._root: Bus | None = None
        self._offset = 0  # how far the root bus is indented, and so all of it
        # The way from the root to the line above: what stands there, and how far it is indented.
        self._above: list[tuple[int, Bus | Device]] = []
        self._captures = 0
        self._first: tuple[int, str] | None = None  # a line with something else, before any tree

    def take(self, number: int, line: str) -> None:
        quoted = _QUOTED.match(line)
        if quoted is not None:
            line = line[quoted.end() :]
        content = line.lstrip()
        indent = len(line) - len(content)
        if self._root is not None and "\t" in line[:indent]:
            raise QtreeError(
                f"line {number}: {content[:60]!r} is indented with a tab, and nobody can tell how deep that is: "
                "`info qtree` prints blanks; give the text as it was printed"
            )
        if content.startswith("bus: "):
            self._bus(number, indent, content)
        elif content.startswith("dev: "):
            self._device(number, indent, content)
        elif self._root is None and self._first is None and content and not content.startswith(_AROUND):
            self._first = number, content
        elif self._above and isinstance(self._above[-1][1], Device):
            self._property(self._above[-1][1], content)

    def tree(self) -> DeviceTree:
        if self._root is None:
            if self._first is not None:
                number, content = self._first
                raise QtreeError(
                    f"line {number}: expected 'bus: NAME' as `info qtree` prints first, got {content[:60]!r}"
                )
            raise QtreeError("no line 'bus: NAME' in the text: expected what the monitor prints for `info qtree`")
        captures = self._captures
        notes = (f"the text holds {captures:,} captures of a tree; the last is taken",) if captures > 1 else ()
        return DeviceTree(self._root, notes)

    def _bus(self, number: int, indent: int, content: str) -> None:
        name = content.removeprefix("bus: ")
        if self._root is None or (indent <= self._offset and name == self._root.name):
            self._root, self._offset = Bus(name), indent
            self._above = [(indent, self._root)]
            self._captures += 1
            return
        if indent <= self._offset:
            raise QtreeError(f"line {number}: a second root bus {name!r}, after {self._root.name!r}")
        parent = self._parent(number, indent, content)
        if not isinstance(parent, Device):
            raise QtreeError(f"line {number}: bus {name!r} must belong to a device, stands below a bus")
        self._above.append((indent, Bus(name, parent)))

    def _device(self, number: int, indent: int, content: str) -> None:
        kind, found, id_ = content.removeprefix("dev: ").rpartition(', id "')
        if not found or not id_.endswith('"'):
            raise QtreeError(f"line {number}: expected 'dev: TYPE, id \"ID\"' or 'bus: NAME', got {content[:60]!r}")
        bus = self._parent(number, indent, content)
        if not isinstance(bus, Bus):
            raise QtreeError(f"line {number}: device {kind!r} must sit on a bus, stands below a device")
        try:
            self._above.append((indent, Device(id_[:-1], bus, kind)))
        except DeviceTreeError as error:
            raise QtreeError(f"line {number}: {error}") from error

    @staticmethod
    def _property(device: Device, content: str) -> None:
        name, equals, value = content.partition(" = ")
        if equals and name in _PROPERTIES:
            device.properties.setdefault(name, value.strip().strip('"'))

    def _parent(self, number: int, indent: int, content: str) -> Bus | Device:
        """Drop what the line is not below, and give what it stands directly below."""
        above = self._above
        while above and above[-1][0] >= indent:
            above.pop()
        if not above:
            raise QtreeError(f"line {number}: {content[:60]!r} stands below nothing: the root bus must come first")
        expected = above[-1][0] + _STEP
        if indent != expected:
            raise QtreeError(
                f"line {number}: {content[:60]!r} is indented by {indent}, expected at most {expected}: "
                "a line is missing"
            )
        return above[-1][1]
