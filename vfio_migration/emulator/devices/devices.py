"""What a monitor asks of a machine's devices, wherever they come from."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vfio_migration.emulator.board import BoardDevice, QomObject


class Devices(Protocol):
    """Devices that can be plugged and unplugged; under the machine's big lock."""

    @property
    def blockers(self) -> Sequence[str]:
        """What keeps the machine from being migrated, in QEMU's words."""
        ...

    def refresh(self) -> None:
        """Have the board show what the machine has by now."""
        ...

    def with_faults(self, path: str) -> QomObject | None:
        """Give a device whose faults can be asked for and set without the big lock; None: ask the board."""
        ...

    def check_unplug(self, name: str) -> None:
        """Raise QmpError if a device could not be taken out, whatever goes on."""
        ...

    def plug(self, options: Mapping[str, Any], *, hotplugged: bool = False, typed: bool = False) -> BoardDevice:
        """Plug a device in, all or nothing; `typed`: options are JSON, where a number is no text. Raises QmpError."""
        ...

    def request_unplug(self, name: str) -> list[BoardDevice]:
        """Take a device out now, and give what is gone: nothing if it waits for a guest or a reset. Raises QmpError."""
        ...

    def complete_unplugs(self) -> list[BoardDevice]:
        """Take out what has waited."""
        ...
