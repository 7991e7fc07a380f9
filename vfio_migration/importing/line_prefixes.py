"""
What stands before an event in a line: QEMU's own time, or that of whatever kept the log.

QEMU writes `2026-11-23T18:09:25.305274Z EVENT` or `PID@SECONDS.MICROSECONDS:EVENT`. A journal, syslog, ftrace, a
container's log, `kubectl --timestamps`, `grep -n` or a mail's `> ` put something before that, and some of them replace
it. Where no time to the microsecond stands in a line, it is of no use.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from vfio_migration.importing.event_forms import FORMS

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NS = 1_000_000_000
_EVENT = re.compile(rf"(?<![\w(.-])(?:{'|'.join(sorted(FORMS, key=len, reverse=True))})(?![\w.-])")
_OWN = re.compile(r"(?<![\d.])\d{1,10}@(?P<s>\d{1,11})\.(?P<us>\d{6}):\s*", re.ASCII)
# Both with an event behind it, as quick to find as the sign in it.
_ISO_EVENT = re.compile(r"\.(?P<us>\d{6})Z (?P<event>\w+)", re.ASCII)
_OWN_EVENT = re.compile(r"@(?P<s>\d{1,11})\.(?P<us>\d{6}):(?P<event>\w+)", re.ASCII)
_ISO = re.compile(
    r"(?<!\d)(?P<day>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)[.,](?P<us>\d{6})\d{0,3} ?(?P<zone>Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_MONTH = re.compile(
    r"(?<!\w)(?P<day>[A-Z][a-z]{2} {1,2}\d{1,2}) (?P<time>\d\d:\d\d:\d\d)\.(?P<us>\d{6})(?!\d)", re.ASCII
)
_SINCE_BOOT = re.compile(r"(?<![\w.:@-])(?P<s>\d{1,9})\.(?P<us>\d{6})(?=[\]:])", re.ASCII)
_JSON_TEXTS = ("log", "message", "MESSAGE", "msg")
_JSON_TIMES = ("time", "timestamp", "@timestamp", "ts")
_LONGEST_PREFIX = 512  # characters in which a time is looked for


class Found(NamedTuple):
    """An event in a line: its name, its arguments, its time (None: there is none), and what stands before it."""

    event: str
    arguments: str
    time_ns: int | None
    before: str


def find_event(line: str) -> Found | None:
    """Find the first known event in a line, wherever it stands, and the time that stands nearest before it."""
    own = _OWN_EVENT.search(line)
    if own is not None and own["event"] in FORMS and not line.rstrip().endswith("}"):
        return Found(own["event"], line[own.end() :], _counted(own), line[: own.start()])
    iso = _ISO_EVENT.search(line)
    if iso is not None and iso["event"] in FORMS and not line.rstrip().endswith("}"):
        moment = line[iso.start() - 19 : iso.start()]
        time_ns = iso_ns(moment[:10], moment[11:], iso["us"])
        if time_ns is not None:
            return Found(iso["event"], line[iso.end() :], time_ns, line[: iso.start()])
    text, time_text = _unwrapped(line)
    match = _EVENT.search(text)
    if match is None:
        return None
    before = text[max(0, match.start() - _LONGEST_PREFIX) : match.start()]
    time_ns = _time(before)
    if time_ns is None and time_text:
        time_ns = _time(time_text)
    return Found(match[0], text[match.end() :], time_ns, before)


def iso_ns(day: str, time: str, us: str, zone: str = "Z") -> int | None:
    """Give the nanoseconds of a date and a time since 1970; None if no calendar has it."""
    second_ns = _second_ns(day, time, zone)
    return None if second_ns is None else second_ns + int(us) * 1000


@lru_cache(maxsize=64)
def _second_ns(day: str, time: str, zone: str) -> int | None:
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{zone}")
    except ValueError:
        return None
    return (moment - _EPOCH) // _MICROSECOND * 1000


def _unwrapped(line: str) -> tuple[str, str]:
    """Take a line out of a JSON object of a container's log or a journal; with the time beside it."""
    start = line.find("{")
    if start < 0 or not line.rstrip().endswith("}"):
        return line, ""
    try:
        entry = json.loads(line[start:])
    except (ValueError, RecursionError):
        return line, ""
    texts = [entry[key] for key in _JSON_TEXTS if isinstance(entry.get(key), str)]
    if not texts:
        return line, ""
    micros = entry.get("__REALTIME_TIMESTAMP")
    if isinstance(micros, str) and micros.isdecimal() and len(micros) < len("9999999999999999999"):
        return texts[0], f"0@{int(micros) // 1_000_000}.{int(micros) % 1_000_000:06}:"
    return texts[0], next((entry[key] for key in _JSON_TIMES if isinstance(entry.get(key), str)), "")


def _time(before: str) -> int | None:
    """Give the time that stands in a text: QEMU's own if it is there, else the last of the first kind that is."""
    for pattern, value in _KINDS:
        matches = list(pattern.finditer(before))
        if matches:
            return value(matches[-1])
    return None


def _counted(match: re.Match[str]) -> int:
    return int(match["s"]) * _NS + int(match["us"]) * 1000


def _of_iso(match: re.Match[str]) -> int | None:
    return iso_ns(match["day"], match["time"], match["us"], match["zone"] or "Z")


def _of_month(match: re.Match[str]) -> int | None:
    try:  # the year is not said, and only differences matter; this one has a 29th of February
        day = datetime.strptime(f"2000 {match['day']}", "%Y %b %d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return iso_ns(day.strftime("%Y-%m-%d"), match["time"], match["us"])


_KINDS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], int | None]], ...] = (
    (_OWN, _counted),
    (_ISO, _of_iso),
    (_MONTH, _of_month),
    (_SINCE_BOOT, _counted),
)
