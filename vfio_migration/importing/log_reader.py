"""
Reads the logs that QEMU's `-trace` writes: events with their times, of those that tell of a switchover.

A log is read once, a block at a time, and nothing of it is kept but counts: it may be of any length. Most lines of most
logs are none of ours, so what tells that is a search for a few words; and lines that are repeat each other but for the
time, so arguments that were taken apart are kept for when they come again.
"""

import re
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vfio_migration.errors import LogImportError
from vfio_migration.importing.event_forms import DONE, FORMS, MARK, MARKS, PASSED_OVER, PROTOCOL_V1, Fields
from vfio_migration.importing.line_prefixes import find_event, iso_ns
from vfio_migration.inputs import check_input, reason
from vfio_migration.recorded import format_timestamp

SWITCHES = (
    "-trace 'vfio_migration_set_*' -trace 'vfio_vmstate_change*' -trace vm_state_notify -trace runstate_set "
    "-trace vmstate_downtime_checkpoint -trace 'vfio_save_complete_precopy*' -trace 'migrat*_set_state' "
    "-msg timestamp=on -D FILE"
)
# Lines of one device are written in their order, by threads that follow one another.
TOLERANCE_NS = 100_000
# Lines of several threads are not: each takes the time, then waits for the log. More is a clock that was set.
_FURTHEST_BACK_NS = 1_000_000_000
_BLOCK = 1 << 20
_LONGEST_LINE = 1 << 16  # bytes that are kept of a line that is longer than a block
_REMEMBERED = 4096  # arguments and minutes that may come again
_SHOWN = 60
_OF_OURS = re.compile(r"[ :]vfio_(?:(?:arc|change|join)_(?:begin|end)|load_bufs_thread_(?:start|end)) ")
_BEGINNINGS = frozenset(name[:8] for name in (*FORMS, *PASSED_OVER))
_SIMPLETRACE = re.compile(r"-?\d+\.\d{3} pid=\d+( |$)")


class LogEvent(NamedTuple):
    """
    An event of a log: its line, its own time, its fields.

    Device states are `DeviceState`s, other fields what was printed. Names are QEMU's, but for DONE and MARK.
    """

    line: int
    time_ns: int
    name: str
    fields: Fields


