"""Says of a scenario's file what msgspec says of data: key first, in TOML's words, with the keys that are known."""

import re
from typing import Any, Literal, get_args, get_origin

import msgspec

from vfio_migration.scenarios.entries import (
    FaultEntry,
    HandlerEntry,
    LinkEntry,
    ParametersEntry,
    PhasesEntry,
    RamEntry,
    ScenarioFile,
    TreeDevice,
    TreeEntry,
    VFIOEntry,
    WatchdogEntry,
)

# Which table a key lies in, by the way there; the rest of the way are places in arrays.
_TABLES: dict[tuple[str, ...], type[msgspec.Struct]] = {
    (): ScenarioFile,
    ("tree",): TreeEntry,
    ("tree", "devices"): TreeDevice,
    ("vfio",): VFIOEntry,
    ("handlers",): HandlerEntry,
    ("ram",): RamEntry,
    ("link",): LinkEntry,
    ("parameters",): ParametersEntry,
    ("phases",): PhasesEntry,
    ("watchdog",): WatchdogEntry,
    ("faults",): FaultEntry,
}
_ARRAYS = ("vfio", "handlers", "faults")
# As msgspec names types, and as TOML does.
_TYPES = {
    "object": "a table",
    "array": "an array",
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "nothing",
}
_TYPE = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_NO_CHOICE = "Invalid enum value"  # as msgspec says, and not what it may be
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_PLACES = re.compile(r"\[(?:\d+|\.\.\.)\]")
_CHOICES = {  # by the last part of a key
    field.name: get_args(field.type)
    for table in (VFIOEntry, FaultEntry)
    for field in msgspec.structs.fields(table)
    if get_origin(field.type) is Literal
}


def located(message: str) -> str:
    """Put the key first: 'Expected `int`, got `str` - at `$.vfio[0].rate`' reads better that way."""
    what, separator, where = message.rpartition(" - at `$")
    if not separator:
        what, where = message, ""
    where = where.rstrip("`").lstrip(".")
    path = tuple(filter(None, _PLACES.sub("", where).split(".")))
    return f"{where or 'top level'}: {_worded(what, path)}"


def known_keys(table: type[Any]) -> str:
    """Give the keys of a table for people."""
    return ", ".join(field.encode_name for field in msgspec.structs.fields(table))


def _worded(what: str, path: tuple[str, ...]) -> str:
    unknown, missing = _UNKNOWN.fullmatch(what), _MISSING.fullmatch(what)
    table = _TABLES.get(path)
    if unknown is not None and table is not None:
        return f"unknown key {unknown[1]!r}; known are: {known_keys(table)}"
    if missing is not None and table is not None:
        what = f"the key {missing[1]!r} is missing"
        return f"{what}: expected {_named(missing[1])}" if not path else what
    choices = _CHOICES.get(path[-1]) if path else None
    if choices is not None and what.startswith(_NO_CHOICE):
        return f"expected one of {', '.join(map(repr, choices))}, got{what.removeprefix(_NO_CHOICE)}"
    what = _TYPE.sub(lambda match: " or ".join(_TYPES.get(each, each) for each in match[1].split(" | ")), what)
    what = what.replace(" or nothing", "")  # which TOML cannot say
    if path and path[-1] in _ARRAYS and "expected an array" in what.lower():
        return f"{what[0].lower()}{what[1:]}: write {_named(path[-1])}, once for each"
    return f"{what[0].lower()}{what[1:]}"


def _named(table: str) -> str:
    return f"[[{table}]]" if table in _ARRAYS else f"[{table}]"
