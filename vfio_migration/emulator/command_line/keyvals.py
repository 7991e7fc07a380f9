"""QEMU's `key=value,...` (`util/keyval.c`, `util/qemu-option.c`), and JSON in its place."""

import re
from typing import Any

import msgspec

from vfio_migration.emulator.errors import QmpError

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50, "e": 2**60}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?|0x[0-9a-fA-F]+)(?P<unit>[bkmgtpe]?)", re.IGNORECASE)
_ON, _OFF = ("on", "yes", "true", "y"), ("off", "no", "false", "n")


def parse_keyvals(text: str, implied: str = "") -> dict[str, Any]:
    """
    Give what an option says: JSON if it begins with `{`, else `key=value` parts, `,,` for a comma in a value.

    A part without `=` is the value of the key `implied` if it is the first, and a switch that is on otherwise (`nokey`:
    off).

    Raises:
        QmpError: it is neither.

    """
    if text.startswith("{"):
        return _parse_json(text)
    values: dict[str, Any] = {}
    for number, part in enumerate(_split(text)):
        key, equals, value = part.partition("=")
        if equals:
            values[key] = value
        elif number == 0 and implied:
            values[implied] = part
        elif part.startswith("no"):
            values[part[2:]] = "off"
        elif part:
            values[part] = "on"
    return values


def parse_switch(value: Any, key: str) -> bool:
    """Give what `on` or `off` says; raises QmpError of anything else."""
    if isinstance(value, bool):
        return value
    if value in _ON:
        return True
    if value in _OFF:
        return False
    raise QmpError(f"Parameter '{key}' expects 'on' or 'off'")


def parse_size(value: Any, key: str, *, unit: int = 1) -> int:
    """Give a size in bytes: a number with a suffix, or without one in `unit`; raises QmpError of anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * unit
    match = _SIZE.fullmatch(str(value))
    if match is None:
        raise QmpError(
            f"Parameter '{key}' expects a non-negative number below 2^64\n"
            "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."
        )
    number = match["number"]
    whole = int(number, 16) if number.startswith("0x") else float(number) if "." in number else int(number)
    return int(whole * (_UNITS[match["unit"].lower()] if match["unit"] else unit))


def _parse_json(text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text.replace("'", '"') if '"' not in text else text)
    except msgspec.DecodeError as error:
        raise QmpError(f"JSON parse error, {error}") from error
    if not isinstance(value, dict):
        raise QmpError("JSON argument must be an object")
    return value


def _split(text: str) -> list[str]:
    """Split at single commas."""
    parts = [""]
    at = 0
    while at < len(text):
        if text[at] == ",":
            if text[at + 1 : at + 2] == ",":
                parts[-1] += ","
                at += 2
                continue
            parts.append("")
        else:
            parts[-1] += text[at]
        at += 1
    return parts