class QemuLog:
    """
    A log, to be iterated over once; what it holds beside its events is known then.

    `lines` and `unknown` count all lines and those that say nothing known; `odd` says of each known event that had a
    form or a place that is not known how often, and in which line first; `back_ns` is how far times ran back.
    """

    def __init__(self, name: str, blocks: Iterable[list[str]]) -> None:
        self.name = name
        self.lines = 0
        self.unknown = 0
        self.back_ns = 0
        self._blocks = blocks
        self._odd: dict[tuple[str, str], list[Any]] = {}  # how often, where first, what stands there
        self._arguments: dict[tuple[str, str], Fields | None] = {}
        self._minutes: dict[str, int | None] = {}
        self._latest: dict[str, int] = {}  # by device; "" is everything
        self._events = 0

    @property
    def odd(self) -> tuple[str, ...]:
        """What is wrong with known events, a sentence each."""
        return tuple(
            f"{self.name}, line {line}: {event} {what}, {count:,} of them, first {text!r}: they are left out"
            for (event, what), (count, line, text) in self._odd.items()
        )

    def close(self) -> None:
        """Let go of the file, where it was not read to its end: when nobody refers to it any more may be late."""
        if isinstance(self._blocks, Generator):
            self._blocks.close()

    def __iter__(self) -> Iterator[LogEvent]:
        """
        Read it.

        Raises:
            LogImportError: it has no timestamps, they run backwards, or it is none of QEMU's logs of a protocol v2.

        """
        number = unknown = 0
        for block in self._blocks:
            for line in block:
                number += 1
                if line[26:28] == "Z ":
                    # QEMU's own time: what follows tells at once whether it is one of the few.
                    if line[28:36] not in _BEGINNINGS and line[28:29].isalpha() and line[28:31] != "std":
                        unknown += 1
                        continue
                elif not (
                    # All names that are known have one of these in them, and few others do.
                    "state" in line
                    or "_precopy" in line
                    or "virtio_set" in line
                    or "handler_" in line
                    or "migration_" in line
                    or "vfio_save_b" in line
                    or "vfio_query_s" in line
                    or "migrate_t" in line
                    or "savevm_section_" in line
                    or "multifd_send_" in line
                    or ("vfio_" in line and _OF_OURS.search(line))
                ):
                    unknown += bool(line) and not line.isspace()
                    continue
                event = self._event(number, line)
                if event is not None:
                    yield event
            self.unknown += unknown
            unknown = 0
            self.lines = number
        if self._odd and not self._events:
            self._refuse_timeless()

    def _event(self, number: int, line: str) -> LogEvent | None:
        """Read a line in which something known may stand; the usual form of it is told by its place."""
        if line[26:28] == "Z ":
            name, _, arguments = line[28:].partition(" ")
            time_ns = self._time(line)
        else:
            stamp, _, rest = line.partition(":")
            name, _, arguments = rest.partition(" ")
            time_ns = _old_time(stamp)
        if name not in FORMS:
            if name in PASSED_OVER:
                return None
            if time_ns is not None and "_" in name:
                self.unknown += 1
                return None
            time_ns = None
        if time_ns is None:
            found = find_event(line)
            if found is None:
                self.unknown += bool(line) and not line.isspace() and not any(each in line for each in PASSED_OVER)
                return None
            name, arguments, time_ns = found.event, found.arguments, found.time_ns
            if time_ns is None:
                self._timeless(number, name, arguments, found.before)
                return None
        return self._known(number, time_ns, name, arguments)

    def _known(self, number: int, time_ns: int, name: str, arguments: str) -> LogEvent | None:
        key = name, arguments
        fields = self._arguments.get(key, _UNREAD)
        if fields is _UNREAD:
            if len(self._arguments) >= _REMEMBERED:
                self._arguments.clear()
                self._latest = {"": self._latest.get("", time_ns)}  # as many devices as there are arguments at most
            fields = self._arguments[key] = FORMS[name](arguments.strip())
        if fields is None:
            self._refuse_simpletrace(number, arguments)
            self._note_odd(number, name, "in a form that is not known here", f"{name} {arguments.strip()}")
            return None
        if PROTOCOL_V1 in fields:
            raise LogImportError(
                f"{self.name}, line {number}: {name} has a number for a state: VFIO migration protocol v1 "
                "(QEMU before 8.0), not supported"
            )
        self._check_order(number, time_ns, fields.get("name", ""))
        self._events += 1
        return LogEvent(number, time_ns, DONE if DONE in fields else MARK if name in MARKS else name, fields)

    def _check_order(self, number: int, time_ns: int, device: str) -> None:
        """See how far a time runs back, behind the device's own and behind all."""
        latest = self._latest
        highest = latest.get("", time_ns)
        own = latest.get(device, time_ns) if device else time_ns
        if time_ns >= highest and time_ns >= own:  # as nearly always
            latest[""] = latest[device] = time_ns
            return
        if time_ns < own - TOLERANCE_NS or time_ns < highest - _FURTHEST_BACK_NS:
            what = "all lines so far" if own - TOLERANCE_NS <= time_ns else f"the lines of {device!r}"
            raise LogImportError(
                f"{self.name}, line {number}: timestamps run backwards, from {format_timestamp(max(own, highest))} to "
                f"{format_timestamp(time_ns)} ({what}): expected the log of one QEMU, in order, by a clock that "
                "nobody set"
            )
        self.back_ns = max(self.back_ns, highest - time_ns)
        latest[""] = max(highest, time_ns)
        if device:
            latest[device] = max(own, time_ns)

    def _time(self, line: str) -> int | None:
        minute = line[:17]
        start_ns = self._minutes.get(minute)
        if start_ns is None:
            if len(self._minutes) >= _REMEMBERED:
                self._minutes.clear()
            start_ns = self._minutes[minute] = iso_ns(line[:10], f"{line[11:17]}00", "000000")
        try:
            return None if start_ns is None else start_ns + int(line[17:19] + line[20:26]) * 1000
        except ValueError:
            return None

    def _timeless(self, number: int, name: str, arguments: str, before: str) -> None:
        self._refuse_simpletrace(number, arguments)
        if FORMS[name](arguments.strip()) is None:
            self.unknown += 1  # a word like that in somebody's sentence
            return
        self._note_odd(number, name, "without a time", f"{before[:_SHOWN]}{name}")

    def _note_odd(self, number: int, name: str, what: str, text: str) -> None:
        self.unknown += 1
        self._odd.setdefault((name, what), [0, number, text[:_SHOWN]])[0] += 1

    def _refuse_simpletrace(self, number: int, arguments: str) -> None:
        if _SIMPLETRACE.match(arguments.lstrip()):
            raise LogImportError(
                f"{self.name}, line {number}: this is what simpletrace.py prints of a binary trace, which has no names "
                "of states that could be relied on and no times but differences; expected the log backend: "
                f"QEMU with {SWITCHES}"
            )

    def _refuse_timeless(self) -> None:
        first = next((each for (_, what), each in self._odd.items() if what == "without a time"), None)
        if first is not None:
            raise LogImportError(
                f"{self.name}, line {first[1]}: the events have no timestamps, so nothing says what took how long "
                f"({first[2]!r}): expected a log written with `-msg timestamp=on`"
            )


_UNREAD: Any = object()


def read_log(path: str | Path) -> QemuLog:
    """
    Give a log of QEMU's `-trace`, with `-msg timestamp=on` or the older prefix `PID@SECONDS.MICROSECONDS:`.

    Iterating over it raises LogImportError if it cannot be read.
    """
    return QemuLog(str(path), _blocks(path))


def parse_log(lines: Iterable[str], name: str) -> QemuLog:
    """Give a log of lines that are there already; `name` stands for it in errors."""
    return QemuLog(name, ([line.rstrip("\r\n")] for line in lines))


def _blocks(path: str | Path) -> Iterator[list[str]]:
    """Read a file as lists of lines, in constant memory whatever their length."""
    try:
        check_input(path)
        with open(path, "rb") as file:  # noqa: PTH123 - str or Path
            rest = b"" if (head := file.read(3)) == b"\xef\xbb\xbf" else head
            while block := file.read(_BLOCK):
                whole, newline, left = block.rpartition(b"\n")
                if not newline:
                    # One long line, so far: what it begins with is enough.
                    rest = (rest + left)[:_LONGEST_LINE]
                    continue
                text = (rest + whole).decode("utf-8", "replace")
                rest = left
                yield (text.replace("\r", "") if "\r" in text else text).split("\n")
            if rest:
                yield [rest[:_LONGEST_LINE].decode("utf-8", "replace").rstrip("\r")]
    except (OSError, ValueError) as error:
        raise LogImportError(f"{path}: cannot be read ({reason(error)}); expected a log that QEMU wrote") from error


def _old_time(stamp: str) -> int | None:
    """Read `PID@SECONDS.MICROSECONDS`."""
    pid, at, moment = stamp.partition("@")
    seconds, dot, micros = moment.partition(".")
    if not (at and dot and pid.isdecimal() and len(micros) == 6 and len(seconds) <= 11):  # noqa: PLR2004 - digits
        return None
    try:
        return int(seconds + micros) * 1000
    except ValueError:
        return None
