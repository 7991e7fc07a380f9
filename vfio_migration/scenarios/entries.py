"""What the tables of a scenario file may hold: the keys, their types and what they are if they are left out."""

from typing import Any, Literal

import msgspec


class TreeDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device of `[tree]`, where that is written out; several that are alike with `ids`, as `nic{0..7}`."""

    bus: str
    id: str = ""
    ids: str = ""
    type: str = ""
    buses: tuple[str, ...] = ()


class TreeEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[tree]`: the path of a file with what `info qtree` prints, or the devices."""

    qtree: str | None = None
    devices: tuple[TreeDevice, ...] = ()


class VFIOEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[vfio]]`: which devices of the tree, and what each of them is like; seconds, bytes, bytes per second."""

    devices: str
    p2p: bool = True
    precopy: bool = True
    parallel: bool = True
    threads: Literal["per-change", "parked"] = "per-change"
    events: bool = False
    latency: dict[str, Any] = {}
    state_size: int = 65536
    rate: float | None = None
    write_rate: float | None = None
    config_load: float = 0.0
    precopy_size: int = 4096
    precopy_dirty: tuple[int, ...] = (2048, 1024)
    initial_size: int = 0
    multifd: bool | Literal["auto"] = "auto"
    contents: Literal["sizes", "bytes"] = "sizes"
    seed: int = 0


class HandlerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[handlers]]`: where ordinary handlers are, and what they take, in seconds."""

    devices: str | None = None
    types: str | None = None
    priority: int | None = None
    name: str = ""
    stop: float = 0.0
    start: float = 0.0
    prepare_stop: float = 0.0
    prepare_start: float = 0.0


class PhasesEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[phases]`, in seconds: what the switchover takes beside devices and handlers; each launch and join."""

    pause_vcpus_s: float = 0.0
    flush_block_s: float = 0.0
    final_query_s: float = 0.0
    other_state_s: float = 0.0
    load_state_s: float = 0.0
    activate_block_s: float = 0.0
    launch_s: float = 0.0
    join_s: float = 0.0


class RamEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[ram]`: bytes of memory, and bytes per second that a guest dirties while it runs."""

    size: int
    dirty_rate: float = 0.0


class LinkEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[link]`: bytes per second, seconds."""

    bandwidth: float
    latency_s: float = 0.0


class ParametersEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[parameters]`: those of the migration, as in `MigrationParameters`."""

    downtime_limit_s: float = 0.3
    max_bandwidth: float | None = None
    switchover_bandwidth: float | None = None
    multifd_channels: int = 0
    return_path: bool = False
    switchover_ack: bool = False


class WatchdogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[watchdog]`, in seconds."""

    warn_after: float | None = None
    give_up_after: float | None = None


class FaultEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[faults]]`: what is to go wrong, where, and how often."""

    device: str
    at: str
    side: Literal["source", "destination"] = "source"
    kind: Literal["fail", "into-error", "stall", "short", "altered", "cut"] = "fail"
    errno: str = "EIO"
    times: int = 1
    probability: float | None = None
    seed: int = 0
    seconds: float | None = None


class ScenarioFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file."""

    tree: TreeEntry
    vfio: tuple[VFIOEntry, ...]
    description: str = ""
    strategy: str = "depths"
    handlers: tuple[HandlerEntry, ...] = ()
    ram: RamEntry | None = None
    link: LinkEntry | None = None
    parameters: ParametersEntry = ParametersEntry()
    phases: PhasesEntry = PhasesEntry()
    watchdog: WatchdogEntry = WatchdogEntry()
    faults: tuple[FaultEntry, ...] = ()
