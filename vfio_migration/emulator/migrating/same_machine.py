"""What both sides' machines have to have alike, and what says so (QEMU's `vmstate_configuration`, `ram_load`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from vfio_migration.emulator.devices.ordinary import OrdinarySection
from vfio_migration.emulator.errors import DifferentMachineError
from vfio_migration.errors import StreamError

_ID = "globalstate"
_SIZE = 71_000  # bytes of QEMU's last section, about
_CONFIGURATION = "post load hook failed for: configuration, version_id: 1, minimum_version: 0: "
_UUID = (
    "Loading VM subsection 'configuration/uuid' in 'configuration' failed: post load hook failed for: "
    "configuration/uuid, version_id: 1, minimum_version: 1, ret: -22"
)
_RAM = "error while loading state for instance 0x0 of device 'ram': Failed to load vmstate version_id: 4, ret: -22"
NO_SUCH_SECTION = (
    "Unknown section or instance '{}' 0. Make sure that your current VM setup matches your saved VM setup, including "
    "any hotplugged devices"
)
_SHARED = "x-ignore-shared"
_LONGEST = 255  # characters of a name


@dataclass(frozen=True)
class MachineShape:
    """What a machine is by its command line; its memory is one block, which has a name."""

    machine_type: str
    uuid: str
    ram_block: str
    ram_size: int


class MachineState(OrdinarySection):
    """
    The machine's own part of a stream: what it is, before anything else, and its global state at the end.

    `settings` gives capabilities and parameters of migrations, `vfio_sections` what the sections of VFIO devices are
    called by their places, by ids; both as they are then.
    """

    def __init__(
        self,
        shape: MachineShape,
        settings: Callable[[], tuple[Mapping[str, bool], Mapping[str, Any]]],
        vfio_sections: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        super().__init__(_ID, _SIZE)
        self._shape = shape
        self._settings = settings
        self._vfio_sections = vfio_sections

    def configuration(self) -> bytes:
        """Say what this machine is, and what it migrates by."""
        capabilities, parameters = self._settings()
        shape = self._shape
        said = _Said(
            machine_type=shape.machine_type,
            uuid=shape.uuid if capabilities["validate-uuid"] else None,
            vfio=dict(self._vfio_sections()),
            ram_block=shape.ram_block,
            ram_size=shape.ram_size,
            shared=capabilities[_SHARED],
            postcopy=capabilities["postcopy-ram"],
            compression=parameters["multifd-compression"] if capabilities["multifd"] else None,
        )
        return msgspec.json.encode(said)

    def check_configuration(self, data: bytes) -> None:
        """
        See whether the source's machine is like this one, in the order in which QEMU does.

        Raises:
            DifferentMachineError: it is not; the text and what is printed are QEMU's.
            StreamError: this is no such thing.

        """
        said = _read(data)
        theirs = MachineShape(said.machine_type, said.uuid or self._shape.uuid, said.ram_block, said.ram_size)
        capabilities, parameters = self._settings()
        self._compare_machines(theirs)
        ours = capabilities[_SHARED]
        if said.shared != ours:
            printed = f"Capability {_SHARED} is {_switch(ours)}, but received capability is {_switch(said.shared)}"
            raise DifferentMachineError(f"{_CONFIGURATION}Failed to validate capabilities", printed)
        if said.postcopy and not capabilities["postcopy-ram"]:
            raise DifferentMachineError("RAM postcopy is disabled but have 16 byte advise")
        self._compare_memory(theirs)
        self._compare_vfio(said.vfio)
        if said.compression is not None and said.compression != parameters["multifd-compression"]:
            raise DifferentMachineError(
                f"multifd-compression is {said.compression} at the source and {parameters['multifd-compression']} here"
            )

    def _compare_machines(self, theirs: MachineShape) -> None:
        ours = self._shape
        if theirs.uuid != ours.uuid:
            raise DifferentMachineError(_UUID, f"UUID received is {theirs.uuid} and local is {ours.uuid}")
        if theirs.machine_type != ours.machine_type:
            raise DifferentMachineError(
                f"{_CONFIGURATION}Machine type received is '{theirs.machine_type}' and local is '{ours.machine_type}'"
            )

    def _compare_memory(self, theirs: MachineShape) -> None:
        ours = self._shape
        if theirs.ram_block != ours.ram_block:
            raise DifferentMachineError(_RAM, f'Unknown ramblock "{theirs.ram_block}", cannot accept migration')
        if theirs.ram_size != ours.ram_size:
            sizes = f"{theirs.ram_size:#x} != {ours.ram_size:#x}"
            raise DifferentMachineError(_RAM, f"Size mismatch: {ours.ram_block}: {sizes}: Invalid argument")

    def _compare_vfio(self, theirs: Mapping[str, str]) -> None:
        """QEMU pairs these by their places alone; here ids have to agree too, by which all else knows them."""
        ours = self._vfio_sections()
        for name, section in theirs.items():
            if ours.get(name) == section:
                continue
            other = next((each for each in ours if ours[each] == section), None)
            if other is not None:
                raise DifferentMachineError(
                    f"{section} is {name!r} at the source and {other!r} here: give VFIO devices the same ids"
                )
            raise DifferentMachineError(NO_SUCH_SECTION.format(section))


class _Said(msgspec.Struct):
    """A configuration, as it is sent."""

    machine_type: str
    uuid: str | None
    vfio: dict[str, str]
    ram_block: str
    ram_size: int
    shared: bool
    postcopy: bool
    compression: str | None


def _read(data: bytes) -> _Said:
    try:
        said = msgspec.json.decode(data, type=_Said)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StreamError(f"the configuration of a machine cannot be read: {error}") from error
    names = (said.machine_type, said.uuid, said.ram_block, said.compression, *said.vfio, *said.vfio.values())
    for each in names:  # what is no name is not printed as one: it may be anything
        if each is not None and (len(each) > _LONGEST or not each.isprintable()):
            raise StreamError(f"the configuration of a machine cannot be read: {each[:_LONGEST]!r} is no name")
    return said


def _switch(state: object) -> str:
    return "on" if state else "off"
