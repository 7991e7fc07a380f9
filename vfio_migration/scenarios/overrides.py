"""
Overrides: another value for a key of a scenario, as `--set 'vf*.latency.STOP_COPY=0.02'` gives it.

They are applied one after another, each to what those before it left. What they give is a scenario like any other,
checked like what a file says.
"""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from vfio_migration.errors import ScenarioError
from vfio_migration.scenarios.entries import VFIOEntry
from vfio_migration.scenarios.file import (
    changed_device,
    changed_handler,
    moved_device,
    strategy_of_key,
    with_specs,
)
from vfio_migration.scenarios.model import DeviceSpec, HandlerSpec, Scenario
from vfio_migration.scenarios.surrounding_tables import TABLE_KEYS, changed_table
from vfio_migration.wording import arc_name, arc_parts, listed

_LATENCY = "latency."
_DEPTH = "depth"
_STRATEGY = "strategy"
_NOT_OF_ONE_DEVICE = ("devices", "latency", "seed")
DEVICE_KEYS = (
    *(f"{_LATENCY}{arcs}" for arcs in ("STATE", "A->B", "default")),
    *(name for name in VFIOEntry.__struct_fields__ if name not in _NOT_OF_ONE_DEVICE),
    _DEPTH,
)
HANDLER_KEYS = ("stop", "start", "prepare_stop", "prepare_start")
_PLAIN_KEYS = [key for key in (*DEVICE_KEYS, *HANDLER_KEYS) if not key.startswith(_LATENCY)]
_NEAR = 0.8  # of 1: so much of `link.bandwith` must be as in `link.bandwidth`
_SHOWN_NAMES = 20  # of those that a pattern could have matched


@dataclass(frozen=True)
class Override:
    """
    `PATTERN.KEY=VALUE`, taken apart: a pattern of ids of VFIO devices, or of names of ordinary handlers.

    Or `TABLE.KEY=VALUE`, for a table that a scenario has once; or `strategy=VALUE`, with no pattern.
    """

    text: str
    pattern: str
    key: str
    value: Any

    @property
    def of_table(self) -> bool:
        """Whether it is for a table that a scenario has once: `link.bandwidth`."""
        return self.key in TABLE_KEYS.get(self.pattern, ())


def parse_override(text: str) -> Override:
    """
    Take `PATTERN.KEY=VALUE` apart; the key is one of DEVICE_KEYS or HANDLER_KEYS, the value as in TOML.

    Raises:
        ScenarioError: it is not of this form, or there is no such key.

    """
    table = re.search(r"=\s*\{", text)  # a time that varies has equals signs of its own
    where, equals, value = (
        text.rpartition("=") if table is None else (text[: table.start()], "=", text[table.start() + 1 :])
    )
    where, value = where.strip(), value.strip()
    # A pattern may hold dots, as PCI addresses do, and so the key is looked for from the right.
    if where == _STRATEGY and value:
        return Override(text, "", where, _value(value))
    pattern, dot, name = where.rpartition(f".{_LATENCY}")
    key = f"{_LATENCY}{' -> '.join(filter(None, arc_parts(name)))}"
    if not dot:
        pattern, dot, key = where.rpartition(".")
    if not (equals and pattern and key and value):
        raise ScenarioError(f"{text!r}: expected PATTERN.KEY=VALUE, such as 'vf*.latency.STOP_COPY=0.02'")
    found = Override(text, pattern, key, _value(value))
    if not found.of_table and not key.startswith(_LATENCY) and key not in (*DEVICE_KEYS, *HANDLER_KEYS):
        tables = "; ".join(f"{table}.{{{', '.join(keys)}}}" for table, keys in TABLE_KEYS.items())
        raise ScenarioError(
            f"{text!r}: there is no key {key!r}{_did_you_mean(where)}; "
            f"expected, of a VFIO device: {', '.join(DEVICE_KEYS)}; "
            f"of an ordinary handler: {', '.join(HANDLER_KEYS)}; or one of {tables}; or strategy"
        )
    return found


