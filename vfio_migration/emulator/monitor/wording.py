"""How the monitor writes: one JSON value a message, as QEMU does it to the byte."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from vfio_migration.emulator.errors import QmpError
from vfio_migration.emulator.monitor.request import NO_ID
from vmstate import MonitorEvent

_NS_PER_US = 1000
_US_PER_SECOND = 1_000_000


def message(value: Mapping[str, Any], *, pretty: bool = False) -> bytes:
    """
    Give a message's bytes: blanks behind `:` and `,`, nothing but ASCII, CR LF at the end.

    Rejected: msgspec, which writes UTF-8 and no blanks. What reads this is compared with what reads a QEMU, and its
    bytes with QEMU's; nearly all messages are short, and the one that is not (the schema) is asked for once.
    """
    return json.dumps(value, indent=4 if pretty else None).encode("ascii") + _END


def answer(request_id: Any, value: Any, *, pretty: bool = False) -> bytes:
    """Give the answer of a command that was carried out."""
    text = message({"return": value}, pretty=pretty)
    if request_id is NO_ID:
        return text
    return text.removesuffix(_CLOSING) + b', "id": ' + _text_of(request_id) + _CLOSING


def error_answer(request_id: Any, error: QmpError, *, pretty: bool = False) -> bytes:
    """Give the answer of one that was not."""
    text = message({"error": {"class": error.kind, "desc": str(error)}}, pretty=pretty)
    if request_id is NO_ID:
        return text
    return b'{"id": ' + _text_of(request_id) + b", " + text.removeprefix(b"{").lstrip()


def event_message(event: MonitorEvent, epoch_ns: int) -> dict[str, Any]:
    """Give an event; `epoch_ns` is what the clock's zero is, in nanoseconds of the epoch."""
    microseconds = (epoch_ns + event.time_ns) // _NS_PER_US
    said: dict[str, Any] = {
        "timestamp": {"seconds": microseconds // _US_PER_SECOND, "microseconds": microseconds % _US_PER_SECOND},
        "event": event.name,
    }
    if event.data:
        said["data"] = dict(event.data)
    return said


def _text_of(value: Any) -> bytes:
    return "".join(_pieces(value)).encode("ascii")


def _pieces(value: Any) -> Iterator[str]:
    """
    Write an id as QEMU prints it: a number that is whole has no point.

    Without recursion: an id may be nested as deeply as input may be, which is deeper than Python calls.
    """
    waiting: list[Any] = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, _Said):
            yield each.text
        elif isinstance(each, list):
            waiting += [_Said("]"), *reversed(_joined([[item] for item in each])), _Said("[")]
        elif isinstance(each, dict):
            items = [[_Said(json.dumps(key) + ": "), item] for key, item in each.items()]
            waiting += [_Said("}"), *reversed(_joined(items)), _Said("{")]
        elif isinstance(each, float):
            yield _number(each)
        else:
            yield json.dumps(each)


class _Said:
    """Text among values that are still to be written."""

    def __init__(self, text: str) -> None:
        self.text = text


def _joined(items: list[list[Any]]) -> list[Any]:
    joined: list[Any] = []
    for number, item in enumerate(items):
        joined += [_Said(", "), *item] if number else item
    return joined


def _number(value: float) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"  # which is no JSON, and what QEMU says
    return f"{value:.17g}"


_END = b"\r\n"
_CLOSING = b"}" + _END
