"""Reads the logs that QEMU's `-trace` writes: events with their times, of those that tell of a switchover."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vfio_migration.device import DeviceState
from vfio_migration.errors import LogImportError
from vfio_migration.recorded import FORMATS, format_timestamp

SWITCHES = (
    "-trace 'vfio_migration_set_*' -trace 'vfio_vmstate_change*' -trace vm_state_notify -trace runstate_set "
    "-trace vmstate_downtime_checkpoint -trace 'vfio_save_complete_precopy*' -trace 'migrat*_set_state' "
    "-msg timestamp=on -D FILE"
)
# Threads take the time before they write, so neighbouring lines may stand in the wrong order by a little.
TOLERANCE_NS = 100_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LINE = re.compile(
    r"(?:(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6})Z |\d{1,10}@(?P<s>\d{1,11})\.(?P<us>\d{6}):)?"
    r"(?P<event>\w+)(?: (?P<arguments>.*))?",
    re.ASCII,
)
_ARGUMENT = re.compile(r"%\((\w+)\)([sd])")
_STATE_FIELDS = {
    "vfio_migration_set_state": "new_state",
    "vfio_migration_set_device_state": "state",
    "vfio_vmstate_change": "dev_state",
    "vfio_vmstate_change_prepare": "dev_state",
}
# Of ours, with arguments that an import has no use for.
_PASSED_OVER = re.compile(r"vfio_(arc|change|join)_(begin|end)")


@dataclass(frozen=True, slots=True)
class LogEvent:
    """
    An event of a log: its line, its time and that of the line before (None: there is none), its fields.

    Device states are `DeviceState`s, other fields what was printed, numbers as such.
    """

    line: int
    time_ns: int
    before_ns: int | None
    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class QemuLog:
    """What was read of a log: its events, how many lines it has, and how many of them say nothing known."""

    name: str
    events: tuple[LogEvent, ...]
    lines: int
    unknown: int


def read_log(path: str | Path) -> QemuLog:
    """
    Read a log of QEMU's `-trace`, with `-msg timestamp=on` or the older prefix `PID@SECONDS.MICROSECONDS:`.

    Raises:
        LogImportError: it cannot be read, has no timestamps, or its timestamps run backwards.

    """
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as lines:  # noqa: PTH123 - str or Path
            return parse_log(lines, str(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LogImportError(f"{path}: cannot be read ({reason}); expected a log that QEMU wrote") from error


def parse_log(lines: Iterable[str], name: str) -> QemuLog:
    """Read a log's lines; `name` stands for it in errors. Raises as `read_log`."""
    events: list[LogEvent] = []
    number = unknown = 0
    latest: int | None = None  # time of the lines so far
    timeless: int | None = None  # the first line of a known event without a timestamp
    for number, raw in enumerate(lines, start=1):
        line = raw.rstrip("\r\n")
        match = _LINE.fullmatch(line)
        time_ns = None if match is None else _time_ns(match)
        before = latest
        if time_ns is not None:
            if latest is not None and time_ns < latest - TOLERANCE_NS:
                raise LogImportError(
                    f"{name}, line {number}: timestamps run backwards, from {format_timestamp(latest)} to "
                    f"{format_timestamp(time_ns)}: expected the log of one QEMU, in order, by a clock that nobody set"
                )
            latest = time_ns if latest is None else max(latest, time_ns)
        fields = None if match is None else _fields(match["event"], match["arguments"] or "")
        if fields is not None and match is not None and latest is not None and time_ns is not None:
            events.append(LogEvent(number, latest, before, match["event"], fields))
            continue
        if fields is not None and timeless is None and match is not None and match["iso"] is None:
            timeless = number
        if line.strip() and not (match is not None and _PASSED_OVER.fullmatch(match["event"])):
            unknown += 1
    if timeless is not None and not events:
        raise LogImportError(
            f"{name}, line {timeless}: the events have no timestamps, so nothing says what took how long: "
            "expected a log written with `-msg timestamp=on`"
        )
    return QemuLog(name, tuple(events), number, unknown)


def _time_ns(match: re.Match[str]) -> int | None:
    if match["s"] is not None:
        return (int(match["s"]) * 1_000_000 + int(match["us"])) * 1000
    if match["iso"] is None:
        return None
    try:
        moment = datetime.fromisoformat(match["iso"]).replace(tzinfo=UTC)
    except ValueError:
        return None  # no date of any calendar
    return (moment - _EPOCH) // _MICROSECOND * 1000


def _pattern(template: str) -> re.Pattern[str]:
    parts = _ARGUMENT.split(template.strip())
    pattern = re.escape(parts[0])
    for name, kind, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        value = r"-?\d{1,18}" if kind == "d" else (".+?" if name == "name" else ".*?")
        pattern += f"(?P<{name}>{value}){re.escape(literal)}"
    return re.compile(pattern, re.ASCII)


_PATTERNS = {name: _pattern(template) for name, template in FORMATS.items()}
_NUMBERS = {
    name: frozenset(field for field, kind in _ARGUMENT.findall(template) if kind == "d")
    for name, template in FORMATS.items()
}


def _fields(event: str, arguments: str) -> dict[str, Any] | None:
    """Take a known event's arguments apart; None: it is not known, or not in its format."""
    pattern = _PATTERNS.get(event)
    match = None if pattern is None else pattern.fullmatch(arguments.strip())
    if match is None:
        return None
    numbers = _NUMBERS[event]
    fields: dict[str, Any] = {key: int(value) if key in numbers else value for key, value in match.groupdict().items()}
    state = _STATE_FIELDS.get(event)
    if state is not None:
        if fields[state] not in DeviceState.__members__:
            return None
        fields[state] = DeviceState[fields[state]]
    return fields
