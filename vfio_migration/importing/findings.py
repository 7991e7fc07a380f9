"""What an import has found out so far: devices, ordinary handlers, and what to say about them."""

from dataclasses import dataclass, field

from vfio_migration.device import DeviceState, MigrationFlags

_MOST_OF_A_KIND = 8  # notes that differ in lines and devices only
UNKNOWN_DEPTH = 2  # that of a device on pcie.0

Arc = tuple[DeviceState, DeviceState]


@dataclass
class FoundDevice:
    """What the logs say of a device; times in nanoseconds."""

    name: str
    flags: MigrationFlags = MigrationFlags.STOP_COPY
    depth: int = UNKNOWN_DEPTH
    type: str = "vfio-pci"
    arcs: dict[Arc, int] = field(default_factory=dict)
    samples: dict[Arc, list[int]] = field(default_factory=dict)  # of several migrations, for those of `arcs` that have
    transfer_ns: int = 0
    parallel: bool = True  # as far as known: whether it changes in a thread of its own
    state_size: int | None = None  # bytes, and bytes per second: None where no line says so
    write_rate: float | None = None
    config_load_ns: int = 0
    in_thread: bool = False  # whether a thread of its own saved it, over multifd channels
    in_tree: bool | None = None  # what the tree says of x-migration-parallel-states; None: nothing

    @property
    def p2p(self) -> bool:
        """Whether it has the P2P states."""
        return MigrationFlags.P2P in self.flags

    @property
    def precopy(self) -> bool:
        """Whether it can be saved while it runs."""
        return MigrationFlags.PRE_COPY in self.flags

    def take(self, arc: Arc, ns: int) -> None:
        """Have an arc take so much longer."""
        self.arcs[arc] = self.arcs.get(arc, 0) + ns


@dataclass
class Findings:
    """
    What the parts of an import share and add to, one after another, in one thread.

    `handlers` are the ordinary ones, by name, depth and priority (None: any at that depth): times in nanoseconds by
    the scenario's keys.
    """

    devices: dict[str, FoundDevice] = field(default_factory=dict)
    handlers: dict[tuple[str, int, int | None], dict[str, int]] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)  # nanoseconds, by the scenario's keys
    notes: list[str] = field(default_factory=list)
    ram_size: int | None = None  # bytes; None: nothing says so, as below
    dirty_rate: float | None = None
    link: dict[str, float] = field(default_factory=dict)  # by the scenario's keys
    channels: int = 0  # for multifd
    loading_ns: int = 0  # in which the destination loaded something, as far as its lines say
    parameters: dict[str, float | bool] = field(default_factory=dict)
    with_sizes: bool = True  # whether the above, and loading, are written
    one_clock: bool = False  # whether the times of both logs are taken to be by the same clock
    overlapping: bool = False  # whether devices changed at the same time
    _counts: dict[str, int] = field(default_factory=dict)
    depths_unknown: bool = False  # whether nothing has said yet how deep devices are

    def add_handler(self, name: str, depth: int, priority: int | None, key: str, ns: int) -> None:
        """Have a handler take so much longer in one of its callbacks."""
        if ns > 0:
            times = self.handlers.setdefault((name, depth, priority), {})
            times[key] = times.get(key, 0) + ns

    def add_phase(self, name: str, ns: int) -> None:
        """Have a part of the switchover take so much longer that is no device's and no handler's."""
        if ns > 0:
            self.phases[name] = self.phases.get(name, 0) + ns

    def note(self, note: str, kind: str = "") -> None:
        """Say something once; of a kind of which there may be one for each line, a few and how many more."""
        if kind:
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            if count > _MOST_OF_A_KIND:
                return
        if note not in self.notes:
            self.notes.append(note)

    def all_notes(self) -> tuple[str, ...]:
        """Give the notes, and how many of a kind were left out."""
        left = {kind: count - _MOST_OF_A_KIND for kind, count in self._counts.items()}
        return (*self.notes, *(f"{count:,} more: {kind}" for kind, count in left.items() if count > 0))
