"""The devices of a machine that was made without a command line, as its monitor shows and changes them."""

from collections.abc import Mapping
from typing import Any

from vfio_migration.device import MockDevice
from vfio_migration.emulator.board import Board, BoardDevice, QomObject
from vfio_migration.emulator.devices.vfio import TYPES, add_fault_properties, make_vfio
from vfio_migration.emulator.errors import QmpError
from vfio_migration.registered import VFIOMigration, devices_of
from vmstate import Bus, Device, Machine, RegistrationError


class AdoptedDevices:
    """
    What a machine has registered, looked at anew whenever it is asked for; under the machine's big lock, but for
    `with_faults`.

    Whoever made the machine may add devices and take them away at any time, so that nothing is remembered of it but
    what the board has to forget.
    """

    def __init__(self, machine: Machine, board: Board) -> None:
        self._machine = machine
        self._board = board
        self._adopted: dict[VFIOMigration, BoardDevice] = {}
        self._waiting: list[VFIOMigration] = []  # for a reset, to be unplugged

    @property
    def blockers(self) -> list[str]:
        """Nothing: what keeps such a machine from being migrated is said when it is tried."""
        return []

    def refresh(self) -> None:
        """Have the board show what the machine has by now."""
        registered = list(devices_of(self._machine))
        for device in [each for each in self._adopted if each not in registered]:
            self._board.discard(self._adopted.pop(device))
        for device in registered:
            if device not in self._adopted:
                adopted = self._board.adopt(device.vfio_device.device)
                self._adopted[device] = adopted
                backend = device.vfio_device.backend
                if isinstance(backend, MockDevice):
                    add_fault_properties(adopted.type or TYPES[0], backend, self._board.qom(adopted.path).properties)

    def with_faults(self, path: str) -> QomObject | None:
        """Look into the machine's registry, which is replaced whole: the board is edited under the lock."""
        for device in devices_of(self._machine):
            mock = device.vfio_device.backend
            if isinstance(mock, MockDevice) and f"/{path}".endswith(f"/{device.id}"):
                type_ = device.vfio_device.device.type or TYPES[0]
                shown = QomObject(path, type_)
                add_fault_properties(type_, mock, shown.properties)
                return shown
        return None

    def check_unplug(self, name: str) -> None:
        """Do nothing: whatever is there can be taken out."""

    def plug(self, options: Mapping[str, Any], *, hotplugged: bool = False, typed: bool = False) -> BoardDevice:
        """
        Plug a VFIO device with a mock behind it into the machine's tree.

        Raises:
            QmpError: it cannot be.

        """
        self.refresh()
        name = str(options.get("id", ""))
        if options.get("driver") not in TYPES:
            raise QmpError(
                f"'{options.get('driver')}' is not a valid device model name: only {TYPES[0]} is plugged here"
            )
        if not name:
            raise QmpError("Parameter 'id' is missing")
        if any(each.id == name for each in self._adopted):
            raise QmpError(f"Duplicate device ID '{name}'")
        device = Device(name, self._bus(options.get("bus")), str(options["driver"]))
        try:
            registered, _ = make_vfio(self._machine, _Plain(name, device), options, None)
        except (QmpError, RegistrationError) as error:
            device.unplug()
            raise QmpError(str(error)) from error
        self.refresh()
        return self._adopted[registered]

    def request_unplug(self, name: str) -> list[BoardDevice]:
        """Have a device wait for a reset, as there is no guest that could let go of it; raises QmpError."""
        self.refresh()
        found = next((each for each, shown in self._adopted.items() if name in (each.id, shown.path)), None)
        if found is None:
            raise QmpError(f"Device '{name}' not found", "DeviceNotFound")
        if found not in self._waiting:
            self._waiting.append(found)
        return []

    def complete_unplugs(self) -> list[BoardDevice]:
        """Take out what waits."""
        self.refresh()
        waiting, self._waiting = self._waiting, []
        gone = []
        for device in waiting:
            if device in self._adopted:
                gone.append(self._adopted[device])
                device.close()
                device.vfio_device.device.unplug()
        self.refresh()
        return gone

    def _bus(self, name: object) -> Bus:
        """Find a bus by its name; without one, that of the first device."""
        buses = {bus.name: bus for device in self._adopted for bus in _buses_above(device.vfio_device.device)}
        if name is None and buses:
            return next(iter(buses.values()))
        bus = buses.get(str(name))
        if bus is None:
            raise QmpError(f"Bus '{name}' not found")
        return bus


class _Plain:
    """A device as `make_vfio` takes it, before a board has it."""

    def __init__(self, name: str, device: Device) -> None:
        self.id = name
        self.type = device.type
        self.device = device


def _buses_above(device: Device) -> list[Bus]:
    """Give the buses of a tree: those on the way up from a device, and all below them."""
    root = device.bus
    while root is not None and root.parent is not None and root.parent.bus is not None:
        root = root.parent.bus
    return [] if root is None else _with_below(root)


def _with_below(bus: Bus) -> list[Bus]:
    found = [bus]
    for device in bus.devices:
        for each in device.buses:
            found += _with_below(each)
    return found
