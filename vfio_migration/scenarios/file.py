"""
Reading scenarios: a machine described in TOML, from its device tree to what each device and handler takes.

The format is described in docs/scenarios.md; the bundled ones are in `bundled`.
"""

import math
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from vfio_migration.changes import Watchdog
from vfio_migration.device import DeviceState, MigrationFlags, MockDevice, is_arc
from vfio_migration.errors import ScenarioError
from vfio_migration.inputs import read_input, reason
from vfio_migration.plan import PLAIN
from vfio_migration.scenarios.distributions import Distribution, distribution
from vfio_migration.scenarios.entries import (
    FaultEntry,
    HandlerEntry,
    ScenarioFile,
    TreeEntry,
    VFIOEntry,
    WatchdogEntry,
)
from vfio_migration.scenarios.model import DeviceSpec, HandlerSpec, Scenario, TreeSource
from vfio_migration.scenarios.quantities import plain_device, plain_time, with_plain_numbers
from vfio_migration.scenarios.scenario_faults import FaultSpec
from vfio_migration.scenarios.surrounding_tables import check_sendable, phases_of, surroundings_of
from vfio_migration.scenarios.table_errors import located
from vfio_migration.strategies import Strategy, strategy_named
from vfio_migration.wording import arc_name, in_order, listed
from vmstate import Device, DeviceTree, DeviceTreeError, QtreeError, depth_of_priority


def bundled_scenarios() -> dict[str, str]:
    """Give the names of the scenarios that come with the package, each with its description."""
    folder = resources.files("vfio_migration.scenarios").joinpath("bundled")
    names = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name: load_scenario(name).description for name in names}


def load_scenario(name_or_path: str | Path) -> Scenario:
    """
    Read a scenario: a bundled one by its name, any other by the path of its file.

    Raises:
        ScenarioError: it cannot be read or used; the message names file, key and expectation.

    """
    return parse_scenario(*_read_scenario(name_or_path))


def parse_scenario(text: str, path: Path) -> Scenario:
    """Read a scenario from its text; `path` names it and is where a `qtree` file is looked for. Raises as above."""
    return scenario_from_data(_parsed(text, path), path)


def scenario_for_tree(name_or_path: str | Path, qtree: bytes) -> Scenario:
    """
    Read a scenario for a machine that is there already: with this tree, whether the file has one or not.

    Raises as `load_scenario`.
    """
    text, path = _read_scenario(name_or_path)
    data = _parsed(text, path)
    return scenario_from_data({**data, "tree": {"devices": []}}, path, TreeSource(qtree, ()))


def scenario_from_data(data: Mapping[str, Any], path: Path, tree: TreeSource | None = None) -> Scenario:
    """Make a scenario of what a TOML file would say; with `tree` in place of its own. Raises as `load_scenario`."""
    try:
        file = msgspec.convert(with_plain_numbers(data), ScenarioFile)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{path}: {located(str(error))}") from error
    except ValueError as error:
        raise ScenarioError(f"{path}: {error}") from error
    try:
        return _resolve(file, path, _tree_source(file.tree, path) if tree is None else tree)
    except _BadValueError as error:
        raise ScenarioError(f"{path}: {error}") from error


_SHOWN = 20  # names in an error
_WILD = re.compile(r"[*?[]")
_LONGEST_S = 1e9  # thirty years: what is longer is a mistake, and no lock can wait for much more
_LARGEST = 2**42  # bytes, 4 TiB: more than any device has, and a minute of a run in virtual time
_DEEPEST = 1000  # to which a device may be moved: deeper than any machine's tree


class _BadValueError(ValueError):
    """A value that fits its type but makes no sense; the message begins with its key."""


