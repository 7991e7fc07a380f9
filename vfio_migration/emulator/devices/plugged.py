"""The devices of an emulated machine, as they are plugged and unplugged: tree, handlers, stream and faults in step."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from vfio_migration.changes import Watchdog
from vfio_migration.device import MockDevice
from vfio_migration.emulator.board import Board, BoardDevice, QomObject
from vfio_migration.emulator.devices.ordinary import OrdinarySection, add_handlers, section_size
from vfio_migration.emulator.devices.section_names import section_name, vfio_section_name
from vfio_migration.emulator.devices.vfio import (
    OWN_PROPERTIES,
    TYPES,
    add_fault_properties,
    blocks_migration,
    make_vfio,
)
from vfio_migration.emulator.errors import QmpError
from vfio_migration.registered import VFIOMigration
from vfio_migration.scenarios import DeviceSpec
from vmstate import HandlerEntry, Machine

_NO_STATE = "non-migratable device: "
_PLUGGED = "/machine/peripheral"
_Specs = Callable[[BoardDevice], DeviceSpec | None]


@dataclass
class _Plugged:
    """What a device has at its machine."""

    device: BoardDevice
    handlers: list[HandlerEntry] = field(default_factory=list)
    section: OrdinarySection | None = None
    vfio: VFIOMigration | None = None
    mock: MockDevice | None = None
    blocks: bool = False


class PluggedDevices:
    """
    Plugs devices into a board and its machine, and takes them out again; under the machine's big lock.

    A device that a scenario names is a VFIO device, whatever its type.
    """

    def __init__(self, machine: Machine, board: Board, *, only_migratable: bool = False) -> None:
        self._machine = machine
        self._board = board
        self._specs: _Specs = lambda _: None
        self.only_migratable = only_migratable
        # What was plugged before `attach`, with its options, in the order in which handlers are to be registered.
        self._waiting: list[tuple[BoardDevice, Mapping[str, Any]]] | None = []
        self._watchdog: Watchdog | None = None
        self._plugged: dict[int, _Plugged] = {}  # by the identity of the board's device

    def attach(
        self,
        specs: _Specs = lambda _: None,
        watchdog: Watchdog | None = None,
        *,
        said: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        """
        Give the machine what the board has by now, and from now on at once; all VFIO devices with this watchdog.

        `specs` says what a scenario has for a device, which it can only once it knows the tree; `said` how each was
        asked for, by the board's device's identity.

        Raises:
            QmpError: a device's options make no sense.

        """
        waiting, self._waiting = self._waiting or [], None
        self._specs, self._watchdog = specs, watchdog
        later = {id(each) for device, _ in waiting for each in family(device)}
        for device in reversed(list(self._board.devices())):  # the newest come first there
            if id(device) not in later:
                self._attach(device, {})
        for device, options in waiting:
            for each in family(device):
                try:
                    self._attach(each, options if each is device else {})
                except QmpError as error:
                    raise QmpError(f"{said[id(device)]}: {error}" if id(device) in said else str(error)) from error

    @property
    def mocks(self) -> dict[str, MockDevice]:
        """The mocks behind the VFIO devices, by id."""
        return {each.device.id: each.mock for each in self._plugged.values() if each.mock is not None}

    @property
    def vfio_sections(self) -> dict[str, str]:
        """What QEMU would call the sections of the VFIO devices that can be migrated, by ids."""
        vfio = [each.device for each in self._plugged.values() if each.vfio is not None]
        return {device.id: vfio_section_name(device, self._board.is_a) for device in vfio}

    @property
    def blockers(self) -> list[str]:
        """What keeps the machine from being migrated, in QEMU's words."""
        own = [
            f"{each.device.id}: Migration is disabled for VFIO device" for each in self._plugged.values() if each.blocks
        ]
        return [*self._board.migration_blockers, *own]

    def refresh(self) -> None:
        """Do nothing: board and machine are always in step."""

    def with_faults(self, path: str) -> QomObject | None:
        """Give the board's own: an object stays as it is while it is there."""
        return self._board.qom(path)

    def check_unplug(self, name: str) -> None:
        """Raise QmpError if there is no such device, or it is one that stays."""
        self._board.unpluggable(name)

    def plug(self, options: Mapping[str, Any], *, hotplugged: bool = False, typed: bool = False) -> BoardDevice:
        """
        Plug a device in; all or nothing. `typed`: options are JSON, in which a number is no text.

        Raises:
            QmpError: it cannot be.

        """
        own = {name: value for name, value in options.items() if name in OWN_PROPERTIES}
        board_options = {name: value for name, value in options.items() if name not in own}
        if own and options.get("driver") not in TYPES:
            name = next(iter(own))
            raise QmpError(f"Property '{options.get('driver')}.{name}' not found")
        device = self._board.add(board_options, hotplugged=hotplugged, typed=typed)
        if self.only_migratable and device.blockers:
            self._board.discard(device)
            raise QmpError(_only_migratable(device))
        if self._waiting is not None:
            self._waiting.append((device, options))
            return device
        with ExitStack() as undo:
            undo.callback(self._board.discard, device)
            for each in family(device):
                self._attach(each, options if each is device else {})
                undo.callback(self._detach, each)
            undo.pop_all()
        return device

    def request_unplug(self, name: str) -> list[BoardDevice]:
        """Take a device out, with all that is plugged into it: nothing if it waits for the guest. Raises QmpError."""
        going = self._board.going_with(self._board.unpluggable(name))
        if not self._board.request_unplug(name):
            return []
        for device in going:
            for each in list(family(device)):
                self._detach(each)
        return going

    def complete_unplugs(self) -> list[BoardDevice]:
        """Take out what has waited for the guest, or a reset."""
        gone = self._board.complete_unplugs()
        for device in gone:
            for each in list(family(device)):
                self._detach(each)
        return gone

    def _attach(self, device: BoardDevice, options: Mapping[str, Any]) -> None:
        plugged = _Plugged(device)
        spec = self._specs(device)
        with ExitStack() as undo:
            undo.callback(self._let_go, plugged)
            if device.type in TYPES or spec is not None:
                self._attach_vfio(plugged, options, spec)
            plugged.handlers += add_handlers(self._machine, device, is_a=self._board.is_a)
            name = None if plugged.vfio is not None else section_name(device, self._board.is_a)
            if name is not None and device.path.startswith(_PLUGGED):
                plugged.section = OrdinarySection(name, section_size(device, self._board.is_a))
                self._machine.register(plugged.section)
            undo.pop_all()
        self._plugged[id(device)] = plugged

    def _attach_vfio(self, plugged: _Plugged, options: Mapping[str, Any], spec: DeviceSpec | None) -> None:
        device = plugged.device
        if not device.device.id:
            device.device.id = device.path.rpartition("/")[2]  # by which both sides' devices are paired
        plugged.blocks = blocks_migration(options)
        if not plugged.blocks:
            plugged.vfio, plugged.mock = make_vfio(self._machine, device, options, spec, self._watchdog)
            add_fault_properties(device.type, plugged.mock, self._board.qom(device.path).properties)

    def _detach(self, device: BoardDevice) -> None:
        plugged = self._plugged.pop(id(device), None)
        if plugged is not None:
            self._let_go(plugged)

    def _let_go(self, plugged: _Plugged) -> None:
        for handler in plugged.handlers:
            handler.remove()
        if plugged.section is not None:
            self._machine.unregister(plugged.section)
        if plugged.vfio is not None:
            plugged.vfio.close()


def _only_migratable(device: BoardDevice) -> str:
    words = device.blockers[0]
    if words.startswith(_NO_STATE):
        return f"Device {device.type} is not migratable, but --only-migratable was specified"
    return f"disallowing migration blocker (--only-migratable) for: {words}"


def family(device: BoardDevice) -> Iterator[BoardDevice]:
    """Give a device and those that were made with it."""
    yield device
    for child in device.children:
        yield from family(child)
