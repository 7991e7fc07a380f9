"""A profile: what one QEMU, of one version, answers about itself; read from the file that the recorder wrote."""

import copy
import json
import lzma
from collections.abc import Mapping
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Self

from vfio_migration.emulator.errors import ProfileError
from vfio_migration.emulator.profile.boards import BoardRecord, board_record
from vfio_migration.emulator.profile.recorder import FORMAT
from vfio_migration.emulator.profile.templates import Template, template_of
from vfio_migration.emulator.profile.types import TypeInfo, Types

_BUNDLED = "qemu-11.1.3.json.xz"
_PARTS = ("schema", "replies", "types", "properties", "boards", "devices")


class Profile:
    """What a QEMU is: its version, its monitor's schema, its types, its machines, and its devices as they are made."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record
        self._types = Types(record["types"])
        self._replies = {_key(command, arguments): reply for command, arguments, reply in record["replies"]}
        self._templates: dict[tuple[str, str], Template | None] = {}

    @classmethod
    def bundled(cls) -> "Profile":
        """Give the profile of QEMU 11.1.3 that comes with this package; it is read once."""
        return _bundled()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """
        Read a profile that was recorded from an installed QEMU.

        Raises:
            ProfileError: there is no such file, or it is no profile of this version.

        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ProfileError(f"cannot read the profile {path}: {error.strerror}") from error
        return cls(_read(data, str(path)))

    @property
    def version(self) -> dict[str, Any]:
        """What `query-version` returns."""
        return dict(self._replies[_key("query-version", {})]["return"])

    @property
    def schema(self) -> list[dict[str, Any]]:
        """What `query-qmp-schema` returns."""
        return list(self._record["schema"])

    @property
    def types(self) -> Mapping[str, TypeInfo]:
        """Every type by name, in QEMU's order."""
        return self._types.all

    def is_a(self, type: str, ancestor: str) -> bool:  # noqa: A002 - QEMU's word
        """Tell whether a type is, descends from or implements another; a type that is not known is nothing."""
        return self._types.is_a(type, ancestor)

    def list_types(self, implements: object = None, abstract: object = None) -> list[dict[str, Any]]:
        """Give what `qom-list-types` returns; without `abstract` it leaves abstract types out."""
        return self._types.listing(implements, abstract=abstract is True)

    def answer(self, command: str, arguments: Mapping[str, object] | None = None) -> dict[str, Any] | None:
        """Give the recorded reply, `{"return": ...}` or `{"error": ...}`; None if nothing of the kind was recorded."""
        arguments = {name: value for name, value in (arguments or {}).items() if value is not None}
        if command == "query-qmp-schema":
            return {"return": self.schema}
        if command == "qom-list-types":
            return {
                "return": self._types.listing(arguments.get("implements"), abstract=arguments.get("abstract") is True)
            }
        if command in ("device-list-properties", "qom-list-properties"):
            return self._properties(command, str(arguments.get("typename", "")))
        if command == "query-cpu-model-expansion":
            return self._expansion(arguments)
        if command == "query-machines" and arguments.get("compat-props") is False:
            arguments = {}
        return copy.deepcopy(self._replies.get(_key(command, arguments)))

    def device_properties(self, type: str) -> list[dict[str, Any]]:  # noqa: A002 - QEMU's word
        """Give the properties that a device of a type can be given, as `device-list-properties` has them."""
        return list(self._record["properties"]["device"].get(type, ()))

    def object_properties(self, type: str) -> list[dict[str, Any]]:  # noqa: A002 - QEMU's word
        """Give the properties of any type, as `qom-list-properties` has them."""
        return list(self._record["properties"]["object"].get(type, ()))

    def bus_wanted(self, type: str) -> str:  # noqa: A002 - QEMU's word
        """Give the type of bus that a device wants; empty if it wants none."""
        return str(self._record["devices"].get(type, {}).get("bus", ""))

    def refusal(self, type: str) -> str:  # noqa: A002 - QEMU's word
        """Give QEMU's words when a device of this type was made with no options; empty if it could be made."""
        return str(self._record["devices"].get(type, {}).get("refused", ""))

    def template(self, type: str, *settings: str) -> Template | None:  # noqa: A002 - QEMU's word
        """Give the template of a type in the first of these settings that it has, else in any; None: never made."""
        recorded = self._record["devices"].get(type, {}).get("settings", {})
        name = next((each for each in settings if each in recorded), next(iter(recorded), None))
        if name is None:
            return None
        if (type, name) not in self._templates:
            self._templates[type, name] = template_of(type, name, recorded)
        return self._templates[type, name]

    def board(
        self, family: str, options: Mapping[str, str], arguments: tuple[str, ...] = (), *, defaults: bool
    ) -> BoardRecord | None:
        """Give the board of a machine's family that is closest to these options; None: no such family."""
        variants = self._record["boards"].get(family)
        return board_record(variants, options, arguments, defaults=defaults) if variants else None

    @cached_property
    def machines(self) -> Mapping[str, Mapping[str, Any]]:
        """Every machine by name and alias, as `query-machines` has it."""
        found = {}
        for each in self._replies[_key("query-machines", {})]["return"]:
            found[each["name"]] = each
            if "alias" in each:
                found[each["alias"]] = each
        return found

    @cached_property
    def compat_properties(self) -> Mapping[str, list[dict[str, str]]]:
        """What each machine by name sets differently for devices (`query-machines` with `compat-props`)."""
        reply = self._replies.get(_key("query-machines", {"compat-props": True}), {})
        return {each["name"]: each.get("compat-props", []) for each in reply.get("return", ())}

    def _properties(self, command: str, name: str) -> dict[str, Any]:
        recorded = self._record["properties"]
        found = recorded["device" if command == "device-list-properties" else "object"].get(name)
        if found is not None:
            return {"return": copy.deepcopy(found)}
        error = recorded["errors"].get(f"{command} {name}")
        if error is not None:
            return {"error": dict(error)}
        if command == "device-list-properties":
            return {"error": {"class": "DeviceNotFound", "desc": f"Device '{name}' not found"}}
        return {"error": {"class": "GenericError", "desc": f"Class '{name}' not found"}}

    def _expansion(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give a CPU model's expansion; properties that are asked for stand in it (QEMU's `x86_cpu_set_...`)."""
        model = dict(arguments.get("model", {}))
        wanted = dict(model.get("props", {}))
        for props in ({"migratable": False}, {}) if wanted.get("migratable") is False else ({},):
            asked = {
                "type": arguments.get("type"),
                "model": {"name": model.get("name"), **({"props": props} if props else {})},
            }
            reply: dict[str, Any] | None = copy.deepcopy(self._replies.get(_key("query-cpu-model-expansion", asked)))
            if reply is not None:
                if "return" in reply:
                    expanded = reply["return"]["model"].setdefault("props", {})
                    expanded.update({name: value for name, value in wanted.items() if name in expanded})
                return reply
        return None


@cache
def _bundled() -> Profile:
    file = resources.files("vfio_migration.emulator.profile").joinpath("bundled", _BUNDLED)
    return Profile(_read(file.read_bytes(), _BUNDLED))


def _read(data: bytes, name: str) -> dict[str, Any]:
    """Unpack and check a profile, so that a wrong file is told from a right one before anything is asked of it."""
    again = "record it anew with --record-profile"
    try:
        record = json.loads(lzma.decompress(data))
    except (lzma.LZMAError, EOFError) as error:
        raise ProfileError(f"{name} is no profile: it is not compressed with xz ({error}); {again}") from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{name} is no profile: what it holds is no JSON ({error}); {again}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ProfileError(f"{name} is a profile of format {found!r}, expected {FORMAT}; {again}")
    missing = [part for part in _PARTS if part not in record]
    if missing:
        raise ProfileError(f"{name} is a profile without {', '.join(missing)}; {again}")
    return record


def _key(command: str, arguments: Mapping[str, object]) -> str:
    return json.dumps([command, arguments], sort_keys=True)