def _read_scenario(name_or_path: str | Path) -> tuple[str, Path]:
    folder = Path(str(resources.files("vfio_migration.scenarios").joinpath("bundled")))
    names = sorted(entry.stem for entry in folder.glob("*.toml"))
    path = Path(name_or_path)
    if str(name_or_path) in names and not path.is_file():
        path = folder / f"{name_or_path}.toml"
    try:
        text = read_input(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:  # UnicodeDecodeError, and names that no file can have
        raise ScenarioError(
            f"{name_or_path}: cannot be read ({reason(error)}); "
            f"expected the path of a TOML file or the name of a bundled scenario ({', '.join(names)})"
        ) from error
    return text, path


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and numbers that are too long
        raise ScenarioError(f"{path}: expected TOML: {reason(error)}") from error


def _resolve(file: ScenarioFile, path: Path, source: TreeSource) -> Scenario:
    tree = _built(source)
    places = {id(device): place for place, device in enumerate(tree)}
    devices = _device_specs(file.vfio, tree, places)
    handlers = [
        spec
        for number, handler in enumerate(file.handlers)
        for spec in _handler_specs(f"handlers[{number}]", handler, tree, places)
    ]
    watchdog = _watchdog(file.watchdog)
    strategy = strategy_of_key(file.strategy)
    try:
        phases, surroundings = phases_of(file.phases), surroundings_of(file.ram, file.link, file.parameters)
        check_sendable(surroundings, devices.values())
    except ValueError as error:
        raise _BadValueError(str(error)) from error
    faults = [
        spec
        for number, entry in enumerate(file.faults)
        for spec in _fault_specs(f"faults[{number}]", entry, devices, watchdog)
    ]
    return Scenario(
        path.stem,
        file.description.strip(),
        source,
        tuple(devices.values()),
        tuple(handlers),
        watchdog,
        tuple(faults),
        phases,
        surroundings,
        strategy,
        tuple(f"tree.qtree: {note}" for note in tree.notes),
    )


def strategy_of_key(name: object) -> Strategy:
    """
    Read what the key `strategy` says.

    Raises:
        ValueError: there is no such strategy; the message begins with the key.

    """
    try:
        return strategy_named(str(name))
    except ValueError as error:
        raise _BadValueError(f"strategy: {error}") from None


def _built(source: TreeSource) -> DeviceTree:
    try:
        return source.build()
    except QtreeError as error:
        raise _BadValueError(f"tree.qtree: {error}") from error
    except DeviceTreeError as error:
        raise _BadValueError(f"tree.devices: {error}") from error
    except KeyError as error:
        raise _BadValueError(str(error.args[0])) from error


def _device_specs(groups: Sequence[VFIOEntry], tree: DeviceTree, places: Mapping[int, int]) -> dict[str, DeviceSpec]:
    """Give the VFIO devices of a file by what they are called."""
    named: dict[str, list[Device]] = {}  # as many files have a [[vfio]] for each of thousands of devices
    for device in filter(lambda device: device.name, tree):
        named.setdefault(device.name, []).append(device)
    devices: dict[str, DeviceSpec] = {}
    for number, group in enumerate(groups):
        for device in _matches(tree, f"vfio[{number}].devices", group.devices, named):
            name = _name(device)
            if name in devices:
                raise _BadValueError(f"vfio[{number}].devices: device {name!r} is in an earlier [[vfio]] already")
            seed = group.seed + len(devices)
            devices[name] = _device_spec(f"vfio[{number}]", group, name, places[id(device)], device.depth, seed)
    if not devices:
        raise _BadValueError("vfio: expected at least one device")
    _check_p2p(devices.values())
    return devices


def changed_device(spec: DeviceSpec, changes: Mapping[str, Any]) -> DeviceSpec:
    """
    Give the device as it would be with these values in its `[[vfio]]`; they are checked as those of a file are.

    Raises:
        ValueError: a value cannot be used; the message names the device, the key and what was expected.

    """
    try:
        entry = msgspec.convert({**msgspec.structs.asdict(spec.entry), **plain_device(spec.id, changes)}, VFIOEntry)
    except msgspec.ValidationError as error:
        raise _BadValueError(f"{spec.id}.{located(str(error))}") from error
    return _device_spec(spec.id, entry, spec.id, spec.place, spec.depth, spec.seed)


def moved_device(spec: DeviceSpec, depth: object) -> DeviceSpec:
    """
    Give the device as it would be at another depth of the tree.

    Raises:
        ValueError: there is no such depth for a device.

    """
    if not isinstance(depth, int) or isinstance(depth, bool) or not 1 <= depth <= _DEEPEST:
        raise _BadValueError(f"{spec.id}.depth: expected a depth from 1 to {_DEEPEST}, got {depth!r}")
    return replace(spec, depth=depth)


def changed_handler(spec: HandlerSpec, key: str, seconds: object) -> HandlerSpec:
    """
    Give the handler with another time: `stop`, `start`, `prepare_stop` or `prepare_start`.

    Raises:
        ValueError: that is no time.

    """
    seconds = plain_time(f"{spec.name}.{key}", seconds)
    _check_seconds(f"{spec.name}.{key}", seconds)
    times: dict[str, Any] = {f"{key}_s": seconds}
    return replace(spec, **times)


def with_specs(scenario: Scenario, devices: Sequence[DeviceSpec], handlers: Sequence[HandlerSpec]) -> Scenario:
    """
    Give the same scenario with these devices and handlers in the places of its own.

    Raises:
        ValueError: they do not go together, or one of its faults makes no sense for them.

    """
    _check_p2p(devices)
    check_sendable(scenario.surroundings, devices)
    flags = {spec.id: spec.flags for spec in devices}
    for number, fault in enumerate(scenario.faults):
        _check_fault(f"faults[{number}]", fault, flags[fault.device])
    return replace(scenario, devices=tuple(devices), handlers=tuple(handlers))


def _check_p2p(devices: Collection[DeviceSpec]) -> None:
    without_p2p = sorted(each.id for each in devices if MigrationFlags.P2P not in each.flags)
    if len(devices) > 1 and without_p2p:
        raise _BadValueError(
            f"vfio: more than one device can only migrate if all have p2p; without it: {listed(without_p2p)}"
        )


def _watchdog(entry: WatchdogEntry) -> Watchdog:
    for name, seconds in (("warn_after", entry.warn_after), ("give_up_after", entry.give_up_after)):
        if seconds is not None and not (_is_time(seconds) and seconds > 0):
            raise _BadValueError(f"watchdog.{name}: expected seconds, more than 0, got {seconds}")
    return Watchdog(entry.warn_after, entry.give_up_after)


def _fault_specs(key: str, entry: FaultEntry, devices: Mapping[str, DeviceSpec], watchdog: Watchdog) -> list[FaultSpec]:
    found = [spec for spec in devices.values() if fnmatchcase(spec.id, entry.device)]
    if not found:
        raise _BadValueError(
            f"{key}.device: expected a pattern that a VFIO device's id matches, got {entry.device!r}; "
            f"ids: {listed(list(devices), 'ids', _SHOWN)}"
        )
    if entry.kind == "stall" and entry.seconds is None and watchdog.give_up_after_s is None:
        raise _BadValueError(f"{key}.seconds: expected how long it stalls, unless watchdog.give_up_after ends it")
    specs = [FaultSpec(spec.id, entry) for spec in found]
    for device, spec in zip(found, specs, strict=True):
        _check_fault(key, spec, device.flags)
    return specs


def _check_fault(key: str, spec: FaultSpec, flags: MigrationFlags) -> None:
    try:
        spec.arrange(MockDevice(flags=flags))
    except (ValueError, OverflowError) as error:
        raise _BadValueError(f"{key}: {error}") from error


def _tree_source(tree: TreeEntry, path: Path) -> TreeSource:
    if (tree.qtree is None) == (not tree.devices):
        raise _BadValueError("tree: expected either `qtree`, the path of a file, or `devices`, written out")
    if tree.qtree is None:
        return TreeSource(None, tree.devices)
    file = path.parent / tree.qtree
    try:
        return TreeSource(read_input(file), ())
    except (OSError, ValueError) as error:
        raise _BadValueError(
            f"tree.qtree: expected a file with what the monitor prints for `info qtree`, "
            f"{file} cannot be read ({reason(error)})"
        ) from error


def _matches(tree: DeviceTree, key: str, pattern: str, named: Mapping[str, list[Device]] | None = None) -> list[Device]:
    found = tree.find(pattern) if named is None or _WILD.search(pattern) else named.get(pattern) or tree.find(pattern)
    if not found:
        names = in_order({device.name for device in tree if device.name})
        raise _BadValueError(
            f"{key}: expected a pattern that an id in the tree matches (or a device's host, sysfsdev, fd, place or "
            f"type), got {pattern!r}; ids: {listed(names, 'ids', _SHOWN) or 'none'}"
        )
    twice = [name for name, times in Counter(map(_name, found)).items() if times > 1]
    if twice:
        raise _BadValueError(f"{key}: more than one device has the id {in_order(twice)[0]!r}")
    return found


def _name(device: Device) -> str:
    """Give what a device is called in a scenario: its id, what VFIO calls it, or its place."""
    return device.name or device.place


def _device_spec(key: str, group: VFIOEntry, device: str, place: int, depth: int, seed: int) -> DeviceSpec:
    flags = MigrationFlags.STOP_COPY
    flags |= MigrationFlags.P2P if group.p2p else flags
    flags |= MigrationFlags.PRE_COPY if group.precopy else flags
    for name, rate in (("rate", group.rate), ("write_rate", group.write_rate)):
        if rate is not None and not (rate > 0 and math.isfinite(rate)):
            raise _BadValueError(f"{key}.{name}: expected bytes per second, more than 0, got {rate}")
    _check_seconds(f"{key}.config_load", group.config_load)
    for name in ("state_size", "precopy_size", "initial_size"):
        size = getattr(group, name)
        if not 0 <= size <= _LARGEST:
            raise _BadValueError(f"{key}.{name}: expected bytes, 0 or more and at most 4 TiB, got {size}")
    if any(not 0 <= size <= _LARGEST for size in group.precopy_dirty):
        raise _BadValueError(f"{key}.precopy_dirty: expected bytes, 0 or more, got {group.precopy_dirty}")
    sizes = (group.state_size, max(group.precopy_size, group.initial_size), *group.precopy_dirty)
    for rate in (group.rate, group.write_rate):
        if rate is not None and not _is_time(_quotient(sum(sizes), rate)):
            raise _BadValueError(f"{key}.state_size: expected a size that can be sent at this rate in a finite time")
    table = _resolved(f"{key}.latency", group.latency, flags)
    varying = {arc: each for arc, each in table.items() if not isinstance(each, float)}
    plain = {arc: each if isinstance(each, float) else each.mean for arc, each in table.items()}
    return DeviceSpec(device, place, depth, seed, flags, plain, group, varying)


def latencies(
    key: str, table: Mapping[str, Any], flags: MigrationFlags
) -> dict[tuple[DeviceState, DeviceState], float]:
    """
    Resolve `A -> B` before `B` before `default`, for every arc that the device has; seconds, of what varies the mean.

    Raises:
        ValueError: there is no such arc, or a time makes no sense; the message begins with the key.

    """
    return {arc: each if isinstance(each, float) else each.mean for arc, each in _resolved(key, table, flags).items()}


def _resolved(
    key: str, table: Mapping[str, Any], flags: MigrationFlags
) -> dict[tuple[DeviceState, DeviceState], float | Distribution]:
    """
    Resolve as above, with what varies as it is.

    Raises:
        ValueError: there is no such arc, or a time makes no sense; the message begins with the key.

    """
    arcs = [(current, target) for current in DeviceState for target in DeviceState if is_arc(current, target, flags)]
    known = {"default", *(target.name for _, target in arcs), *(arc_name(a, b) for a, b in arcs)}
    for name in table:
        if name not in known:
            raise _BadValueError(
                f"{key}.{name!r}: expected 'default', a state, or an arc of this device such as "
                f"'{arc_name(*arcs[0])}'; states: "
                f"{', '.join(dict.fromkeys(b.name for _, b in arcs))}"
            )
    read = {name: _time(f"{key}.{name!r}", seconds) for name, seconds in table.items()}
    default = read.get("default", 0.0)
    return {(a, b): read.get(arc_name(a, b), read.get(b.name, default)) for a, b in arcs}


def _time(key: str, value: object) -> float | Distribution:
    """Read a time, which may vary."""
    if not isinstance(value, Mapping):
        return _check_seconds(key, value)
    try:
        return distribution(value)
    except ValueError as error:
        raise _BadValueError(f"{key}: {error}") from None


def _handler_specs(key: str, handler: HandlerEntry, tree: DeviceTree, places: dict[int, int]) -> list[HandlerSpec]:
    if sum(each is not None for each in (handler.devices, handler.types, handler.priority)) != 1:
        raise _BadValueError(
            f"{key}: expected exactly one of `devices` (a pattern of ids), `types` (a pattern of types) "
            "and `priority` (a plain one)"
        )
    times = {
        "stop_s": handler.stop,
        "start_s": handler.start,
        "prepare_stop_s": handler.prepare_stop,
        "prepare_start_s": handler.prepare_start,
    }
    for name, seconds in times.items():
        _check_seconds(f"{key}.{name.removesuffix('_s')}", seconds)
    if handler.priority is not None:
        if depth_of_priority(handler.priority) is not None:
            raise _BadValueError(
                f"{key}.priority: expected a plain priority, near 0; {handler.priority} is one of devices: "
                "give `devices` or `types`, and the handler gets the depth of the device"
            )
        name = handler.name or f"priority {handler.priority}"
        return [HandlerSpec(name, PLAIN, None, handler.priority, **times)]
    if handler.devices is not None:
        found = _matches(tree, f"{key}.devices", handler.devices)
    else:
        found = tree.match_type(handler.types or "")
        if not found:
            types = listed(sorted({device.type for device in tree if device.type}), "types", _SHOWN)
            raise _BadValueError(
                f"{key}.types: expected a pattern that a type in the tree matches, got {handler.types!r}; "
                f"types: {types}"
            )
    return [
        HandlerSpec(handler.name or device.name or device.type, device.depth, places[id(device)], 0, **times)
        for device in found
    ]


def _check_seconds(key: str, seconds: object) -> float:
    if not (isinstance(seconds, int | float) and not isinstance(seconds, bool) and _is_time(seconds)):
        raise _BadValueError(f"{key}: expected seconds, a number, 0 or more{_most(seconds)}, got {seconds!r}")
    return float(seconds)


def _most(seconds: object) -> str:
    """Say how long a time may be, to whoever gave one that is longer."""
    too_long = isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > _LONGEST_S
    return f" and at most {_LONGEST_S:.0e}" if too_long else ""


def _quotient(size: int, rate: float) -> float:
    try:
        return size / rate
    except OverflowError:
        return math.inf


def _is_time(seconds: float) -> bool:
    try:
        return 0 <= seconds <= _LONGEST_S
    except OverflowError:
        return False
