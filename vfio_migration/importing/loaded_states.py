"""
How long states and configurations took to load: over the main channel, and by threads over multifd channels.

Only a thread says when it begins to load a piece. The main thread's pieces begin at the line before, so that waiting
for what is loaded counts as loading.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vfio_migration.device import CHUNK
from vfio_migration.importing.covered_times import covered_ns
from vfio_migration.importing.findings import Findings, FoundDevice
from vfio_migration.importing.log_reader import LogEvent
from vmstate import NS_PER_SECOND

_ANNOUNCED, _LOADED = "vfio_load_state", "vfio_load_state_device_data"
_CONFIG = "vfio_load_device_config_state"
_BUFFER = "vfio_load_state_device_buffer_load"
_THREAD = "vfio_load_bufs_thread"


@dataclass(frozen=True)
class _Piece:
    """What was loaded at once over the main channel; `begin_ns` is None if nothing says when it began."""

    size: int
    begin_ns: int | None
    end_ns: int
    announced: bool


@dataclass
class _Loads:
    """What a device's lines say."""

    pieces: list[_Piece] = field(default_factory=list)
    buffers: dict[int, tuple[int, int]] = field(default_factory=dict)  # when each packet was loaded, by number
    configs: list[tuple[int, int]] = field(default_factory=list)
    in_thread: bool = False


def find_loading(findings: Findings, events: Iterable[LogEvent], names: Mapping[str, str]) -> None:
    """Find it; `names` gives the name on the source for each on the destination."""
    reader = _Reader()
    for event in events:
        name = names.get(event.fields.get("device", ""), "")
        if name in findings.devices:
            reader.take(name, event)
    spans: list[tuple[int, int]] = []
    sent = {name: _sent_after_stop(findings.devices[name], loads.pieces) for name, loads in reader.loads.items()}
    first = min((each.end_ns for pieces in sent.values() for each in pieces), default=0)
    for name, loads in reader.loads.items():
        device = findings.devices[name]
        device.config_load_ns = sum(end - begin for begin, end in loads.configs)
        # Before the first piece after the stop the destination waited, for as long as the source took to stop.
        timed = [each for each in sent[name] if each.announced or each.end_ns > first]
        main = [(each.begin_ns, each.end_ns) for each in timed if each.begin_ns is not None]
        spans += [*main, *loads.buffers.values(), *loads.configs]
        if loads.buffers:
            _take_buffers(findings, device, loads.buffers)
        elif covered_ns(main) and not loads.in_thread:
            device.write_rate = sum(each.size for each in timed) * NS_PER_SECOND / covered_ns(main)
    findings.loading_ns = covered_ns(spans)
    if any(loads.pieces for loads in reader.loads.values()):
        findings.note(
            "write_rate is from the line that announces data to the one that says that they are loaded: a guess, as "
            "waiting for them is in it"
        )


def _sent_after_stop(device: FoundDevice, pieces: list[_Piece]) -> list[_Piece]:
    """Give the last pieces, of as many bytes as were sent after the stop; all, if nothing says how many that were."""
    if device.state_size is None:
        return pieces
    left, found = device.state_size, list[_Piece]()
    for each in reversed(pieces):
        if left <= 0:
            break
        found.append(each)
        left -= each.size
    return found[::-1]


def _take_buffers(findings: Findings, device: FoundDevice, buffers: Mapping[int, tuple[int, int]]) -> None:
    if device.state_size is None:
        device.state_size = (max(buffers) + 1) * CHUNK
        findings.note(
            f"where nothing else says how large a state is, each packet that was loaded of it is taken for {CHUNK:,} "
            "bytes: a guess; with the rates it gives the times that were logged"
        )
    ns = sum(end - begin for begin, end in buffers.values())
    if ns:
        device.write_rate = device.state_size * NS_PER_SECOND / ns


class _Reader:
    """Takes the lines of loading one after another."""

    def __init__(self) -> None:
        self.loads: dict[str, _Loads] = {}
        self._before: LogEvent | None = None  # the main thread's line before
        self._buffers: dict[tuple[str, int], int] = {}
        self._configs: dict[str, int] = {}

    def take(self, name: str, event: LogEvent) -> None:
        """Take a line of loading this device; any other is passed over."""
        loads = self.loads.setdefault(name, _Loads())
        before = self._before
        if event.name == f"{_THREAD}_start":
            loads.in_thread = True
        elif event.name == f"{_BUFFER}_start":
            self._buffers[name, event.fields["index"]] = event.time_ns
        elif event.name == f"{_BUFFER}_end":
            begin = self._buffers.pop((name, event.fields["index"]), None)
            if begin is not None:
                loads.buffers[event.fields["index"]] = begin, max(begin, event.time_ns)
        elif event.name == _LOADED:
            announced = before is not None and before.name == _ANNOUNCED
            begin = None if before is None else min(before.time_ns, event.time_ns)
            loads.pieces.append(_Piece(event.fields["size"], begin, event.time_ns, announced))
        elif event.name == f"{_CONFIG}_start":
            self._configs[name] = event.time_ns
        elif event.name == f"{_CONFIG}_end":
            begin = self._configs.pop(name, None if before is None or loads.in_thread else before.time_ns)
            if begin is not None:
                loads.configs.append((begin, max(begin, event.time_ns)))
        elif event.name != _ANNOUNCED:
            return
        self._note_before(loads, event)

    def _note_before(self, loads: _Loads, event: LogEvent) -> None:
        if not loads.in_thread or event.name in (_ANNOUNCED, _LOADED):
            self._before = event
