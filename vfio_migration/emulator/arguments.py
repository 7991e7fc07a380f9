"""
Checking a command's arguments against the schema, with QEMU's words (`qapi/qobject-input-visitor.c`).

What members there are, of which kinds, is said by the profile's schema (`query-qmp-schema`), so that every command of
the QEMU that was recorded is checked, whether it is carried out here or not. The schema does not tell the width of an
integer, nor what an alternate is called; where QEMU's words depend on that, a table says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vfio_migration.emulator.errors import QmpError

Schema = Mapping[str, Mapping[str, Any]]  # by name

_UNSIGNED = {"uint8_t": 0xFF, "uint32_t": 0xFFFFFFFF, "uint64": 0xFFFFFFFFFFFFFFFF}
# Of integers that are no int64 in QAPI: what QEMU calls them. All others are "integer".
_WIDTHS = dict.fromkeys(
    ("throttle-trigger-threshold", "cpu-throttle-initial", "cpu-throttle-increment", "multifd-channels",
     "max-cpu-throttle", "multifd-zlib-level", "multifd-qatzip-level", "multifd-zstd-level"), "uint8_t"
) | dict.fromkeys(
    ("announce-initial", "announce-max", "announce-rounds", "announce-step", "max-bandwidth",
     "avail-switchover-bandwidth", "downtime-limit", "xbzrle-cache-size", "max-postcopy-bandwidth",
     "x-vcpu-dirty-limit-period", "vcpu-dirty-limit", "x-rdma-chunk-size", "value", "size"), "uint64"
) | {"x-checkpoint-delay": "uint32_t"}  # fmt: skip
_OF_PARAMETERS = ("migrate-set-parameters",)
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_STRING_OR_NULL = {"str", "null"}


def check_arguments(schema: Schema, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Give the arguments as the command takes them: unsigned integers as such, everything else as it came.

    Raises:
        QmpError: something is missing, unexpected or of another kind, in the order in which QEMU finds it.

    """
    entry = schema[command]
    return _Checker(schema, widths=command in _OF_PARAMETERS).object(entry["arg-type"], arguments, "")


class _Checker:
    """Walks arguments and schema side by side; `path` is what QEMU calls a value's full name."""

    def __init__(self, schema: Schema, *, widths: bool) -> None:
        self._schema = schema
        self._widths = widths

    def object(self, type_name: str, value: Any, path: str) -> dict[str, Any]:
        """Check an object, its variants included."""
        if not isinstance(value, Mapping):
            raise _wrong_kind(path, "object")
        taken: dict[str, Any] = {}
        self._members(type_name, value, path, taken)
        unexpected = next((key for key in value if key not in taken), None)
        if unexpected is not None:
            raise QmpError(f"Parameter '{_below(path, unexpected)}' is unexpected")
        return taken

    def _members(self, type_name: str, value: Mapping[str, Any], path: str, taken: dict[str, Any]) -> None:
        entry = self._schema[type_name]
        for member in entry["members"]:
            name = member["name"]
            if name in value:
                taken[name] = self._value(member["type"], value[name], _below(path, name), name)
            elif "default" not in member:
                raise QmpError(f"Parameter '{_below(path, name)}' is missing")
        tag = entry.get("tag")
        for variant in entry.get("variants", ()):
            if tag is not None and taken.get(tag) == variant["case"]:
                self._members(variant["type"], value, path, taken)

    def _value(self, type_name: str, value: Any, path: str, name: str | None) -> Any:
        entry = self._schema[type_name]
        kind = entry["meta-type"]
        if kind == "builtin":
            return self._builtin(entry["json-type"], value, path, name)
        if kind == "enum":
            return self._enum(entry, value, path, name)
        if kind == "array":
            if not isinstance(value, list):
                raise _wrong_kind(path, "array")
            element = entry["element-type"]
            return [self._value(element, each, f"{path}[{number}]", None) for number, each in enumerate(value)]
        if kind == "alternate":
            return self._alternate(entry["members"], value, path, name)
        return self.object(type_name, value, path)

    def _builtin(self, json_type: str, value: Any, path: str, name: str | None) -> Any:
        if json_type == "int":
            return self._integer(value, path, name)
        if json_type == "number":
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise _wrong_kind(path, "number")
            return value
        kinds: dict[str, tuple[type, str]] = {"string": (str, "string"), "boolean": (bool, "boolean")}
        if json_type in kinds:
            python, word = kinds[json_type]
            if not isinstance(value, python):
                raise _wrong_kind(path, word)
        elif json_type == "null" and value is not None:
            raise _wrong_kind(path, "null")
        return value

    def _integer(self, value: Any, path: str, name: str | None) -> int:
        width = _WIDTHS.get(name or "") if self._widths else None
        whole = isinstance(value, int) and not isinstance(value, bool)
        if width is None:
            if not whole or not _LOWEST <= value <= _HIGHEST:
                raise _wrong_kind(path, "integer")
            return int(value)
        if not whole:
            raise QmpError(f"Parameter '{path}' expects uint64")
        unsigned: int = value & _UNSIGNED["uint64"]  # as a C program reads a negative one
        if unsigned > _UNSIGNED[width]:
            raise QmpError(f"Parameter '{name}' expects {width}")
        return unsigned

    @staticmethod
    def _enum(entry: Mapping[str, Any], value: Any, path: str, name: str | None) -> str:
        if not isinstance(value, str):
            raise _wrong_kind(path, "string")
        if value not in entry["values"]:
            raise QmpError(f"Parameter '{name if name is not None else 'null'}' does not accept value '{value}'")
        return value

    def _alternate(self, members: Sequence[Mapping[str, Any]], value: Any, path: str, name: str | None) -> Any:
        for member in members:
            try:
                return self._value(member["type"], value, path, name)
            except QmpError:
                if self._fits(member["type"], value):
                    raise
        names = {member["type"] for member in members}
        raise _wrong_kind(name or "null", "StrOrNull" if names == _STRING_OR_NULL else "another type")

    def _fits(self, type_name: str, value: Any) -> bool:
        """Whether a value is of this member's JSON type, so that it is this member that is wrong."""
        kind = self._schema[type_name]["meta-type"]
        return (kind == "object" and isinstance(value, Mapping)) or (kind == "enum" and isinstance(value, str))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong_kind(path: str, expected: str) -> QmpError:
    return QmpError(f"Invalid parameter type for '{path}', expected: {expected}")
