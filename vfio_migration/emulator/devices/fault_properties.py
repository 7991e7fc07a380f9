"""Faults and figures of a VFIO device as properties, to be set from outside: `x-fail`, `x-stall`, `x-latency`, ..."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from vfio_migration.device import MockDevice
from vfio_migration.emulator.command_line.keyvals import parse_size
from vfio_migration.emulator.errors import QmpError
from vfio_migration.errors import ScenarioError
from vfio_migration.scenarios import FaultEntry, FaultSpec, latencies, plain_device, plain_table
from vfio_migration.wording import arc_name


@dataclass(frozen=True)
class FaultProperty:
    """One property: its type as `qom-list` says it, and how it is read and set; None: it cannot be read."""

    name: str
    type: str
    set: Callable[[MockDevice, Any], None]
    get: Callable[[MockDevice], Any] = lambda _: None
    description: str = ""


def fault_properties() -> tuple[FaultProperty, ...]:
    """Give all of them, in the order in which they are applied where several are given."""
    return _PROPERTIES


def set_fault_property(mock: MockDevice, device: str, name: str, value: Any) -> None:
    """
    Set one; with the syntax of scenarios, also as text (of JSON, or a plain one).

    Raises:
        QmpError: there is no such property, or the value makes no sense; the message says what was expected.

    """
    found = next((each for each in _PROPERTIES if each.name == name), None)
    if found is None:
        raise QmpError(f"Property 'vfio-pci.{name}' not found")
    try:
        found.set(mock, _decoded(value))
    except (ValueError, TypeError, OverflowError, ScenarioError, msgspec.ValidationError) as error:
        raise QmpError(f"Property '{device}.{name}': {error}") from error


def _decoded(value: Any) -> Any:
    """Give what a text says that is JSON; any other is itself."""
    if isinstance(value, str) and (value[:1] in ("{", "[", '"') or _is_number(value)):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise ValueError(f"expected JSON, got {value!r}: {error}") from error
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text[:1].isdigit()


def _set_latency(mock: MockDevice, value: Any) -> None:
    table = value if isinstance(value, Mapping) else {"default": value}
    plain = plain_device("x", {"latency": table})["latency"]
    mock.set_latency(latencies("x-latency", plain, mock.flags))


def _get_latency(mock: MockDevice) -> dict[str, float]:
    arcs = latencies("x-latency", {}, mock.flags)
    return {arc_name(*arc): mock.arc_latency(*arc) for arc in arcs if mock.arc_latency(*arc)}


def _arrange(kind: str) -> Callable[[MockDevice, Any], None]:
    def arrange(mock: MockDevice, value: Any) -> None:
        for each in value if isinstance(value, list) else [value]:
            table = {"at": each} if isinstance(each, str) else each
            if not isinstance(table, Mapping):
                expected = "expected an arc such as 'RUNNING -> RUNNING_P2P', or a table with `at`"
                raise ValueError(f"{expected}; got {each!r}")  # noqa: TRY004 - of a value
            plain = plain_table("faults", {"device": "*", "kind": kind, **table})
            entry = msgspec.convert(plain, FaultEntry)
            FaultSpec("*", entry).arrange(mock)

    return arrange


def _set_size(mock: MockDevice, value: Any) -> None:
    mock.set_state_size(parse_size(value, "x-state-size"))


def _set_rate(mock: MockDevice, value: Any) -> None:
    if value in (None, "", "none", 0):
        mock.set_rate(None)
    elif isinstance(value, str) and "/" in value:  # as scenarios have it; QEMU knows sizes only
        mock.set_rate(plain_device("x", {"rate": value})["rate"])
    else:
        mock.set_rate(float(value) if isinstance(value, float) else parse_size(value, "x-rate"))


_PROPERTIES = (
    FaultProperty("x-heal", "bool", lambda mock, _: mock.heal(), description="forget all faults that were not met"),
    FaultProperty("x-latency", "dict", _set_latency, _get_latency, "seconds of each arc"),
    FaultProperty("x-state-size", "size", _set_size, lambda mock: mock.state_size, "bytes of state, beside pre-copy's"),
    FaultProperty("x-rate", "size", _set_rate, lambda mock: mock.rate or 0, "bytes per second; 0 reads: in no time"),
    FaultProperty(
        "x-fail",
        "list",
        _arrange("fail"),
        lambda mock: list(mock.unmet_faults),
        "an arc, read, write or reset that fails",
    ),
    FaultProperty("x-stall", "list", _arrange("stall"), lambda mock: mock.stalled, "an arc that stalls until released"),
    FaultProperty("x-release", "bool", lambda mock, _: mock.release(), description="let an arc go on that stalls"),
)
