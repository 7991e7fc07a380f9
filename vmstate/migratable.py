"""What migrates with a machine: the protocol of its registry (QEMU's savevm entries)."""

from enum import IntEnum
from typing import Protocol


class MigrationEvent(IntEnum):
    """What notifiers are told; the numbers are those of QEMU's trace event `migration_call_notifiers`."""

    SETUP = 0
    DONE = 2
    FAILED = 3


class SaveStream(Protocol):
    """Where a section's bytes go."""

    def write(self, data: bytes) -> None:
        """Append bytes to the section that is open."""
        ...

    @property
    def budget(self) -> int | None:
        """How many bytes the iteration under way may still send; None: no limit."""
        ...

    def carry(self, size: int) -> None:
        """Wait as long as so many bytes take on their way out; to be called before they are appended."""
        ...

    def stand_for(self, size: int) -> None:
        """Count so many bytes more that were not appended, but for which something appended stands."""
        ...


class LoadStream(Protocol):
    """Where a section's bytes come from."""

    @property
    def offset(self) -> int:
        """How many bytes of the stream were read so far."""
        ...

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes; raises if the stream ends before that."""
        ...

    def acknowledge(self, name: str) -> None:
        """Tell the source that what it sent of this before its stop has arrived, where it waits for that."""
        ...


class Migratable(Protocol):
    """
    Something that has state to migrate.

    On the source: `save_setup`, any number of `save_iterate` while `pending` says that there is something
    to send, `save_complete` and `save_state` once the machine has stopped, `save_cleanup` at the end of a
    migration that completed. On the destination: `load_setup`, `load` for each section, `load_complete` before the
    machine may run, `load_cleanup` if the migration failed. Whatever they raise fails the migration.

    Optional, and asked for by name: `state_only`, whether it has a section of what is only sent once, and no other;
    `begin_precopy()`, called when the set-up is over; `pending_exact()`, how many
    bytes would have to be sent if the machine were stopped now; `has_to_iterate`, whether `save_iterate` is to be
    called though nothing is pending; `begin_saving()`, called once the machine has stopped, before anything is
    saved; and `configuration()`, at most 65,535 bytes that are sent before all else, and on the other side, before
    anything there gets ready, `check_configuration(bytes)`, which raises if both do not go together (QEMU's
    `vmstate_configuration`).
    """

    @property
    def id(self) -> str:
        """Pairs it with its counterpart on the other side."""
        ...

    def save_setup(self, stream: SaveStream) -> None:
        """Get ready to send while the machine still runs."""
        ...

    def pending(self) -> int:
        """How many bytes could be sent now, before the machine stops."""
        ...

    def save_iterate(self, stream: SaveStream) -> int:
        """Send some of them; says how many bytes of state that were, 0 if there are none for now."""
        ...

    def save_complete(self, stream: SaveStream) -> None:
        """Send all that is left, now that the machine has stopped (QEMU's iterable state)."""
        ...

    def save_state(self, stream: SaveStream) -> None:
        """Send what is only sent once (QEMU's non-iterable state)."""
        ...

    def save_cleanup(self) -> None:
        """Let go of what saving needed; must not raise."""
        ...

    def load_setup(self) -> None:
        """Get ready to receive."""
        ...

    def load(self, stream: LoadStream) -> None:
        """Read one section."""
        ...

    def load_complete(self) -> None:
        """Raise unless everything that is needed to run has arrived, and is still there; may be asked again."""
        ...

    def load_cleanup(self) -> None:
        """Forget what was loaded; must not raise."""
        ...

    def notify(self, event: MigrationEvent) -> None:
        """Hear how the migration of the machine that sends goes on; what it raises changes nothing."""
        ...

    def reset(self) -> None:
        """Be reset with the machine (QEMU's `system_reset`), whatever is going on; must not raise."""
        ...


class Attempt(Protocol):
    """
    A migration under way, as the machine that sends or receives knows it.

    Optional, and asked for by name: `over`, whether it only has its end to tell. Who hears of that may have the machine
    migrate again at once.
    """

    @property
    def out_of_hand(self) -> bool:
        """Whether another machine may be running with this one's state, and nobody knows yet."""
        ...

    def note_error(self, error: BaseException) -> None:
        """Note what went wrong; safe from any thread, the first one counts."""
        ...

    def keep_error(self, error: BaseException) -> None:
        """Keep what an embedder's code raised, which changes nothing, until the migration is over."""
        ...