def _did_you_mean(where: str) -> str:
    """Name what is nearest to a key that does not exist: of a table, or with the same pattern of a device."""
    of_tables = [f"{table}.{key}" for table, keys in TABLE_KEYS.items() for key in keys]
    near = get_close_matches(where, of_tables, n=1, cutoff=_NEAR)
    if not near:
        pattern, _, key = where.rpartition(".")
        near = [f"{pattern}.{each}" for each in get_close_matches(key, _PLAIN_KEYS, n=1)]
    if not near and (match := re.fullmatch(r"(.*)\.(\w+)\.([^.]+)", where)) is not None:
        pattern, word, arc = match.groups()
        near = [f"{pattern}.{each}{arc}" for each in get_close_matches(f"{word}.", [_LATENCY], n=1)]
    return f" (did you mean {near[0]!r}?)" if near else ""


def override(scenario: Scenario, texts: Iterable[str]) -> Scenario:
    """
    Give the scenario with other values: `override(load_scenario("host"), ["vf*.parallel=false"])`.

    `latency.STATE` is for all arcs that lead to the state, `latency.default` for all arcs, whatever was said of them
    before.

    Raises:
        ScenarioError: one of them cannot be used; the message says which, where, and what was expected.

    """
    devices: Sequence[DeviceSpec] = scenario.devices
    handlers: Sequence[HandlerSpec] = scenario.handlers
    changed = scenario
    texts = list(texts)
    blamed = ""
    try:
        for blamed in texts:
            each = parse_override(blamed)
            if each.of_table:
                changed = changed_table(changed, each.pattern, each.key, each.value)
            elif each.key == _STRATEGY:
                changed = replace(changed, strategy=strategy_of_key(each.value))
            elif each.key in HANDLER_KEYS:
                handlers = _to_handlers(each, handlers)
            else:
                devices = _to_devices(each, devices)
        blamed = " ".join(texts)  # whether all go together shows at the end
        return with_specs(changed, devices, handlers)
    except ScenarioError as error:
        raise ScenarioError(f"{scenario.name}: {error}") from None
    except ValueError as error:
        raise ScenarioError(f"{scenario.name}: with {blamed!r}: {error}") from error


def _to_devices(each: Override, devices: Sequence[DeviceSpec]) -> list[DeviceSpec]:
    _check_matches(each, [spec.id for spec in devices], "the id of a VFIO device")
    return [_changed(spec, each) if fnmatchcase(spec.id, each.pattern) else spec for spec in devices]


def _to_handlers(each: Override, handlers: Sequence[HandlerSpec]) -> list[HandlerSpec]:
    _check_matches(each, [spec.name for spec in handlers], "the name of an ordinary handler")
    return [
        changed_handler(spec, each.key, each.value) if fnmatchcase(spec.name, each.pattern) else spec
        for spec in handlers
    ]


def _check_matches(each: Override, names: Sequence[str], what: str) -> None:
    if any(fnmatchcase(name, each.pattern) for name in names):
        return
    known = list(dict.fromkeys(names))
    near = get_close_matches(each.pattern, known, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    raise ScenarioError(
        f"{each.text!r}: expected a pattern that {what} matches, as {each.key} belongs to one, got {each.pattern!r}"
        f"{meant}; there are: {listed(known, 'names', _SHOWN_NAMES) or 'none'}"
    )


def _changed(spec: DeviceSpec, each: Override) -> DeviceSpec:
    if each.key.startswith(_LATENCY):
        return changed_device(spec, {"latency": _latency(spec, each.key.removeprefix(_LATENCY), each.value)})
    if each.key == _DEPTH:
        return moved_device(spec, each.value)
    changes = {each.key: each.value}
    if each.key in ("p2p", "precopy"):
        # Arcs that it no longer has may have been named in the file; without them the table fits again.
        bare = changed_device(spec, {**changes, "latency": {}})
        names = {"default"} | {name for a, b in bare.latency for name in (b.name, arc_name(a, b))}
        changes["latency"] = {name: seconds for name, seconds in spec.entry.latency.items() if name in names}
    return changed_device(spec, changes)


def _latency(spec: DeviceSpec, name: str, seconds: Any) -> dict[str, Any]:
    """Give the table in which this name counts for all that it covers: what is narrower is forgotten."""
    if name == "default":
        return {name: seconds}
    kept = {each: value for each, value in spec.entry.latency.items() if not each.endswith(f" -> {name}")}
    return kept | {name: seconds}


def _value(text: str) -> Any:
    """Read it as TOML does; a word needs no quotes."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # TOMLDecodeError, and numbers that are too long
        return text
    return table["value"] if len(table) == 1 else text
