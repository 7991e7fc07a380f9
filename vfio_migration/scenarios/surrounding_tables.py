"""What surrounds a machine's devices: `[ram]`, `[link]`, `[parameters]`, `[phases]`, checked and changed."""

from collections.abc import Collection
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

import msgspec

from vfio_migration.live import Link, MigrationParameters, Phases
from vfio_migration.plan import PlannedRam, Surroundings
from vfio_migration.scenarios.entries import LinkEntry, ParametersEntry, PhasesEntry, RamEntry
from vfio_migration.scenarios.model import DeviceSpec, Scenario
from vfio_migration.scenarios.quantities import plain_table
from vfio_migration.scenarios.table_errors import located

_LARGEST = 2**63 - 1  # bytes, as the stream counts them
_LONGEST_S = 1e9
_ENTRIES: dict[str, type[msgspec.Struct]] = {
    "ram": RamEntry,
    "link": LinkEntry,
    "parameters": ParametersEntry,
    "phases": PhasesEntry,
}
TABLE_KEYS = {table: entry.__struct_fields__ for table, entry in _ENTRIES.items()}
_Made = TypeVar("_Made", Link, MigrationParameters, Phases)


def phases_of(entry: PhasesEntry) -> Phases:
    """
    Give what `[phases]` says.

    Raises:
        ValueError: a value makes no sense; the message begins with its key.

    """
    return _made("phases", Phases, entry)


def surroundings_of(ram: RamEntry | None, link: LinkEntry | None, parameters: ParametersEntry) -> Surroundings:
    """Give what `[ram]`, `[link]` and `[parameters]` say; raises as `phases_of`."""
    if ram is not None:
        if not 0 <= ram.size <= _LARGEST:
            raise ValueError(f"ram.size: expected bytes, 0 or more and less than 2**63, got {ram.size}")
        if not 0 <= ram.dirty_rate <= _LARGEST:
            raise ValueError(f"ram.dirty_rate: expected bytes per second, 0 or more, got {ram.dirty_rate}")
    return Surroundings(
        None if ram is None else PlannedRam(ram.size, ram.dirty_rate),
        None if link is None else _made("link", Link, link),
        _made("parameters", MigrationParameters, parameters),
    )


def check_sendable(surroundings: Surroundings, devices: Collection[DeviceSpec]) -> None:
    """
    Refuse a link that takes longer for it all than any time may be.

    Raises:
        ValueError: it does; the message begins with the key.

    """
    if surroundings.link is None:
        return
    entries = [spec.entry for spec in devices]
    size = sum(each.state_size + each.precopy_size + each.initial_size + sum(each.precopy_dirty) for each in entries)
    size += 0 if surroundings.ram is None else surroundings.ram.size
    parameters = surroundings.parameters
    for key, rate in (
        ("link.bandwidth", surroundings.link.bandwidth),
        ("parameters.max_bandwidth", parameters.max_bandwidth),
    ):
        if rate is not None and size > _LONGEST_S * rate:
            raise ValueError(f"{key}: expected to send {size:,} bytes in at most {_LONGEST_S:.0e} seconds, got {rate}")


def changed_table(scenario: Scenario, table: str, key: str, value: Any) -> Scenario:
    """
    Give the scenario with another value for a key of one of these tables, checked as a file is.

    Raises:
        ValueError: it cannot be used; the message begins with the key.

    """
    around = scenario.surroundings
    now = {"ram": around.ram, "link": around.link, "parameters": around.parameters, "phases": scenario.phases}[table]
    data = {} if now is None else {each.name: getattr(now, each.name) for each in fields(now)}
    try:
        entry: Any = msgspec.convert(data | plain_table(table, {key: value}), _ENTRIES[table])
    except msgspec.ValidationError as error:
        text = str(error)
        raise ValueError(
            located(text.replace("`$.", f"`$.{table}.") if "`$" in text else f"{text} - at `$.{table}`")
        ) from error
    if table == "phases":
        return replace(scenario, phases=phases_of(entry))
    entries = {
        "ram": None if around.ram is None else RamEntry(**asdict(around.ram)),
        "link": None if around.link is None else msgspec.convert(asdict(around.link), LinkEntry),
        "parameters": ParametersEntry(**asdict(around.parameters)),
    }
    return replace(scenario, surroundings=surroundings_of(**(entries | {table: entry})))


def _made(table: str, what: type[_Made], entry: msgspec.Struct) -> _Made:
    try:
        return what(**msgspec.structs.asdict(entry))
    except ValueError as error:
        raise ValueError(f"{table}.{error}") from error
