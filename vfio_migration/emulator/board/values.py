"""Values of properties: read from an option or from JSON, checked by their type, and shown as `info qtree` does."""

import math
import re
from typing import Any

from vfio_migration.emulator.errors import QmpError

_BITS = {
    "uint8": 8,
    "uint16": 16,
    "uint32": 32,
    "uint64": 64,
    "int8": 8,
    "int16": 16,
    "int32": 32,
    "int64": 64,
    "int": 64,
}
_TRUE, _FALSE = ("on", "yes", "true", "y"), ("off", "no", "false", "n")
_ADDRESS = re.compile(r"(?:0[xX])?([0-9a-fA-F]+)(?:\.(?:0[xX])?([0-9a-fA-F]+))?")
_SIZE = re.compile(r"(0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?)([bBkKmMgGtTpPeE]?)")
_MAC = re.compile(r"[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}")
_HOST = re.compile(r"(?:[0-9a-fA-F]{1,4}:)?[0-9a-fA-F]{1,2}:[0-9a-fA-F]{1,2}\.[0-7]")
_UNITS = "BKMGTPE"
_WIDEST = 64
_ALL_ONES = (1 << _WIDEST) - 1
_SLOTS, _FUNCTIONS = 32, 8
_LAST_ADDRESS = _SLOTS * _FUNCTIONS - 1
_CHOICES = {
    "OnOffAuto": ("auto", "on", "off"),
    "OnOffAutoPCIBAR": ("off", "auto", "bar0", "bar1", "bar2", "bar3", "bar4", "bar5"),
    "PCIELinkSpeed": ("2_5", "5", "8", "16", "32", "64"),
    "PCIELinkWidth": ("1", "2", "4", "8", "12", "16", "32"),
}


def read_value(name: str, kind: str, value: object, owner: str, *, typed: bool) -> Any:
    """
    Read what a property is given: `typed` as JSON says it, else text as from `key=value`.

    Raises:
        QmpError: it is no value of this kind; `owner` is the type that QEMU names then.

    """
    if name == "addr" and kind == "str":
        return read_address(value, owner, typed=typed)
    if kind in _CHOICES:
        return _choice(name, _CHOICES[kind], value)
    if kind.startswith(("str", "link<")):
        return _text(name, value, owner)
    return _plain(name, kind, value, typed=typed)


def _plain(name: str, kind: str, value: object, *, typed: bool) -> Any:
    """Read a switch, a number or a size; anything else is kept as it is."""
    if kind == "bool":
        return _boolean(name, value, typed=typed)
    if kind == "size" and not typed:
        return _size(name, value)
    number = "uint64" if kind == "size" else kind
    return _integer(name, number, value, typed=typed) if number in _BITS else value


def read_address(value: object, owner: str, *, typed: bool) -> int:
    """
    Read a PCI address on its bus, slot and function in hexadecimal: `05.0`, `0x5`, `1f.3` (QEMU's `set_pci_devfn`).

    Raises:
        QmpError: it is no such address.

    """
    if typed and isinstance(value, int) and not isinstance(value, bool):
        if not -1 <= value <= _LAST_ADDRESS:
            raise QmpError(f"Parameter 'addr' expects a value between -1 and {_LAST_ADDRESS}")
        return value
    if typed and not isinstance(value, str):
        raise QmpError("Invalid parameter type for 'addr', expected int or str")
    match = _ADDRESS.fullmatch(str(value))
    slot, function = (int(match[1], 16), int(match[2] or "0", 16)) if match else (_SLOTS, 0)
    if slot >= _SLOTS or function >= _FUNCTIONS:
        raise QmpError(f"Property '{owner}.addr' doesn't take value '{value}'")
    return slot * _FUNCTIONS + function


def shown_value(value: object, like: str) -> str:
    """Show a value in the form that a property's line has: quoted, as a number, as a size (QEMU's string visitor)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if like.endswith("B)"):
            return f"{value} ({_size_text(value)})"
        return f"{value} (0x{value & _ALL_ONES:x})"
    return "<null>" if value is None else f'"{value}"'


def shown_default(value: object, kind: str) -> str:
    """Show a value of a property that no line is known of."""
    if kind == "size" and isinstance(value, int):
        return f"{value} ({_size_text(value)})"
    if kind in _BITS and not isinstance(value, int):
        value = 0
    return shown_value(value, "")


def shown_address(devfn: int) -> str:
    """Show a PCI address as `05.0` (QEMU's `print_pci_devfn`)."""
    return f"{devfn // _FUNCTIONS:02x}.{devfn % _FUNCTIONS:x}"


def _size_text(size: int) -> str:
    """Show a size for people (QEMU's `size_to_str`)."""
    _, exponent = math.frexp(size / (1000 / 1024))
    power = max(exponent - 1, 0) // 10
    return f"{size / (1 << (10 * power)):.3g} {'KMGTPE'[power - 1] + 'i' if power else ''}B"


def _boolean(name: str, value: object, *, typed: bool) -> bool:
    if isinstance(value, bool):
        return value
    if typed or not isinstance(value, str):
        raise QmpError(f"Invalid parameter type for '{name}', expected: boolean")
    if value not in (*_TRUE, *_FALSE):
        raise QmpError(f"Parameter '{name}' expects 'on' or 'off'")
    return value in _TRUE


def _integer(name: str, kind: str, value: object, *, typed: bool) -> int:
    unsigned = kind.startswith("u")
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if number is None and not typed and isinstance(value, str):
        try:
            number = int(value, 0)
        except ValueError:
            raise QmpError(f"Parameter '{name}' expects integer") from None
    if number is None or not -(1 << 63) <= number < 1 << 64:
        if typed and not unsigned:
            raise QmpError(f"Invalid parameter type for '{name}', expected: integer")
        raise QmpError(f"Parameter '{name}' expects {'uint64' if typed else 'integer'}")
    bits = _BITS[kind]
    if bits == _WIDEST:
        return number & _ALL_ONES if unsigned else number
    lowest, highest = (0, 1 << bits) if unsigned else (-(1 << bits - 1), 1 << bits - 1)
    if not lowest <= number < highest:
        raise QmpError(f"Parameter '{name}' expects {kind}_t")
    return number


def _size(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise QmpError(f"Parameter '{name}' expects size")
    number = int(match[1], 16) if match[1][:2] in ("0x", "0X") else float(match[1])
    return int(number * (1 << 10 * _UNITS.index((match[2] or "B").upper())))


def _text(name: str, value: object, owner: str) -> str:
    if not isinstance(value, str):
        raise QmpError(f"Invalid parameter type for '{name}', expected: string")
    pattern = {"mac": _MAC, "host": _HOST if owner.startswith("vfio-pci") else None}.get(name)
    if pattern is not None and not pattern.fullmatch(value):
        raise QmpError(f"Property '{owner}.{name}' doesn't take value '{value}'")
    return value


def _choice(name: str, choices: tuple[str, ...], value: object) -> str:
    if not isinstance(value, str):
        raise QmpError(f"Invalid parameter type for '{name}', expected: string")
    if value not in choices:
        raise QmpError(f"Parameter '{name}' does not accept value '{value}'")
    return value
