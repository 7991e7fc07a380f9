"""The device tree: buses and devices in turn, a device's depth, and the priority that follows from it."""

import operator

from vmstate.errors import DeviceTreeError
from vmstate.handlers import Callback, HandlerEntry, HandlerList, ReturningCallback

MAX_DEPTH = 32767
_LONGEST_ID = 255  # bytes
_SHOWN = 40  # characters of one that is too long
_MIN_ADJUST, _MAX_ADJUST = -32768, 32767
_PRIORITIES_PER_DEPTH = 65536
_PLAIN = 16384  # halfway between plain priorities around 0 and depth 0 around 32768


class Bus:
    """A bus: it belongs to a device, or to none, as the main system bus does."""

    __slots__ = ("_devices", "_parent", "name")

    def __init__(self, name: str, parent: "Device | None" = None) -> None:
        self.name = name
        self._parent = parent
        self._devices: list[Device] = []
        if parent is not None:
            parent._buses.append(self)  # noqa: SLF001 - one tree, two kinds of node

    @property
    def parent(self) -> "Device | None":
        """The device that this bus belongs to."""
        return self._parent

    @property
    def devices(self) -> "tuple[Device, ...]":
        """The devices on this bus, in the order of attaching."""
        return tuple(self._devices)

    def __repr__(self) -> str:
        return f"<Bus {self.name!r}>"


class Device:
    """
    A device: it sits on a bus, or on none. Creating it attaches it.

    `type` is the device's type as `info qtree` prints it; `id` is empty for a device without one. `properties` are
    those of a parsed tree that say where it is (`host`, `sysfsdev`, `fd`, `addr`), and a few that a migration goes by.

    Raises:
        DeviceTreeError: the id is no printable text of at most 255 bytes, which is what a migration stream can say.

    """

    __slots__ = ("_bus", "_buses", "id", "properties", "type")

    def __init__(self, id: str, bus: Bus | None = None, type: str = "") -> None:  # noqa: A002 - QEMU's words
        if not id.isprintable() or len(id.encode(errors="replace")) > _LONGEST_ID:
            raise DeviceTreeError(
                f"a device's id is printable text of at most {_LONGEST_ID} bytes; got {id[:40]!r}"
                f"{f'... of {len(id):,} characters' if len(id) > _SHOWN else ''}"
            )
        self.id = id
        self.type = type
        self._bus: Bus | None = None
        self._buses: list[Bus] = []
        self.properties: dict[str, str] = {}
        if bus is not None:
            self.plug(bus)

    @property
    def bus(self) -> Bus | None:
        """The bus that this device sits on."""
        return self._bus

    @property
    def buses(self) -> tuple[Bus, ...]:
        """The buses that belong to this device, in the order of attaching."""
        return tuple(self._buses)

    @property
    def host_names(self) -> tuple[str, ...]:
        """
        What VFIO calls the device, as its properties say; empty for any other.

        That is its address on the host, the last part of its path there, or `VFIO_FD` and the number of its descriptor
        (QEMU's `vfio_device_get_name`); the path and the number themselves name it too.
        """
        names = []
        sysfsdev = self.properties.get("sysfsdev", "").rstrip("/")
        if sysfsdev:
            names += [sysfsdev.rpartition("/")[2], sysfsdev]
        host, descriptor = self.properties.get("host", ""), self.properties.get("fd", "")
        if host.strip("f:.") or not (sysfsdev or descriptor):  # QEMU's default is ffff:ff:ff.f
            names += [host]
        if descriptor:
            names += [f"VFIO_FD{descriptor}", descriptor]
        return tuple(filter(None, names))

    @property
    def place(self) -> str:
        """Its bus and its place there: the address if it has one (`pcie.0/04.0`), else its number, from 0."""
        if self._bus is None:
            return ""
        return f"{self._bus.name}/{self.properties.get('addr') or self._bus.devices.index(self)}"

    @property
    def name(self) -> str:
        """What it is called: its id or, without one, what VFIO calls it; empty if it has neither."""
        return self.id or next(iter(self.host_names), "")

    @property
    def depth(self) -> int:
        """How many buses lie on the way up (QEMU's `qdev_get_dev_tree_depth`)."""
        depth = 0
        bus = self._bus
        while bus is not None:
            depth += 1
            bus = bus.parent._bus if bus.parent is not None else None  # noqa: SLF001
        return depth

    def plug(self, bus: Bus) -> None:
        """
        Put the device on a bus. Handlers that it registered keep the priority of their old depth.

        Raises:
            DeviceTreeError: it sits on one already, or the bus lies below this very device.

        """
        if self._bus is not None:
            raise DeviceTreeError(f"device {self} sits on bus {self._bus.name!r} already: unplug it first")
        above = bus.parent
        while above is not None:
            if above is self:
                raise DeviceTreeError(f"device {self} cannot sit on bus {bus.name!r}, which lies below it")
            above = above.bus.parent if above.bus is not None else None
        self._bus = bus
        bus._devices.append(self)  # noqa: SLF001

    def unplug(self) -> None:
        """Take the device, with all that lies below it, off its bus; does nothing if it sits on none."""
        if self._bus is not None:
            self._bus._devices.remove(self)  # noqa: SLF001
            self._bus = None

    def __str__(self) -> str:
        return repr(self.id) if self.id else f"of type {self.type!r}"

    def __repr__(self) -> str:
        return f"<Device {self.id!r}{f' type={self.type!r}' if self.type else ''}>"


def device_priority(depth: int, adjust: int = 0) -> int:
    """
    Give the priority of a device's handler: depths apart, room for adjustment within each.

    A plain priority near 0 comes before every device's when starting, and after it when stopping
    (QEMU's `qdev_add_vm_change_state_handler_full`).

    Raises:
        ValueError: depth is not in 0..32767 or adjust not in -32768..32767.

    """
    depth = operator.index(depth)
    adjust = operator.index(adjust)
    if not 0 <= depth <= MAX_DEPTH:
        raise ValueError(f"depth must be in 0..{MAX_DEPTH}, got {depth}")
    if not _MIN_ADJUST <= adjust <= _MAX_ADJUST:
        raise ValueError(f"adjust must be in {_MIN_ADJUST}..{_MAX_ADJUST}, got {adjust}")
    return depth * _PRIORITIES_PER_DEPTH + adjust - _MIN_ADJUST


def depth_of_priority(priority: int) -> int | None:
    """Give the depth that a priority of `device_priority` stands for; None for a plain one near 0."""
    return priority // _PRIORITIES_PER_DEPTH if priority > _PLAIN else None


def add_device_handler(
    handlers: HandlerList,
    device: Device,
    cb: Callback | None = None,
    *,
    prepare_cb: Callback | None = None,
    cb_ret: ReturningCallback | None = None,
    adjust: int = 0,
) -> HandlerEntry:
    """
    Register a device's handler at the priority of the depth that the device has now.

    Raises what `HandlerList.add` and `device_priority` raise
    (QEMU's `qdev_add_vm_change_state_handler_full`).
    """
    return handlers.add(
        cb,
        prepare_cb=prepare_cb,
        cb_ret=cb_ret,
        priority=device_priority(device.depth, adjust),
        name=device.id or device.type,
    )
